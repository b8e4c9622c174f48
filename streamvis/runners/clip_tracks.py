"""People followed in labelled action clips, as clips of one person each to train and score on."""

import csv
import hashlib
import math
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from streamvis.api.networks import Embedder
from streamvis.api.tracker import Tracker
from streamvis.config import MaskRcnn
from streamvis.datasets.clips import Clip, check_there, read_clips
from streamvis.datasets.motchallenge import (
    MOST_FRAMES,
    Rows,
    read_results,
    rows_of_tracks,
    write_results,
)
from streamvis.errors import DataError, UsageError
from streamvis.files import drafted, is_same
from streamvis.messages import Array, Detections
from streamvis.runners.detectors import Detector, open_detector
from streamvis.runners.tables import Table
from streamvis.sources import open_source, resolve, whole
from streamvis.training.progress import progress

COLUMNS = ("path", "label", "source", "start", "end", "tracks", "track", "height", "near")
BESIDE = 0.25  # of a person's width and height: boxes enlarged by it that overlap are near


class ClipPerson(NamedTuple):
    """A person followed in a clip."""

    clip: Clip
    tracks: Path  # file with the tracks of the clip
    track: int
    height: float  # px, median of the track's boxes
    near: float  # share of its frames in which another person is beside it


Follow = Callable[[Clip], Rows]


class ClipTracker:
    """Follows people as `streamvis run actions` does, with the shipped networks."""

    def __init__(self, device: str = "cpu") -> None:
        self.detect: Detector = open_detector(MaskRcnn(masks=False), device)
        self.embed = Embedder(device=device)

    def __call__(self, clip: Clip) -> Rows:
        """Return the tracks of a clip, frames numbered from 1 at the start of its video."""
        (spec,) = resolve([str(clip.path)])
        tracker, found = Tracker(), []
        with closing(open_source(spec)) as source:
            for picture in whole(source):
                if picture.media_us >= clip.end_s * 1e6:
                    break
                if picture.media_us >= clip.start_s * 1e6:
                    people: Detections = self.detect(picture.pixels)
                    time_s = picture.media_us / 1e6
                    now = tracker.update(people, self.embed, picture=picture.pixels, time_s=time_s)
                    found.append((picture.n + 1, now))
        return rows_of_tracks(found)


def track_clips(
    data: Path, out: Path, follow: Follow, *, min_height: float, min_s: float
) -> list[ClipPerson]:
    """Follow the people of each clip and write `out`/clips.csv; clips done before are kept."""
    clips = read_clips(data)
    check_there(data, clips)
    if any(is_same(out / "clips.csv", one) for one in (data, data / "clips.csv")):
        raise UsageError(f"--out {out}: its clips.csv is what is read; choose another directory")
    if any(clip.tracks for clip in clips):
        raise DataError(f"{data} lists people along tracks already; expected whole clips")
    people: list[ClipPerson] = []
    for number, clip in enumerate(progress(clips, "following")):
        path = out / "tracks" / f"{number:05}-{clip.path.stem}-{_digest(clip)}.txt"
        if not path.exists():
            write_results(path, follow(clip))
        people += people_of(clip, path, min_height, min_s)
    write_people(out / "clips.csv", people)
    return people


def _digest(clip: Clip) -> str:
    """Return a name for the part of a video that a clip is."""
    part = f"{clip.path.resolve()} {clip.start_s} {clip.end_s}"
    return hashlib.sha256(os.fsencode(part)).hexdigest()[:8]


def people_of(clip: Clip, path: Path, min_height: float, min_s: float) -> list[ClipPerson]:
    """Return the people of a clip that are tall enough and were followed for long enough."""
    found = read_results(path, MOST_FRAMES)
    near = _near(found)
    with closing(open_source(resolve([str(clip.path)])[0])) as source:
        fps = source.info.fps or 25.0
    people = []
    for track in sorted(set(found.ids.tolist())):
        own = found.ids == track
        height = float(np.median(found.boxes[own, 3] - found.boxes[own, 1]))
        if own.sum() > min_s * fps and height >= min_height:
            people.append(ClipPerson(clip, path, track, height, float(near[own].mean())))
    return people


def _near(found: Rows) -> Array:
    """Tell for each row (N,) whether the box of another track in its frame is beside it."""
    low, high = found.boxes[:, :2], found.boxes[:, 2:]
    edge = BESIDE * (high - low)
    low, high = low - edge, high + edge
    near = np.zeros(len(found), bool)
    for frame in set(found.frames.tolist()):
        at = np.flatnonzero(found.frames == frame)
        overlap = (low[at, None] < high[None, at]) & (low[None, at] < high[at, None])  # (n, n, 2)
        near[at] = overlap.all(2).sum(1) > 1  # each overlaps itself
    return near


def write_people(path: Path, people: Sequence[ClipPerson]) -> None:
    """Write the CSV that `read_clips` reads, with paths relative to it."""
    with drafted(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for one in people:
            clip = one.clip
            end = "" if clip.end_s == math.inf else _text(clip.end_s)
            video = os.path.relpath(clip.path.resolve(), path.parent.resolve())
            tracks = one.tracks.relative_to(path.parent).as_posix()
            own = (tracks, one.track, f"{one.height:.0f}", f"{one.near:.2f}")
            writer.writerow([video, clip.label, clip.source, _text(clip.start_s), end, *own])


def _text(seconds: float) -> str:
    """Return a time to the microsecond, as frames have it, also of hours."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


class ActionCount(msgspec.Struct, frozen=True):
    """How many people were followed in the clips of an action."""

    action: str
    clips: int
    people: int


def counts(people: Sequence[ClipPerson]) -> list[ActionCount]:
    """Return the counts of each action, by name."""
    found = []
    for label in sorted({one.clip.label for one in people}):
        own = [one for one in people if one.clip.label == label]
        found.append(ActionCount(label, len({one.tracks for one in own}), len(own)))
    return found


def tables(found: Sequence[ActionCount]) -> list[Table]:
    """Return the counts as a table."""
    rows_ = [[one.action, one.clips, one.people] for one in found]
    return [Table("people followed", ("action", "clips", "people"), rows_)]
