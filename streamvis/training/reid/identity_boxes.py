"""Boxes of people with identities, from three kinds of folders.

MOT/            sequences in MOTChallenge's layout: identities of the ground truth
runs/mine       results of `streamvis batch`: identities of the tracker, without annotation
people          COCO layout: every box is an identity of its own, for distillation, and boxes to
                ignore too, since a teacher describes any crop
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from streamvis.datasets import motchallenge
from streamvis.datasets.motchallenge import PEDESTRIAN, Rows
from streamvis.datasets.pictures import read_picture
from streamvis.errors import DataError
from streamvis.messages import Array
from streamvis.sources import open_source, resolve, whole
from streamvis.training.detector.crowd_dataset import read_people

Pictures = Callable[[], Iterator[tuple[int, Array]]]  # frame numbers from 1, pixels (H, W, 3) RGB

LOWEST = 24.0  # px, least height of a person
VISIBLE = 0.4  # least visible share of a person, where the ground truth has it
HIDDEN = 0.5  # largest share of a box that another box covers, in a tracker's results
USUAL_FPS = 25.0
MOST_FPS = 240.0  # a larger rate is taken for broken timestamps


@dataclass(frozen=True)
class IdentityBoxes:
    """The boxes and identities of one video, or of a folder of images."""

    name: str
    pictures: Pictures
    frames: Array  # (N,) int64
    ids: Array  # (N,) int64, from 0 without gaps
    boxes: Array  # (N, 4) float64, xyxy pixels
    certain: bool  # two ids are two people; else only if they occur in one frame

    def __len__(self) -> int:
        return len(self.frames)

    def has_the_same_boxes_as(self, other: "IdentityBoxes") -> bool:
        """Tell whether both are of the same video."""
        return self.name == other.name and all(
            np.array_equal(a, b)
            for a, b in (
                (self.frames, other.frames),
                (self.ids, other.ids),
                (self.boxes, other.boxes),
            )
        )

    def apart(self) -> Array | None:
        """Return the pairs (P, P) bool of ids that are certainly different people.

        None where nobody has two boxes, so that nobody is compared.
        """
        people = int(self.ids.max(initial=-1)) + 1
        if people == len(self.ids):
            return None
        if self.certain:
            return ~np.eye(people, dtype=bool)
        there = np.zeros((people, int(self.frames.max(initial=0)) + 1), np.float32)
        there[self.ids, self.frames] = 1
        return np.asarray((there @ there.T > 0) & ~np.eye(people, dtype=bool))


def read_identity_boxes(folder: Path, every_s: float) -> list[IdentityBoxes]:
    """Read the boxes of a folder, one of each person every `every_s` seconds; DataError if none."""
    if (folder / "annotations.json").exists():
        found = [_coco(folder)]
    elif summaries := sorted({*folder.glob("summary.json"), *folder.glob("*/summary.json")}):
        found = [_tracked(path, every_s) for path in summaries]
    else:
        found = [_labelled(s, every_s) for s in motchallenge.read_sequences(folder) if s.truth]
    filled = [one for one in found if len(one)]
    if not filled:
        raise DataError(
            f"{folder} has no boxes of people to train on; expected MOTChallenge sequences with "
            "gt/gt.txt, results of `streamvis batch`, or annotations.json and images/"
        )
    return filled


def _labelled(sequence: motchallenge.Sequence, every_s: float) -> IdentityBoxes:
    truth = sequence.truth
    assert truth is not None
    plain = (truth.scores > 0) & (truth.classes == PEDESTRIAN) & (truth.visibility >= VISIBLE)
    rows = truth.where(plain)
    step = max(round(every_s * sequence.fps), 1)
    pictures = film(str(sequence.folder))
    return _identity_boxes(sequence.name, pictures, _spaced(rows, step), certain=True)


def _tracked(summary: Path, every_s: float) -> IdentityBoxes:
    """Read the tracks of a result of `streamvis batch`, without boxes that others cover."""
    try:
        video = Path(json.loads(summary.read_text())["sources"][0]["label"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{summary} is not a summary of `streamvis batch`: {error!r}") from None
    if not video.exists():
        raise DataError(f"{summary} names the video {video}, which does not exist")
    tracks = summary.with_name("tracks.txt")
    rows = motchallenge.read_results(tracks, motchallenge.MOST_FRAMES)
    rows = rows.where(_in_view(rows))
    step = max(round(every_s * _rate(video)), 1)
    return _identity_boxes(video.stem, film(str(video)), _spaced(rows, step), certain=False)


def _coco(folder: Path) -> IdentityBoxes:
    pictures = read_people(folder)
    boxes, frames = [], []
    for number, picture in enumerate(pictures, 1):
        for one in picture.instances:
            boxes.append(one.box)
            frames.append(number)

    def pictures_of() -> Iterator[tuple[int, Array]]:
        for number, picture in enumerate(pictures, 1):
            yield number, read_picture(picture.path, picture.size)

    rows = motchallenge.rows(np.array(frames), np.arange(len(frames)), np.array(boxes))
    return _identity_boxes(folder.resolve().name, pictures_of, rows, certain=False)


def film(source: str) -> Pictures:
    """Return an iterator factory for the pictures of a video or a folder."""

    def pictures_of() -> Iterator[tuple[int, Array]]:
        (spec,) = resolve([source])
        opened = open_source(spec)
        try:
            for picture in whole(opened):
                yield picture.n + 1, np.ascontiguousarray(picture.pixels)
        finally:
            opened.close()

    return pictures_of


def _identity_boxes(name: str, pictures: Pictures, rows: Rows, certain: bool) -> IdentityBoxes:
    high = rows.boxes[:, 3] - rows.boxes[:, 1] >= LOWEST
    rows = rows.where(high)
    _, ids = np.unique(rows.ids, return_inverse=True)
    order = np.argsort(rows.frames, kind="stable")
    rows = replace(rows, ids=ids).where(order)
    return IdentityBoxes(name, pictures, rows.frames, rows.ids, rows.boxes, certain)


def _spaced(rows: Rows, step: int) -> Rows:
    """Return the first row of each person in every `step` frames."""
    order = np.argsort(rows.frames, kind="stable")
    turns = np.stack([rows.ids[order], rows.frames[order] // step], 1)
    _, first = np.unique(turns, axis=0, return_index=True)
    return rows.where(order[np.sort(first)])


def _in_view(rows: Rows) -> Array:
    """Return the boxes (N,) bool of which no other box in their frame covers more than half."""
    clear = np.ones(len(rows), bool)
    for frame in np.unique(rows.frames):
        (here,) = np.nonzero(rows.frames == frame)
        boxes = rows.boxes[here]
        low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        shared = np.prod(np.clip(high - low, 0, None), axis=-1)
        np.fill_diagonal(shared, 0)
        own = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        clear[here] = (shared / np.maximum(own[:, None], 1e-9)).max(1) <= HIDDEN
    return clear


def _rate(video: Path) -> float:
    (spec,) = resolve([str(video)])
    source = open_source(spec)
    try:
        fps = source.info.fps
        return fps if 0 < fps <= MOST_FPS else USUAL_FPS
    finally:
        source.close()
