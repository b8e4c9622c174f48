"""Who was seen where: boxes of people with identities, from three kinds of folders.

MOT/            sequences in MOTChallenge's layout: the ground truth's people
runs/mine       what `streamvis batch` wrote: the tracker's people, of videos nobody labelled
people          COCO layout: every box a person of its own, for a teacher to speak of
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from streamvis.datasets import motchallenge
from streamvis.datasets.motchallenge import PEDESTRIAN, Rows
from streamvis.errors import DataError
from streamvis.messages import Array
from streamvis.sources import open_source, resolve
from streamvis.training.detector.crowd_dataset import read_people

Pictures = Callable[[], Iterator[tuple[int, Array]]]  # frame numbers from 1, pixels (H, W, 3) RGB

LOWEST = 24.0  # px; of a person less high, nobody could say who it is
VISIBLE = 0.4  # share of a person, where the ground truth knows
HIDDEN = 0.5  # overlap with another box from which a box may show either of the two
USUAL_FPS = 25.0
MOST_FPS = 240.0  # what says more is a file whose times are broken


@dataclass(frozen=True)
class IdentityBoxes:
    """The people of one video, or of a folder of pictures."""

    name: str
    pictures: Pictures
    frames: Array  # (N,) int64
    ids: Array  # (N,) int64, from 0 without gaps
    boxes: Array  # (N, 4) float64, xyxy pixels
    certain: bool  # two ids are two people; else only if they were seen in one frame

    def __len__(self) -> int:
        return len(self.frames)

    def shows_the_same_as(self, other: "IdentityBoxes") -> bool:
        """Whether both are of one video, given twice."""
        return self.name == other.name and all(
            np.array_equal(a, b)
            for a, b in (
                (self.frames, other.frames),
                (self.ids, other.ids),
                (self.boxes, other.boxes),
            )
        )

    def apart(self) -> Array:
        """(P, P) bool: which of the people are surely not the same."""
        people = int(self.ids.max(initial=-1)) + 1
        if self.certain:
            return ~np.eye(people, dtype=bool)
        there = np.zeros((people, int(self.frames.max(initial=0)) + 1), np.float32)
        there[self.ids, self.frames] = 1
        return np.asarray((there @ there.T > 0) & ~np.eye(people, dtype=bool))


def read(folder: Path, every_s: float) -> list[IdentityBoxes]:
    """All that a folder shows, a look at a person each `every_s`; DataError without anybody."""
    if (folder / "annotations.json").exists():
        found = [_coco(folder)]
    elif summaries := sorted({*folder.glob("summary.json"), *folder.glob("*/summary.json")}):
        found = [_followed(path, every_s) for path in summaries]
    else:
        found = [_labelled(s, every_s) for s in motchallenge.read_sequences(folder) if s.truth]
    shown = [one for one in found if len(one)]
    if not shown:
        raise DataError(
            f"{folder} shows nobody to learn from; expected MOTChallenge sequences with gt/gt.txt, "
            "what `streamvis batch` wrote, or annotations.json and images/"
        )
    return shown


def _labelled(sequence: motchallenge.Sequence, every_s: float) -> IdentityBoxes:
    truth = sequence.truth
    assert truth is not None
    plain = (truth.scores > 0) & (truth.classes == PEDESTRIAN) & (truth.visibility >= VISIBLE)
    rows = truth.where(plain)
    step = max(round(every_s * sequence.fps), 1)
    pictures = film(str(sequence.folder))
    return _sightings(sequence.name, pictures, _spaced(rows, step), certain=True)


def _followed(summary: Path, every_s: float) -> IdentityBoxes:
    """The tracks of a batch's result, where one can see who is meant."""
    try:
        video = Path(json.loads(summary.read_text())["sources"][0]["label"])
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"{summary} is not what `streamvis batch` writes: {error!r}") from None
    if not video.exists():
        raise DataError(f"{summary} tells of {video}, which is not there any more")
    tracks = summary.with_name("tracks.txt")
    rows = motchallenge.read_results(tracks, motchallenge.MOST_FRAMES)
    rows = rows.where(_in_view(rows))
    step = max(round(every_s * _rate(video)), 1)
    return _sightings(video.stem, film(str(video)), _spaced(rows, step), certain=False)


def _coco(folder: Path) -> IdentityBoxes:
    pictures = read_people(folder)
    boxes, frames = [], []
    for number, picture in enumerate(pictures, 1):
        for one in picture.instances:
            if not one.ignore:
                boxes.append(one.box)
                frames.append(number)

    def shown() -> Iterator[tuple[int, Array]]:
        for number, picture in enumerate(pictures, 1):
            pixels = cv2.imread(str(picture.path))
            if pixels is None:
                raise DataError(f"{picture.path} is not a picture that can be read")
            yield number, np.ascontiguousarray(pixels[..., ::-1])

    rows = motchallenge.rows(np.array(frames), np.arange(len(frames)), np.array(boxes))
    return _sightings(folder.resolve().name, shown, rows, certain=False)


def film(source: str) -> Pictures:
    """The pictures of a video or a folder."""

    def shown() -> Iterator[tuple[int, Array]]:
        (spec,) = resolve([source])
        opened = open_source(spec)
        try:
            for picture in opened:
                yield picture.n + 1, np.ascontiguousarray(picture.pixels)
        finally:
            opened.close()

    return shown


def _sightings(name: str, pictures: Pictures, rows: Rows, certain: bool) -> IdentityBoxes:
    high = rows.boxes[:, 3] - rows.boxes[:, 1] >= LOWEST
    rows = rows.where(high)
    _, ids = np.unique(rows.ids, return_inverse=True)
    order = np.argsort(rows.frames, kind="stable")
    rows = replace(rows, ids=ids).where(order)
    return IdentityBoxes(name, pictures, rows.frames, rows.ids, rows.boxes, certain)


def _spaced(rows: Rows, step: int) -> Rows:
    """Of each person, the first row of every `step` frames."""
    order = np.argsort(rows.frames, kind="stable")
    turns = np.stack([rows.ids[order], rows.frames[order] // step], 1)
    _, first = np.unique(turns, axis=0, return_index=True)
    return rows.where(order[np.sort(first)])


def _in_view(rows: Rows) -> Array:
    """(N,) bool: boxes that no other box of their frame covers by half."""
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
