"""Keypoints of people with their places in metres, along tracks, to learn lifting from.

A person of whom most points are sure has a 3D pose to learn; others show only where their points
are in the picture. A batch has some of both.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from streamvis.datasets.coco import check_distinct
from streamvis.datasets.keypoints import FLIPPED
from streamvis.errors import DataError
from streamvis.messages import KEYPOINTS, Array
from streamvis.models.pose_lifting import LifterConfig, normalised
from streamvis.parsing import read_text
from streamvis.training.recipes import Amount, Share, Span, check_span

Points = Annotated[int, Meta(ge=0, le=KEYPOINTS)]
LOWER_BODY = slice(11, 17)
LIMBS = ((5, 7, 9), (6, 8, 10), (11, 13, 15), (12, 14, 16), (0, 1, 2, 3, 4))


class _LabelledImage(msgspec.Struct):
    id: int
    source: str = ""
    media_us: int = 0


class _LabelledPerson(msgspec.Struct):
    image_id: int
    keypoints: list[float] = []
    point_scores: list[float] = []
    world: list[float] = []
    presence: float = 1.0
    track: int | None = None


class _LabelFile(msgspec.Struct):
    images: list[_LabelledImage]
    annotations: list[_LabelledPerson]


@dataclass(frozen=True)
class LiftRows:
    """N people in pictures, and for each the rows of its track that it is lifted with."""

    points: Array  # (N, 17, 2) float32 pixels
    scores: Array  # (N, 17) float32, 0 where a point is not known
    world: Array  # (N, 17, 3) float32 metres about the middle of the hips
    solid: Array  # (N,) bool, whether `world` is to be learnt
    sources: Array  # (N,) str
    windows: Array  # (N, T) int rows, the last is the row itself; 1 / rate_hz apart

    def __len__(self) -> int:
        return len(self.points)

    def samples(self, rows: Array) -> Array:
        """Return normalised samples (B, T, 17, 3) of rows (B,)."""
        at = self.windows[rows]
        return normalised(self.points[at], self.scores[at])


class Trust(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of whom a pose is learnt: what the labels say of them."""

    presence: Share = 0.9  # least probability of a person
    whole: Points = 13  # least number of sure points of a person whose 3D pose is learnt
    part: Points = 6  # least number of sure points of one who is learnt from without it


def read_rows(folders: Sequence[Path], architecture: LifterConfig, trust: Trust) -> LiftRows:
    """Read labelled people of COCO folders, as `label-poses` writes them; DataError."""
    found: dict[str, list[Any]] = defaultdict(list)
    for folder in folders:
        path = folder / "annotations.json"
        try:
            labels = msgspec.json.decode(read_text(path, DataError), type=_LabelFile)
        except (msgspec.DecodeError, RecursionError) as error:
            raise DataError(
                f"{path}: {error}; expected keypoints in COCO layout, as streamvis label-poses "
                "writes them"
            ) from None
        check_distinct([image.id for image in labels.images], path)
        images = {image.id: image for image in labels.images}
        for i, person in enumerate(labels.annotations):
            image = images.get(person.image_id)
            if image is None:
                raise DataError(f"{path}: annotations[{i}]: image_id is none of the images")
            _check(person, f"{path}: annotations[{i}]")
            _add(found, person, image, folder, trust)
    if not any(found["solid"]):
        raise DataError(
            f"{', '.join(map(str, folders))}: nobody has {trust.whole} sure keypoints and `world`; "
            "label people with: streamvis label-poses"
        )
    columns = {name: np.array(values) for name, values in found.items()}
    keys, times = columns.pop("keys"), columns.pop("times")
    windows = _windows(keys, times, architecture)
    return LiftRows(**columns, windows=windows)


def _check(person: _LabelledPerson, where: str) -> None:
    """Raise DataError unless each list is empty or as long as it has to be."""
    for name, per_point in (("keypoints", 3), ("point_scores", 1), ("world", 3)):
        count, expected = len(getattr(person, name)), per_point * KEYPOINTS
        if count not in (0, expected):
            raise DataError(
                f"{where}: `{name}` has {count} numbers, expected {expected}, of "
                f"{KEYPOINTS} points, or none"
            )


def _add(
    found: dict[str, list[Any]],
    person: _LabelledPerson,
    image: _LabelledImage,
    folder: Path,
    trust: Trust,
) -> None:
    """Append the columns of a person, if enough is known of it."""
    known = np.array(person.keypoints, np.float32).reshape(-1, 3)
    sure = known[:, 2] > 0
    if sure.sum() < trust.part or person.presence < trust.presence:
        return
    there = bool(person.world)
    said = np.array(person.point_scores, np.float32) if person.point_scores else np.ones(KEYPOINTS)
    source = image.source or folder.resolve().name
    found["points"].append(known[:, :2])
    found["scores"].append(np.where(sure, said, 0).astype(np.float32))
    world = person.world if there else np.zeros(3 * KEYPOINTS)
    found["world"].append(np.array(world, np.float32).reshape(KEYPOINTS, 3))
    found["solid"].append(there and sure.sum() >= trust.whole)
    found["sources"].append(source)
    alone = f"picture {len(found['keys'])}"
    track = alone if person.track is None else f"{folder}: {person.track}"
    found["keys"].append(track)
    found["times"].append(image.media_us / 1e6)


def _windows(keys: Array, times: Array, architecture: LifterConfig) -> Array:
    """Return for each row the nearest rows of its track at the earlier times (N, T)."""
    windows = np.empty((len(keys), architecture.frames), np.int64)
    ago = np.arange(architecture.frames - 1, -1, -1) / architecture.rate_hz
    _, which = np.unique(keys, return_inverse=True)
    order = np.lexsort([times, which])
    for rows in np.split(order, np.flatnonzero(np.diff(which[order])) + 1):
        wanted = times[rows][:, None] - ago  # (R, T)
        nearest = np.abs(wanted[:, :, None] - times[rows]).argmin(axis=2)
        windows[rows] = rows[nearest]
    return windows


class LiftBatch(NamedTuple):
    """B samples; the first rows have a pose to learn, the others none."""

    x: Tensor  # (B, T, 17, 3) normalised keypoints
    world: Tensor  # (B, 17, 3) metres, zeros where there is none
    solid: Tensor  # (B,) bool


class LiftAugment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How samples are changed: standard deviations and probabilities."""

    turned: Share = 0.5  # share that is seen by another camera
    pitch_deg: Amount = 20.0
    roll_deg: Amount = 3.0
    distance_m: Span = (2.5, 25.0)
    noise: Amount = 0.04  # of a point, in spreads of the person
    limb: Share = 0.15  # probability that a limb or the face is not seen
    lower_body: Share = 0.1
    slower: Share = 0.3  # of samples, at half of the rate

    def __post_init__(self) -> None:
        check_span("distance_m", self.distance_m)


def batches(
    rows: LiftRows,
    train: Array,  # (M,) rows to learn from
    sizes: tuple[int, int],  # samples with and without a pose
    augment: LiftAugment,
    seed: int,
) -> Callable[[int], Iterator[LiftBatch]]:
    """Return a function that yields batches from a step on, each a function of seed and step."""
    solid, flat = train[rows.solid[train]], train[~rows.solid[train]]
    balanced = _weights(rows.sources[solid])

    def data(start: int) -> Iterator[LiftBatch]:
        for step in count(start):
            rng = np.random.default_rng([seed, step])
            chosen = rng.choice(solid, sizes[0], p=balanced)
            if len(flat) and sizes[1]:
                chosen = np.concatenate([chosen, rng.choice(flat, sizes[1])])
            yield _batch(rows, chosen, augment, rng)

    return data


def _weights(sources: Array) -> Array:
    """Return probabilities of rows with which large sources count by the root of their size."""
    _, which, sizes = np.unique(sources, return_inverse=True, return_counts=True)
    weight = 1 / np.sqrt(sizes[which])
    return np.asarray(weight / weight.sum())


def _batch(
    rows: LiftRows, chosen: Array, augment: LiftAugment, rng: np.random.Generator
) -> LiftBatch:
    at = rows.windows[chosen]  # (B, T)
    points, scores = rows.points[at].copy(), rows.scores[at].copy()
    world, solid = rows.world[at].copy(), rows.solid[chosen]
    turned = rows.solid[at].all(axis=1) & (rng.random(len(chosen)) < augment.turned)
    world[turned] = _turned(world[turned], augment, rng)
    points[turned] = _projected(world[turned], augment, rng)
    mirrored = rng.random(len(chosen)) < 0.5
    points[mirrored] = points[mirrored][:, :, FLIPPED] * [-1, 1]
    world[mirrored] = world[mirrored][:, :, FLIPPED] * [-1, 1, 1]
    scores[mirrored] = scores[mirrored][:, :, FLIPPED]
    _lose(scores, augment, rng)
    slower = rng.random(len(chosen)) < augment.slower
    _halve_rate(points, scores, slower)
    x = normalised(points, scores)
    # half of the noise stays over a window, as errors of a network do
    lasting = rng.normal(size=(len(chosen), 1, KEYPOINTS, 2))
    noise = (lasting + rng.normal(size=x[..., :2].shape)) * augment.noise / np.sqrt(2)
    x[..., :2] += np.where(x[..., 2:] > 0, noise, 0)
    last = np.where(solid[:, None, None], world[:, -1], 0).astype(np.float32)
    return LiftBatch(torch.from_numpy(x), torch.from_numpy(last), torch.from_numpy(solid))


def _turned(world: Array, augment: LiftAugment, rng: np.random.Generator) -> Array:
    """Return poses (B, T, 17, 3) as another camera sees them: about the vertical, then tilted."""
    yaw = rotation(rng.uniform(-np.pi, np.pi, len(world)), 1)
    pitch, roll = (
        np.radians(rng.normal(0, deg, len(world))) for deg in (augment.pitch_deg, augment.roll_deg)
    )
    turn = rotation(roll, 2) @ rotation(pitch, 0) @ yaw
    return np.asarray(np.einsum("bij,btkj->btki", turn, world))


def rotation(angle: Array, axis: int) -> Array:
    """Return rotations (B, 3, 3) by angles (B,) about a coordinate axis."""
    found = np.zeros((len(angle), 3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    found[:, axis, axis] = 1
    found[:, i, i] = found[:, j, j] = np.cos(angle)
    found[:, j, i] = np.sin(angle)
    found[:, i, j] = -found[:, j, i]
    return found


def _projected(world: Array, augment: LiftAugment, rng: np.random.Generator) -> Array:
    """Return places (B, T, 17, 2) of poses in the picture of a camera some metres away."""
    low, high = np.log(augment.distance_m)
    distance = np.exp(rng.uniform(low, high, (len(world), 1, 1)))
    depth = np.maximum(world[..., 2] + distance, 0.3)
    return np.asarray(1000 * world[..., :2] / depth[..., None])


def _lose(scores: Array, augment: LiftAugment, rng: np.random.Generator) -> None:
    """Set the scores of limbs and of lower bodies that nobody sees to 0, over whole windows."""
    for limb in LIMBS:
        lost = rng.random(len(scores)) < augment.limb
        for point in limb:
            scores[lost, :, point] = 0
    scores[rng.random(len(scores)) < augment.lower_body, :, LOWER_BODY] = 0


def _halve_rate(points: Array, scores: Array, slower: Array) -> None:
    """Replace every second sample, as interpolation between samples of half of the rate does."""
    for t in range(1, points.shape[1] - 1, 2):
        points[slower, t] = (points[slower, t - 1] + points[slower, t + 1]) / 2
        scores[slower, t] = np.minimum(scores[slower, t - 1], scores[slower, t + 1])
