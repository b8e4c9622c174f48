"""People in COCO layout, augmented into batches of equal canvases.

Polygons are drawn once, on a grid over their own box, so that scaling, cropping and flipping an
image move numbers and never masks.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import msgspec
import numpy as np
import torch
from torch import Tensor

from streamvis.errors import DataError
from streamvis.messages import Array

GRID = 64  # cells a side of an instance's mask, over its whole box


class Instance(NamedTuple):
    """One annotated person."""

    box: tuple[float, float, float, float]  # xyxy pixels
    ignore: bool  # a region that teaches nothing, such as a crowd
    mask: Array | None  # (GRID, GRID) uint8 in {0, 1} over the box, or None when not known


class Picture(NamedTuple):
    """One annotated image."""

    path: Path
    source: str
    instances: list[Instance]


class Targets(NamedTuple):
    """What should be found in one canvas."""

    boxes: Tensor  # (N, 4) visible part, xyxy canvas pixels
    extents: Tensor  # (N, 4) whole box, over which the mask grid lies
    masks: Tensor  # (N, GRID, GRID) in {0, 1}
    has_mask: Tensor  # (N,) bool
    ignored: Tensor  # (M, 4) regions that teach nothing


class Augment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a canvas may stray from its image."""

    canvases: tuple[tuple[int, int], ...] = ((384, 512), (448, 576), (512, 640))  # h, w
    zoom: tuple[float, float] = (0.6, 2.0)  # of the scale at which the image just fills
    flip: float = 0.5
    brightness: float = 0.35
    contrast: float = 0.35
    saturation: float = 0.4
    grey: float = 0.1
    blur: float = 0.1
    compress: float = 0.2
    min_side: float = 6.0  # px; people that became smaller than this are ignored


def read_coco(annotations: Path, images: Path) -> list[Picture]:
    """Read a COCO-layout file; crowds and `iscrowd` become regions to ignore. Errors: DataError."""
    try:
        raw = json.loads(annotations.read_text())
        by_image: dict[int, list[Instance]] = {image["id"]: [] for image in raw["images"]}
        for row in raw["annotations"]:
            by_image[row["image_id"]].append(_instance(row))
        return [
            Picture(images / i["file_name"], str(i.get("source", "")), by_image[i["id"]])
            for i in raw["images"]
        ]
    except OSError as error:
        raise DataError(f"{annotations}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{annotations} is not in COCO layout: {error!r}. Expected images[id, file_name] and "
            "annotations[image_id, bbox, iscrowd, segmentation]."
        ) from None


def _instance(row: dict[str, Any]) -> Instance:
    x, y, w, h = (float(v) for v in row["bbox"])
    if not (w > 0 and h > 0 and np.isfinite([x, y, w, h]).all()):
        raise ValueError(f"annotation {row.get('id')} has bbox {row['bbox']}")
    ignore = bool(row.get("iscrowd"))
    parts = row.get("segmentation")
    mask = None
    if isinstance(parts, list) and parts and not ignore:
        mask = np.zeros((GRID, GRID), np.uint8)
        for part in parts:
            points = (np.array(part, float).reshape(-1, 2) - (x, y)) / (w, h) * GRID
            fixed = np.round((points - 0.5) * 16).astype(np.int32)  # 4 fractional bits
            cv2.fillPoly(mask, [fixed], 1, shift=4)
    return Instance((x, y, x + w, y + h), ignore, mask)


def batches(
    pictures: list[Picture], augment: Augment, batch: int, seed: int, start: int
) -> Iterator[tuple[Tensor, list[Targets]]]:
    """Endless batches from step `start` on: canvases (B, 3, H, W) uint8 RGB and their targets.

    Each step draws from its own generator, so a resumed training sees what it would have seen.
    """
    per_epoch = max(len(pictures) // batch, 1)
    step = start
    while True:
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng((seed, epoch)).permutation(len(pictures))
        chosen = [pictures[order[(place * batch + i) % len(order)]] for i in range(batch)]
        rng = np.random.default_rng((seed, epoch, step))
        canvas = augment.canvases[rng.integers(len(augment.canvases))]
        pairs = [compose(picture, canvas, augment, rng) for picture in chosen]
        images = np.stack([image for image, _ in pairs])
        yield torch.from_numpy(images).permute(0, 3, 1, 2), [target for _, target in pairs]
        step += 1


def compose(
    picture: Picture, canvas: tuple[int, int], augment: Augment, rng: np.random.Generator
) -> tuple[Array, Targets]:
    """Place one picture on a canvas (H, W, 3) at random scale and offset."""
    image = cv2.imread(str(picture.path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise DataError(f"{picture.path} is not an image that can be read")
    height, width = canvas
    fill = min(height / image.shape[0], width / image.shape[1])
    scale = fill * np.exp(rng.uniform(*np.log(augment.zoom)))
    low = np.minimum((width, height) - scale * np.array(image.shape[1::-1]), 0)
    high = np.maximum((width, height) - scale * np.array(image.shape[1::-1]), 0)
    offset = rng.uniform(low, high)  # (2,) of the image's corner on the canvas
    M = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    flags = cv2.INTER_AREA if scale < 0.7 else cv2.INTER_LINEAR
    if scale < 0.7:  # warping down aliases: shrink first
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=flags)
        M[0, 0] = M[1, 1] = 1
    M[:, 2] += (M[0, 0] - 1) / 2  # OpenCV counts from pixel centres, boxes from corners
    out = cv2.warpAffine(image, M, (width, height), borderValue=(124, 116, 104))
    flipped = rng.random() < augment.flip
    if flipped:
        out = np.ascontiguousarray(out[:, ::-1])
    boxes = [_place(i.box, scale, offset, width if flipped else None) for i in picture.instances]
    return distort(out, augment, rng), _targets(picture, boxes, canvas, flipped, augment)


def _place(
    box: tuple[float, ...], scale: float, offset: Array, mirror: int | None
) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = np.array(box) * scale + np.tile(offset, 2)
    return (x1, y1, x2, y2) if mirror is None else (mirror - x2, y1, mirror - x1, y2)


def _targets(
    picture: Picture,
    extents: list[tuple[float, float, float, float]],
    canvas: tuple[int, int],
    flipped: bool,
    augment: Augment,
) -> Targets:
    limit = np.array([canvas[1], canvas[0]] * 2)
    kept: list[tuple[Array, Array, Array | None]] = []
    ignored: list[Array] = []
    for extent, instance in zip(np.array(extents).reshape(-1, 4), picture.instances, strict=True):
        box = np.clip(extent, 0, limit)
        side = min(box[2] - box[0], box[3] - box[1])
        if side <= 0:
            continue
        share = np.prod(box[2:] - box[:2]) / np.prod(extent[2:] - extent[:2])
        if instance.ignore or share < 0.25 or side < augment.min_side:
            ignored.append(box)
        else:
            kept.append((box, extent, instance.mask))
    empty = np.zeros((GRID, GRID), np.uint8)
    masks = [empty if m is None else m[:, ::-1] if flipped else m for _, _, m in kept]
    return Targets(
        boxes=_rows([box for box, _, _ in kept]),
        extents=_rows([extent for _, extent, _ in kept]),
        masks=torch.from_numpy(np.array(masks, np.float32).reshape(-1, GRID, GRID)),
        has_mask=torch.tensor([m is not None for _, _, m in kept], dtype=torch.bool),
        ignored=_rows(ignored),
    )


def _rows(boxes: list[Array]) -> Tensor:
    return torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4))


def distort(image: Array, augment: Augment, rng: np.random.Generator) -> Array:
    """Change light, colour and sharpness of (H, W, 3) uint8, not geometry."""
    x = image.astype(np.float32)
    if rng.random() < augment.grey:
        x[:] = x.mean(2, keepdims=True)
    mean = x.mean(2, keepdims=True)
    x = mean + (x - mean) * rng.uniform(1 - augment.saturation, 1 + augment.saturation)
    contrast = rng.uniform(1 - augment.contrast, 1 + augment.contrast)
    x = (x - x.mean()) * contrast + x.mean() * rng.uniform(
        1 - augment.brightness, 1 + augment.brightness
    )
    out = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < augment.blur:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.5, 1.5))
    if rng.random() < augment.compress:
        quality = int(rng.integers(25, 80))
        _, data = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])
        out = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return out
