"""Videos and pictures in a row, some of them labelled, as `streamvis eval forecast` reads them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from streamvis.cli.segmentation import progress
from streamvis.datasets.classes import LISTS, Classes
from streamvis.datasets.street import read_labels
from streamvis.errors import DataError, UsageError
from streamvis.messages import Array
from streamvis.sources import SourceSpec, open_source, resolve
from streamvis.sources.listing import images_of


class Shot(NamedTuple):
    """A picture of a film, and what is true of it where that is known."""

    media_us: int
    pixels: Array
    truth: Array | None


@dataclass(frozen=True)
class Film:
    """A video, or pictures at a steady rate, some or all of them labelled."""

    name: str
    spec: SourceSpec
    fps: float
    frames: int | None
    labels: Mapping[int, Path]  # number of the picture, from 0
    classes: Classes

    def __iter__(self) -> Iterator[Shot]:
        with closing(open_source(self.spec)) as source:
            for picture in progress(source, self.name, self.frames):
                path = self.labels.get(picture.n)
                truth = read_labels(path, self.classes) if path else None
                if truth is not None and truth.shape != picture.pixels.shape[:2]:
                    raise DataError(f"{path} is not as large as its picture")
                yield Shot(picture.media_us, picture.pixels, truth)


def film(path: Path, fps: float | None, names: Sequence[str]) -> Film:
    """A video, a folder of pictures, or one with images/ and labels/ of some of them."""
    folder = path / "images" if (path / "images").is_dir() else path
    specs = resolve([str(folder)])
    if len(specs) != 1:
        raise UsageError(f"{path} holds {len(specs)} videos; name the one that is meant")
    if specs[0].kind == "images" and fps is None:
        raise UsageError(f"{path} holds pictures without times; give their rate: --fps 15")
    spec = msgspec.structs.replace(specs[0], fps=fps)
    labels = _labels(spec, path / "labels")
    with closing(open_source(spec)) as source:
        info = source.info
    if not info.fps:
        raise UsageError(f"{path} does not say its rate; give it: --fps 25")
    return Film(path.name, spec, info.fps, info.frames, labels, _classes(path, labels, names))


def _labels(spec: SourceSpec, folder: Path) -> dict[int, Path]:
    if spec.kind != "images":
        return {}
    paths = [folder / f"{image.stem}.png" for image in images_of(spec.uri)]
    return {n: path for n, path in enumerate(paths) if path.is_file()}


def _classes(path: Path, labels: Mapping[int, Path], names: Sequence[str]) -> Classes:
    """What the labels mean: there is a list with the segmenter's classes, or no label is read."""
    for known in LISTS.values():
        if known.names == tuple(names):
            return known
    if labels:
        raise DataError(
            f"{path / 'labels'} cannot be read: the segmenter's classes ({', '.join(names)}) are "
            f"none of {', '.join(LISTS)}"
        )
    return Classes("its own", tuple(names), ())
