"""Driving video sampled at equal steps of time and at one size, to train forecasters on."""

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
from streamvis.sources import Picture, open_source, resolve, whole
from streamvis.sources.listing import VIDEOS, entries, videos_in

SLACK_US = 1000  # times are rounded
THUMBNAIL = (36, 48)  # rows, columns: so few that motion between two samples stays in a cell
Side = Annotated[int, Meta(ge=32, le=4096)]


class DriveSampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a video is sampled: the size of its views, and the time between two samples."""

    size: tuple[Side, Side] = (360, 480)  # of a view: height, width in px
    every_s: Annotated[float, Meta(gt=0, le=10)] = 0.1
    cut: Annotated[float, Meta(ge=-1, le=1)] = 0.45  # neighbours that correlate less: a cut


class VideoShot(NamedTuple):
    """The samples of a video between two cuts."""

    first: int  # number of the sample in its video
    length: int


def read_drives(data: Sequence[Path]) -> list[Path]:
    """Return the videos of folders, whose names have to differ; DataError without any."""
    found: dict[str, Path] = {}
    for folder in data:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a directory; expected one with driving videos")
        paths = sorted(videos_in(entries(folder)))
        if not paths:
            raise DataError(
                f"{folder} holds no videos; expected {', '.join(sorted(VIDEOS)[:4])}, …"
            )
        for path in paths:
            if path.stem in found:
                raise DataError(
                    f"two videos have the name {path.stem}: {found[path.stem]} and {path}; "
                    "rename one"
                )
            found[path.stem] = path
    return list(found.values())


def views(pixels: Array, size: tuple[int, int]) -> list[Array]:
    """Cut a picture (H, W, 3) into views of `size` side by side that overlap by at most half.

    The picture is scaled so that it just covers a view; what is too high is cut off equally above
    and below.
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


def nearest_pictures(pictures: Iterable[Picture], every_s: float) -> Iterator[Picture]:
    """Yield the pictures nearest to the media times 0, every_s, 2·every_s, ….

    Of two equally near pictures the later one is taken: at 25 frames/s, times 0.1 s apart fall
    between two pictures, and times 0.2 s apart have to be 5 pictures apart.
    """
    before, count = None, 0
    for picture in pictures:
        before = before or picture
        while (time_us := count * every_s * 1e6) < picture.media_us + SLACK_US:
            later = picture.media_us - time_us <= time_us - before.media_us + SLACK_US
            yield picture if later else before
            count += 1
        before = picture


class DriveSample(NamedTuple):
    """The views of a video at one time, and a thumbnail of the whole picture."""

    small: Array  # `thumbnail`, which cuts are found by: a view alone would show too many
    views: list[Array]  # (H, W, 3) uint8 RGB


def sample_drive(path: Path, sampling: DriveSampling) -> Iterator[DriveSample]:
    """Yield the samples of a video in order of time."""
    try:
        (spec,) = resolve([str(path)])
    except ValueError:
        raise DataError(f"{path} is several videos; expected one") from None
    with closing(open_source(spec)) as source:
        for picture in nearest_pictures(whole(source), sampling.every_s):
            yield DriveSample(thumbnail(picture.pixels), views(picture.pixels, sampling.size))


def thumbnail(pixels: Array) -> Array:
    """Return a picture as a few grey cells of mean 0 and length 1, so that products correlate."""
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    cells = cv2.resize(grey, THUMBNAIL[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    cells -= cells.mean()
    return cells / max(float(np.linalg.norm(cells)), 1e-6)


def shots_of(thumbnails: Sequence[Array], cut: float) -> list[VideoShot]:
    """Divide a video at its cuts, where neighbouring thumbnails correlate less than `cut`."""
    correlations = [float((a * b).sum()) for a, b in pairwise(thumbnails)]
    starts = [0, *(i for i, correlation in enumerate(correlations, 1) if correlation < cut)]
    ends = [*starts[1:], len(thumbnails)]
    return [VideoShot(a, b - a) for a, b in zip(starts, ends, strict=True)]
