"""Live sources for benchmarks: a clip that is shown again and again, each picture in its time.

    make_clip(pictures, Path("people.mp4"), fps=5)
    spec = SourceSpec(id="cam-1", uri="people.mp4", kind="url", options=replay(...))
    launch.run(…, [spec], open_source="streamvis.benchmarks.live_replay:Replay")

As with a camera, each picture is decoded when its time has come, and dropped when the run is late.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np

from streamvis.messages import Array, SourceInfo
from streamvis.sources.picture import Ended, Picture, Waiting
from streamvis.sources.spec import SourceSpec
from streamvis.sources.video import VideoSource
from streamvis.stages.record.film import Film

OPENER = "streamvis.benchmarks.live_replay:Replay"
NOISE = 2.0  # grey levels, standard deviation of a camera's noise
MOST_FOR_MEDIAN = 50  # pictures


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When a source shows which picture of its clip."""

    fps: float  # by media time
    slow: float  # times longer than by media time each picture is shown
    first: int  # picture of the clip with which it begins
    phase_s: float  # its pictures come so long after whole multiples of the time between two
    until: str  # path of a file whose appearance ends the source


class Replay:
    """The pictures of a clip without an end, as a live source."""

    def __init__(self, spec: SourceSpec, epoch: int = 1, waiting: Waiting | None = None) -> None:
        self._schedule = msgspec.convert(spec.options, Schedule, strict=False)
        self._clip = SourceSpec(id=spec.id, uri=spec.uri, kind="file")
        self._source = VideoSource(self._clip)
        self.errors = 0
        self.ended: Ended | None = None
        self.info: SourceInfo = msgspec.structs.replace(
            self._source.info, live=True, epoch=epoch, frames=None, promised=None
        )

    def __iter__(self) -> Iterator[Picture]:
        plan, until = self._schedule, Path(self._schedule.until)
        pictures = self._pictures(plan.first)
        step_s = plan.slow / plan.fps
        zero_s = (time.time() // step_s + 1) * step_s + plan.phase_s
        n = 0
        while not until.exists():
            due_s = zero_s + n * step_s
            time.sleep(max(0.0, due_s - time.time()))
            yield Picture(
                pixels=next(pictures),
                n=n,
                media_us=round(n * 1_000_000 / plan.fps),
                capture_us=round(due_s * 1_000_000),
                clock="arrival",
            )
            n += 1
        self.ended = "eof"

    def close(self) -> None:
        """Close the clip."""
        self._source.close()

    def _pictures(self, first: int) -> Iterator[Array]:
        """Yield the pictures from this one on, and all of them again and again."""
        while True:
            for picture in self._source:
                if picture.n >= first:
                    yield picture.pixels
            first = 0
            self._source.close()
            self._source = VideoSource(self._clip)


def make_clip(pictures: Iterable[Array], path: Path, fps: float) -> int:
    """Encode pictures (H, W, 3) uint8 RGB as a camera would; return their number."""
    film: Film | None = None
    count = 0
    try:
        for count, picture in enumerate(pictures, 1):
            if film is None:
                film = Film(path, picture.shape[1], picture.shape[0], fps)
            film.write(picture, round((count - 1) * 1e6 / fps))
    finally:
        if film is not None:
            film.close()
    return count


def fitted(picture: Array, size: tuple[int, int]) -> Array:
    """Return the middle of a picture (H, W, 3) at this size, (width, height), undistorted."""
    height, width = picture.shape[:2]
    scale = max(size[0] / width, size[1] / height)
    w, h = min(width, round(size[0] / scale)), min(height, round(size[1] / scale))
    x, y = (width - w) // 2, (height - h) // 2
    return cv2.resize(picture[y : y + h, x : x + w], size, interpolation=cv2.INTER_AREA)


def without_people(pictures: list[Array]) -> Iterator[Array]:
    """Yield as many pictures of the place as a fixed camera sees it when nobody is there.

    That is their median, with the noise of a camera.
    """
    some = pictures[:: -(-len(pictures) // MOST_FOR_MEDIAN)]
    place = np.median(some, axis=0).astype(np.float32)
    rng = np.random.default_rng(0)
    for _ in pictures:
        noisy = place + NOISE * rng.standard_normal(place.shape, np.float32)
        yield np.clip(noisy, 0, 255).astype(np.uint8)
