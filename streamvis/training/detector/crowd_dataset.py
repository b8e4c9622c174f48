"""Batches of augmented canvases with annotated people, for a detector to train on.

Polygons are rasterised once, on a grid over their own box, so that scaling, cropping and flipping
an image changes coordinates only, never masks.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import cv2
import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from streamvis.datasets.coco import ImageTruth, read_coco
from streamvis.datasets.pictures import read_picture
from streamvis.messages import Array
from streamvis.training.color_jitter import jitter, maybe_blur, maybe_compress, to_bytes
from streamvis.training.losses.detection import Targets
from streamvis.training.recipes import Amount, Share, Span, check_span

TALL_ENOUGH = 60  # px, least height of people who are pasted into other images
MOST_PASTED = 4  # people pasted into one image
GRID = 64  # cells a side of an instance's mask, over its whole box
Side = Annotated[int, Meta(ge=64, le=4096)]  # px
Canvases = Annotated[tuple[tuple[Side, Side], ...], Meta(min_length=1)]  # heights, widths


class Instance(NamedTuple):
    """One annotated person."""

    box: tuple[float, ...]  # xyxy pixels
    ignore: bool  # a region that gives neither positives nor negatives, such as a crowd
    mask: Array | None  # (GRID, GRID) uint8 in {0, 1} over the box, or None when not known


class AnnotatedImage(NamedTuple):
    """One annotated image."""

    path: Path
    source: str
    instances: list[Instance]
    size: tuple[int, int]  # width, height in px


class CanvasAugment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a canvas may differ from its image."""

    canvases: Canvases = ((384, 512), (448, 576), (512, 640))
    zoom: Span = (0.6, 2.0)  # of the scale at which the image just fills
    flip: Share = 0.5
    brightness: Share = 0.35
    contrast: Share = 0.35
    saturation: Share = 0.4
    grey: Share = 0.1
    blur: Share = 0.1
    compress: Share = 0.2
    dark: Share = 0.1  # chance of a dark image with noise
    paste: Share = 0.0  # chance of a person from another image in front, and of one more
    cover: Share = 0.0  # chance of a piece of another image in front of a person
    mosaic: Share = 0.0  # chance of four images on one canvas
    min_side: Amount = 6.0  # px; smaller people are ignored

    def __post_init__(self) -> None:
        check_span("zoom", self.zoom)

    def reduced(self) -> "CanvasAugment":
        """Return the augmentation of the last steps, closer to real images (YOLOX, §2.1)."""
        return msgspec.structs.replace(self, mosaic=0.0, cover=0.0, paste=self.paste / 2)


def read_people(folder: Path) -> list[AnnotatedImage]:
    """Return the people of `annotations.json`, their images in `images/`; DataError."""
    return [
        AnnotatedImage(folder / "images" / one.name, one.source, _instances(one), one.size)
        for one in read_coco(folder / "annotations.json")
    ]


def _instances(truth: ImageTruth) -> list[Instance]:
    ignored = truth.crowd | truth.ignore
    return [
        Instance(tuple(box.tolist()), bool(ignore), None if ignore else _drawn(polygons, box))
        for box, ignore, polygons in zip(truth.boxes, ignored, truth.masks, strict=True)
    ]


def _drawn(polygons: Any, box: Array) -> Array | None:
    """Polygons [[x, y, x, y, …], …] on the grid (GRID, GRID) over a box; None without any."""
    if not isinstance(polygons, list):  # absent, or run lengths, which are not used here
        return None
    mask = np.zeros((GRID, GRID), np.uint8)
    for polygon in polygons:
        points = (np.array(polygon, float).reshape(-1, 2) - box[:2]) / (box[2:] - box[:2]) * GRID
        fixed = np.round((points - 0.5) * 16).astype(np.int32)  # 4 fractional bits
        cv2.fillPoly(mask, [fixed], 1, shift=4)
    return mask


def batches(
    pictures: list[AnnotatedImage], augment: CanvasAugment, batch: int, seed: int, start: int
) -> Iterator[tuple[Tensor, list[Targets]]]:
    """Yield batches from step `start` on: canvases (B, 3, H, W) uint8 RGB and their targets.

    Each step draws from a generator of its own, so a resumed training gets the same batches.
    """
    per_epoch = max(len(pictures) // batch, 1)
    donors = [picture for picture in pictures if any(map(can_be_pasted, picture.instances))]
    step = start
    while True:
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng((seed, epoch)).permutation(len(pictures))
        chosen = [pictures[order[(place * batch + i) % len(order)]] for i in range(batch)]
        rng = np.random.default_rng((seed, epoch, step))
        canvas = augment.canvases[rng.integers(len(augment.canvases))]
        pairs = []
        for picture in chosen:
            if rng.random() < augment.mosaic:
                others = [pictures[i] for i in rng.integers(len(pictures), size=3)]
                pairs.append(mosaic([picture, *others], canvas, augment, rng, donors))
            else:
                pairs.append(compose(picture, canvas, augment, rng, donors))
        images = np.stack([image for image, _ in pairs])
        yield torch.from_numpy(images).permute(0, 3, 1, 2), [target for _, target in pairs]
        step += 1


def compose(
    picture: AnnotatedImage,
    canvas: tuple[int, int],
    augment: CanvasAugment,
    rng: np.random.Generator,
    donors: Sequence[AnnotatedImage] = (),
) -> tuple[Array, Targets]:
    """Place one image on a canvas (H, W, 3), perhaps with parts of other images in front."""
    image, people = place(picture, canvas, augment, rng)
    for _ in range(MOST_PASTED):
        if not donors or rng.random() >= augment.paste:
            break
        donor = donors[int(rng.integers(len(donors)))]
        able = [person for person in donor.instances if can_be_pasted(person)]
        chosen = able[int(rng.integers(len(able)))]
        other = read_picture(donor.path, donor.size)
        image, people = paste(image, people, other, chosen, rng)
    if donors and rng.random() < augment.cover:
        donor = donors[int(rng.integers(len(donors)))]
        image, people = cover(
            image, people, read_picture(donor.path, donor.size), donor.instances, rng
        )
    return distort(image, augment, rng), _targets(people, canvas, augment)


def mosaic(
    pictures: Sequence[AnnotatedImage],  # four
    canvas: tuple[int, int],
    augment: CanvasAugment,
    rng: np.random.Generator,
    donors: Sequence[AnnotatedImage] = (),
) -> tuple[Array, Targets]:
    """Place four images around a point near the centre (Bochkovskiy et al. 2020, §3.3)."""
    y, x = (round(side * rng.uniform(0.35, 0.65)) for side in canvas)
    image = np.empty((*canvas, 3), np.uint8)
    parts = []
    for index, picture in enumerate(pictures):
        rows = slice(0, y) if index < 2 else slice(y, canvas[0])
        columns = slice(0, x) if index % 2 == 0 else slice(x, canvas[1])
        size = (rows.stop - rows.start, columns.stop - columns.start)
        image[rows, columns], part = compose(picture, size, augment, rng, donors)
        shift = torch.tensor([columns.start, rows.start] * 2)
        parts.append(
            part._replace(
                boxes=part.boxes + shift,
                extents=part.extents + shift,
                ignored=part.ignored + shift,
            )
        )
    return image, Targets(*(torch.cat(same) for same in zip(*parts, strict=True)))


def place(
    picture: AnnotatedImage,
    canvas: tuple[int, int],
    augment: CanvasAugment,
    rng: np.random.Generator,
) -> tuple[Array, list[Instance]]:
    """Scale, shift and perhaps mirror an image and its people onto a canvas."""
    image = read_picture(picture.path, picture.size)
    height, width = canvas
    fill = min(height / image.shape[0], width / image.shape[1])
    scale = fill * np.exp(rng.uniform(*np.log(augment.zoom)))
    slack = (width, height) - scale * np.array(image.shape[1::-1])
    offset = rng.uniform(np.minimum(slack, 0), np.maximum(slack, 0))  # (2,) of its corner
    M = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    if scale < 0.7:  # warping down aliases: shrink first
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        M[0, 0] = M[1, 1] = 1
    M[:, 2] += (M[0, 0] - 1) / 2  # OpenCV counts from pixel centres, boxes from corners
    out = cv2.warpAffine(image, M, (width, height), borderValue=(124, 116, 104))
    people = [
        instance._replace(box=tuple((np.array(instance.box) * scale + np.tile(offset, 2)).tolist()))
        for instance in picture.instances
    ]
    if rng.random() < augment.flip:
        return np.ascontiguousarray(out[:, ::-1]), [_mirrored(one, width) for one in people]
    return out, people


def _mirrored(person: Instance, width: float) -> Instance:
    x1, y1, x2, y2 = person.box
    mask = None if person.mask is None else person.mask[:, ::-1]
    return Instance((width - x2, y1, width - x1, y2), person.ignore, mask)


def can_be_pasted(person: Instance) -> bool:
    """Tell whether a person has a mask and is tall enough to be pasted into other images."""
    return person.mask is not None and person.box[3] - person.box[1] >= TALL_ENOUGH


def paste(
    image: Array, people: list[Instance], source: Array, person: Instance, rng: np.random.Generator
) -> tuple[Array, list[Instance]]:
    """Paste a person of another image beside or in front of one, at about the same size.

    People behind keep their whole box and lose the hidden part of their mask; those who are almost
    completely hidden become regions to ignore.
    """
    beside = [
        one for one in people if not one.ignore and one.box[3] - one.box[1] >= TALL_ENOUGH / 2
    ]
    if not beside or person.mask is None:
        return image, people
    x1, y1, x2, y2 = beside[int(rng.integers(len(beside)))].box
    left, top, right, bottom = (round(v) for v in person.box)
    height = (y2 - y1) * rng.uniform(0.8, 1.3)
    width = height * (right - left) / max(bottom - top, 1)
    if height > 2 * (bottom - top):  # enlarged people are blurred
        return image, people
    x = (x1 + x2) / 2 + rng.uniform(-0.9, 0.9) * max(width, x2 - x1) - width / 2
    y = y2 + rng.uniform(-0.02, 0.15) * height - height
    cut = source[max(top, 0) : bottom, max(left, 0) : right]
    own = Instance((x, y, x + width, y + height), False, person.mask)
    if rng.random() < 0.5:
        own = own._replace(mask=person.mask[:, ::-1])
        cut = cut[:, ::-1]
    painted = _painted(image, cut, own)
    return painted, [*(_behind(one, own) for one in people), own]


def cover(
    image: Array,
    people: list[Instance],
    source: Array,
    others: list[Instance],
    rng: np.random.Generator,
) -> tuple[Array, list[Instance]]:
    """Paste a piece of another image in front of a person, as an occlusion.

    A piece with people in it is not used, since they would have no annotation.
    """
    able = [one for one in people if not one.ignore]
    if not able:
        return image, people
    x1, y1, x2, y2 = able[int(rng.integers(len(able)))].box
    width, height = (x2 - x1) * rng.uniform(0.2, 0.7), (y2 - y1) * rng.uniform(0.2, 1.2)
    x, y = rng.uniform(x1, x2) - width / 2, rng.uniform(y1, y2) - height / 2
    front = Instance((x, y, x + width, y + height), True, np.ones((GRID, GRID), np.uint8))
    cut = np.array([rng.uniform(0.05, 0.3), rng.uniform(0.05, 0.5)]) * source.shape[1::-1]
    left, top = (rng.uniform(0, source.shape[1::-1] - cut)).astype(int)
    right, bottom = left + int(cut[0]) + 1, top + int(cut[1]) + 1
    for one in others:
        if one.box[0] < right and one.box[2] > left and one.box[1] < bottom and one.box[3] > top:
            return image, people
    painted = _painted(image, source[top:bottom, left:right], front)
    return painted, [_behind(one, front) for one in people]


def _painted(image: Array, cut: Array, person: Instance) -> Array:
    """Draw a cut-out over a person's box through the person's mask."""
    assert person.mask is not None
    x1, y1, x2, y2 = person.box
    size = image.shape[1::-1]
    across, down = (x2 - x1) / cut.shape[1], (y2 - y1) / cut.shape[0]
    M = np.array([[across, 0, x1 + (across - 1) / 2], [0, down, y1 + (down - 1) / 2]])
    colours = cv2.warpAffine(np.ascontiguousarray(cut), M, size, borderMode=cv2.BORDER_REPLICATE)
    across, down = (x2 - x1) / GRID, (y2 - y1) / GRID
    M = np.array([[across, 0, x1 + (across - 1) / 2], [0, down, y1 + (down - 1) / 2]])
    alpha = cv2.warpAffine(person.mask.astype(np.float32), M, size)[..., None]
    return np.asarray(alpha * colours + (1 - alpha) * image).astype(np.uint8)


def _behind(person: Instance, front: Instance) -> Instance:
    """Return a person without the part that another one in front hides."""
    assert front.mask is not None
    steps = (np.arange(GRID) + 0.5) / GRID
    (x1, y1, x2, y2), (fx1, fy1, fx2, fy2) = person.box, front.box
    u = np.floor((x1 + steps * (x2 - x1) - fx1) / (fx2 - fx1) * GRID).astype(int)
    v = np.floor((y1 + steps * (y2 - y1) - fy1) / (fy2 - fy1) * GRID).astype(int)
    over = ((v >= 0) & (v < GRID))[:, None] & ((u >= 0) & (u < GRID))[None]
    hidden = over & (front.mask[np.ix_(v.clip(0, GRID - 1), u.clip(0, GRID - 1))] > 0)
    if person.mask is None:
        return person._replace(ignore=person.ignore or bool(hidden.mean() > 0.6))
    left = np.where(hidden, 0, person.mask)
    gone = left.sum() < 0.2 * max(person.mask.sum(), 1)
    return Instance(person.box, person.ignore or gone, left)


def _targets(people: list[Instance], canvas: tuple[int, int], augment: CanvasAugment) -> Targets:
    limit = np.array([canvas[1], canvas[0]] * 2)
    kept: list[tuple[Array, Array, Array | None]] = []
    ignored: list[Array] = []
    for person in people:
        extent = np.array(person.box)
        box = np.clip(extent, 0, limit)
        side = min(box[2] - box[0], box[3] - box[1])
        if side <= 0:
            continue
        share = np.prod(box[2:] - box[:2]) / np.prod(extent[2:] - extent[:2])
        if person.ignore or share < 0.25 or side < augment.min_side:
            ignored.append(box)
        else:
            kept.append((box, extent, person.mask))
    empty = np.zeros((GRID, GRID), np.uint8)
    masks = [empty if mask is None else mask for _, _, mask in kept]
    return Targets(
        boxes=_rows([box for box, _, _ in kept]),
        extents=_rows([extent for _, extent, _ in kept]),
        masks=torch.from_numpy(np.array(masks, np.float32).reshape(-1, GRID, GRID)),
        has_mask=torch.tensor([mask is not None for _, _, mask in kept], dtype=torch.bool),
        ignored=_rows(ignored),
    )


def _rows(boxes: list[Array]) -> Tensor:
    return torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4))


def distort(image: Array, augment: CanvasAugment, rng: np.random.Generator) -> Array:
    """Change light, colour and sharpness of (H, W, 3) uint8, not geometry."""
    x = jitter(
        image.astype(np.float32),
        rng,
        saturation=augment.saturation,
        contrast=augment.contrast,
        brightness=augment.brightness,
        grey=augment.grey,
    )
    if rng.random() < augment.dark:
        x = x * rng.uniform(0.3, 0.6) + rng.normal(0, rng.uniform(2, 10), x.shape)
    out = maybe_blur(to_bytes(x), augment.blur, rng)
    return maybe_compress(out, augment.compress, (25, 80), rng)
