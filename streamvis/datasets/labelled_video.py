"""Videos whose frames, some or all, have labels of their classes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from streamvis.datasets.classes import LISTS, Classes
from streamvis.datasets.street import read_labels
from streamvis.errors import DataError, UsageError
from streamvis.messages import Array
from streamvis.sources import SourceSpec, open_source, resolve, whole
from streamvis.sources.listing import images_of


class LabelledFrame(NamedTuple):
    """A frame of a video, with its ground truth where it is labelled."""

    media_us: int
    pixels: Array  # (H, W, 3) uint8 RGB
    truth: Array | None  # classes (H, W) uint8


@dataclass(frozen=True)
class LabelledVideo:
    """A video, or a folder of images at a steady rate, of which some or all frames are labelled."""

    name: str
    spec: SourceSpec
    fps: float
    frames: int | None  # None: unknown before the video was read
    labels: Mapping[int, Path]  # frame number, from 0 -> label image
    classes: Classes

    def __iter__(self) -> Iterator[LabelledFrame]:
        with closing(open_source(self.spec)) as source:
            for picture in whole(source):
                path = self.labels.get(picture.n)
                truth = read_labels(path, self.classes) if path else None
                if truth is not None and truth.shape != picture.pixels.shape[:2]:
                    raise DataError(
                        f"{path} is {truth.shape[1]}×{truth.shape[0]}, its picture "
                        f"{picture.pixels.shape[1]}×{picture.pixels.shape[0]}; expected the same "
                        "size"
                    )
                yield LabelledFrame(picture.media_us, picture.pixels, truth)


def read_labelled_video(path: Path, fps: float | None, names: Sequence[str]) -> LabelledVideo:
    """Open a video, a folder of images, or a folder with images/ and labels/ for some of them.

    fps: frame rate of images, which have no times of their own. names: the segmenter's classes;
    the labels are read by the list of classes that has these names.
    """
    folder = path / "images" if (path / "images").is_dir() else path
    specs = resolve([str(folder)])
    if len(specs) != 1:
        raise UsageError(f"{path} holds {len(specs)} videos; expected one: give its own path")
    if specs[0].kind == "images" and fps is None:
        raise UsageError(f"{path} holds images, which have no times; give their rate: --fps 15")
    spec = msgspec.structs.replace(specs[0], fps=fps)
    labels = _labels(spec, path / "labels")
    with closing(open_source(spec)) as source:
        info = source.info
    if not info.fps:
        raise UsageError(f"{path} does not state its frame rate; give it: --fps 25")
    return LabelledVideo(
        path.resolve().name, spec, info.fps, info.frames, labels, _classes(path, labels, names)
    )


def _labels(spec: SourceSpec, folder: Path) -> dict[int, Path]:
    if spec.kind != "images":
        return {}
    paths = [folder / f"{image.stem}.png" for image in images_of(spec.uri)]
    return {n: path for n, path in enumerate(paths) if path.is_file()}


def _classes(path: Path, labels: Mapping[int, Path], names: Sequence[str]) -> Classes:
    """The known list of classes with these names; without labels, any names will do."""
    for known in LISTS.values():
        if known.names == tuple(names):
            return known
    if labels:
        raise DataError(
            f"{path / 'labels'} cannot be read: the segmenter's classes ({', '.join(names)}) are "
            f"none of {', '.join(LISTS)}"
        )
    return Classes("its own", tuple(names), ())
