"""Driving video as pictures at equal steps of time, all of one size: what forecasts learn from."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import msgspec
import numpy as np
from msgspec import Meta

from streamvis.errors import DataError
from streamvis.messages import Array
from streamvis.sources import Picture, open_source, resolve
from streamvis.sources.listing import VIDEOS, entries, videos_in

SLACK_US = 1000  # times are rounded
THUMBNAIL = (36, 48)  # rows, columns: small enough that what moves in a step stays in its cell
Side = Annotated[int, Meta(ge=32, le=4096)]


class DriveSampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When and where pictures are taken of a video."""

    size: tuple[Side, Side] = (360, 480)  # of a view: height, width in px
    every_s: Annotated[float, Meta(gt=0, le=10)] = 0.1
    cut: Annotated[float, Meta(ge=-1, le=1)] = 0.45  # likeness of neighbours below which it is one


class VideoShot(NamedTuple):
    """Moments between two cuts."""

    first: int  # moment, among those of the video
    length: int


def read_drives(data: Sequence[Path]) -> list[Path]:
    """The videos of folders, each by its own name; DataError when there are none."""
    found: dict[str, Path] = {}
    for folder in data:
        if not folder.is_dir():
            raise DataError(f"{folder} is no folder of driving videos")
        paths = sorted(videos_in(entries(folder)))
        if not paths:
            raise DataError(
                f"{folder} holds no videos; expected {', '.join(sorted(VIDEOS)[:4])}, …"
            )
        for path in paths:
            if path.stem in found:
                raise DataError(f"two videos are called {path.stem}: {found[path.stem]} and {path}")
            found[path.stem] = path
    return list(found.values())


def views(pixels: Array, size: tuple[int, int]) -> list[Array]:
    """A picture (H, W, 3) as views of `size` side by side, as many as overlap by half at most.

    It is scaled until a view fits; what is too high loses as much above as below.
    """
    height, width = size
    scale = max(height / pixels.shape[0], width / pixels.shape[1])
    shape = (
        max(round(pixels.shape[1] * scale), width),
        max(round(pixels.shape[0] * scale), height),
    )
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    whole = cv2.resize(np.ascontiguousarray(pixels), shape, interpolation=how)
    top, slack = (shape[1] - height) // 2, shape[0] - width
    count = 1 + slack // (width // 2)
    lefts = np.linspace(0, slack, count).round().astype(int) if count > 1 else [slack // 2]
    return [whole[top : top + height, left : left + width] for left in lefts]


def at_moments(pictures: Iterable[Picture], every_s: float) -> Iterator[Picture]:
    """The pictures nearest to the moments 0, every_s, 2·every_s, … of media time.

    Of two equally near ones the later counts, always: at 25 pictures a second, moments 0.1 s
    apart fall between pictures, and moments 0.2 s apart should have 5 pictures from each to next.
    """
    before, count = None, 0
    for picture in pictures:
        before = before or picture
        while (moment_us := count * every_s * 1e6) < picture.media_us + SLACK_US:
            later = picture.media_us - moment_us <= moment_us - before.media_us + SLACK_US
            yield picture if later else before
            count += 1
        before = picture


class DriveSample(NamedTuple):
    """What a video shows at a time."""

    small: Array  # `thumbnail`, by which cuts are found: of a view, one would see too many
    views: list[Array]  # (H, W, 3) uint8 RGB


def sample_drive(path: Path, sampling: DriveSampling) -> Iterator[DriveSample]:
    """The moments of a video, in order of time."""
    try:
        (spec,) = resolve([str(path)])
    except ValueError:
        raise DataError(f"{path} is several videos; expected one") from None
    with closing(open_source(spec)) as source:
        for picture in at_moments(source, sampling.every_s):
            yield DriveSample(thumbnail(picture.pixels), views(picture.pixels, sampling.size))


def thumbnail(pixels: Array) -> Array:
    """A picture as few grey cells of mean 0 and length 1, to compare it with others."""
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    cells = cv2.resize(grey, THUMBNAIL[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    cells -= cells.mean()
    return cells / max(float(np.linalg.norm(cells)), 1e-6)


def runs(thumbnails: Sequence[Array], cut: float) -> list[VideoShot]:
    """What lies between cuts: neighbouring moments whose thumbnails correlate less than `cut`."""
    likeness = [float((a * b).sum()) for a, b in pairwise(thumbnails)]
    starts = [0, *(i for i, alike in enumerate(likeness, 1) if alike < cut)]
    ends = [*starts[1:], len(thumbnails)]
    return [VideoShot(a, b - a) for a, b in zip(starts, ends, strict=True)]
