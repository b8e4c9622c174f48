"""Segmentation scores: segmenters on the same labelled pictures, and their speed."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from streamvis.datasets.classes import VOID, Classes
from streamvis.datasets.pictures import read_picture
from streamvis.datasets.street import LabelledImage, read_labels, read_scenes
from streamvis.errors import DataError
from streamvis.evaluation.segmentation import Confusion, SegmentationScores
from streamvis.messages import Array
from streamvis.runners.progress import Progress, silent
from streamvis.runners.scene_networks import SceneNetwork
from streamvis.runners.tables import Table

WARM_UP = 3  # pictures that are not timed


@dataclass(frozen=True)
class StreetScenes:
    """Labelled pictures of streets, read from disk one by one."""

    name: str
    classes: Classes
    scenes: Sequence[LabelledImage]

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        return map(self.read, self.scenes)

    def read(self, scene: LabelledImage) -> tuple[Array, Array]:
        """Read the picture (H, W, 3) and its classes (H, W)."""
        pixels, truth = read_picture(scene.image), read_labels(scene.label, self.classes)
        if pixels.shape[:2] != truth.shape:
            raise DataError(
                f"{scene.label} is {truth.shape[1]}×{truth.shape[0]}, its picture "
                f"{pixels.shape[1]}×{pixels.shape[0]}; expected the same size"
            )
        return pixels, truth


@dataclass
class Stopwatch:
    """The seconds that the same work took each time."""

    seconds: list[float] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds.append(time.perf_counter() - began)

    @property
    def ms(self) -> float | None:
        """The median, without the first few times."""
        kept = self.seconds[WARM_UP:] or self.seconds
        return float(np.median(kept)) * 1e3 if kept else None


@dataclass(frozen=True)
class SegmentationResult:
    """The scores and the speed of one segmenter."""

    scores: SegmentationScores
    per_picture: list[float | None]  # mIoU
    ms: float | None  # of one picture, from pixels to classes

    def report(self) -> dict[str, Any]:
        """Return the report that `--json` prints."""
        return {**asdict(self.scores), "ms": self.ms, "per_s": 1e3 / self.ms if self.ms else None}

    def worst(self, count: int) -> list[int]:
        """Return the numbers of the pictures with the lowest mIoU, lowest first."""
        return lowest(self.per_picture, count)


def lowest(scores: Sequence[float | None], count: int) -> list[int]:
    """Return the places of the lowest scores that there are, lowest first."""
    return [i for _, i in sorted((s, i) for i, s in enumerate(scores) if s is not None)[:count]]


def read_street_scenes(folder: Path) -> StreetScenes:
    """List the labelled pictures of a folder in CamVid's or Cityscapes' layout."""
    classes, scenes = read_scenes(folder)
    return StreetScenes(folder.resolve().name, classes, scenes)


def check_classes(data: StreetScenes, names: Sequence[str], weights: str) -> None:
    """Raise DataError unless the network has the classes that the pictures are labelled with."""
    if tuple(names) != data.classes.names:
        raise DataError(
            f"{data.name} is labelled with {data.classes.name} ("
            f"{', '.join(data.classes.names)}), but the classes of {weights} are "
            f"{', '.join(names)}; give weights trained on the same classes"
        )


def nothing_labelled(data: StreetScenes) -> DataError:
    """Return the error for pictures without a labelled pixel."""
    return DataError(
        f"{data.name}: no pixel of the labels of its {len(data.scenes)} pictures has a class of "
        f"{data.classes.name}, so there is nothing to score on"
    )


def score(
    data: StreetScenes, networks: Mapping[str, SceneNetwork], progress: Progress = silent
) -> dict[str, SegmentationResult]:
    """Run every network on every picture, reading each picture once."""
    for name, network in networks.items():
        check_classes(data, network.names, name)
    classes = data.classes
    totals = {name: Confusion(classes.names, VOID) for name in networks}
    watches = {name: Stopwatch() for name in networks}
    per_picture: dict[str, list[float | None]] = {name: [] for name in networks}
    for pixels, truth in progress(data, data.name, len(data.scenes)):
        for name, network in networks.items():
            with watches[name].running():
                labels = network.segment(pixels).labels
            one = Confusion(classes.names, VOID)
            for confusion in (one, totals[name]):
                confusion.add(labels, truth)
            per_picture[name].append(one.miou())
    if all(miou is None for row in per_picture.values() for miou in row):
        raise nothing_labelled(data)
    return {
        name: SegmentationResult(
            totals[name].scores(classes.movable), per_picture[name], watches[name].ms
        )
        for name in networks
    }


def tables(data: StreetScenes, results: Mapping[str, SegmentationResult]) -> Iterator[Table | str]:
    """Yield the means, the IoU by class, and which classes were left out of the mean."""
    first = next(iter(results.values())).scores
    columns = ("mIoU", "movable mIoU", "pixel accuracy", "mean class accuracy", "pictures/s")
    rows = [
        [name, s.miou, s.movable_miou, s.accuracy, s.class_accuracy, report["per_s"]]
        for name, report, s in ((n, r.report(), r.scores) for n, r in results.items())
    ]
    title = f"{data.name}: {first.pictures} pictures, {data.classes.name}"
    yield Table(title, ("weights", *columns), rows)
    by_class = [
        [name, *(r.scores.per_class[name] for r in results.values())] for name in data.classes.names
    ]
    yield Table("IoU", ("class", *results), by_class)
    for name, result in results.items():
        if result.scores.skipped:
            absent = ", ".join(result.scores.skipped)
            yield f"{name}: neither labelled nor predicted, left out of the mean: {absent}"
