"""What `streamvis eval segment` does: scenes read by segmenters, side by side, and how quickly."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from streamvis.cli.output import put, put_table, say
from streamvis.cli.scene_networks import Network
from streamvis.datasets.classes import VOID, Classes
from streamvis.datasets.street import LabelledImage, read_image, read_labels, read_scenes
from streamvis.errors import DataError
from streamvis.evaluation.segmentation import Confusion, SegmentationScores
from streamvis.messages import Array

if TYPE_CHECKING:
    from streamvis.viz.scene import Row

T = TypeVar("T")
WORST = 8  # pictures of a sheet
WARM_UP = 3  # pictures, before time is taken


@dataclass(frozen=True)
class Streets:
    """Labelled pictures, read from disk one by one."""

    name: str
    classes: Classes
    scenes: Sequence[LabelledImage]

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        yield from (
            self.read(scene) for scene in progress(self.scenes, self.name, len(self.scenes))
        )

    def read(self, scene: LabelledImage) -> tuple[Array, Array]:
        """The picture (H, W, 3) and its classes (H, W)."""
        pixels, truth = read_image(scene.image), read_labels(scene.label, self.classes)
        if pixels.shape[:2] != truth.shape:
            raise DataError(
                f"{scene.label} is {truth.shape[1]}×{truth.shape[0]}, its picture "
                f"{pixels.shape[1]}×{pixels.shape[0]}; expected the same size"
            )
        return pixels, truth


@dataclass
class Clock:
    """Seconds that the same work took, again and again."""

    seconds: list[float] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds.append(time.perf_counter() - began)

    @property
    def ms(self) -> float | None:
        """The median, without the first few."""
        kept = self.seconds[WARM_UP:] or self.seconds
        return float(np.median(kept)) * 1e3 if kept else None


@dataclass(frozen=True)
class Outcome:
    """How one segmenter did on labelled pictures."""

    scores: SegmentationScores
    alone: list[float | None]  # mIoU of each picture
    ms: float | None  # of one picture, from pixels to classes

    def report(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self.scores), "ms": self.ms, "per_s": 1e3 / self.ms if self.ms else None}

    def worst(self, count: int) -> list[int]:
        """Pictures by rising mIoU."""
        known = [(miou, i) for i, miou in enumerate(self.alone) if miou is not None]
        return [i for _, i in sorted(known)[:count]]


def streets(folder: Path) -> Streets:
    """The labelled pictures of a folder in CamVid's or Cityscapes' layout."""
    classes, scenes = read_scenes(folder)
    return Streets(folder.resolve().name, classes, scenes)


def check_classes(data: Streets, names: Sequence[str], weights: str) -> None:
    """DataError, unless the network knows the classes that the pictures are labelled with."""
    if tuple(names) != data.classes.names:
        raise DataError(
            f"{data.name} is labelled with {data.classes.name} ("
            f"{', '.join(data.classes.names)}), but {weights} tells {', '.join(names)}"
        )


def nothing_labelled(data: Streets) -> DataError:
    """The error when there is nothing to score on."""
    return DataError(
        f"{data.name}: no pixel of the labels of its {len(data.scenes)} pictures has a class of "
        f"{data.classes.name}, so there is nothing to score on"
    )


def score(data: Streets, networks: Mapping[str, Network]) -> dict[str, Outcome]:
    """Show every picture to every network, once."""
    for name, network in networks.items():
        check_classes(data, network.names, name)
    classes = data.classes
    totals = {name: Confusion(classes.names, VOID) for name in networks}
    clocks = {name: Clock() for name in networks}
    alone: dict[str, list[float | None]] = {name: [] for name in networks}
    for pixels, truth in data:
        for name, network in networks.items():
            with clocks[name].running():
                labels = network.look(pixels).labels
            one = Confusion(classes.names, VOID)
            for confusion in (one, totals[name]):
                confusion.add(labels, truth)
            alone[name].append(one.miou())
    if all(miou is None for row in alone.values() for miou in row):
        raise nothing_labelled(data)
    return {
        name: Outcome(totals[name].scores(classes.movable), alone[name], clocks[name].ms)
        for name in networks
    }


def put_outcomes(data: Streets, outcomes: Mapping[str, Outcome]) -> None:
    """The scores as tables."""
    first = next(iter(outcomes.values())).scores
    rows = [
        [name, s.miou, s.movable_miou, s.accuracy, s.class_accuracy, report["per_s"]]
        for name, report, s in ((n, o.report(), o.scores) for n, o in outcomes.items())
    ]
    columns = ("weights", "mIoU", "of what moves", "pixels right", "mean class", "pictures/s")
    title = f"{data.name}: {first.pictures} pictures, {data.classes.name}"
    put_table(title, columns, [list(map(or_dash, row)) for row in rows])
    by_class = [
        [name, *(or_dash(o.scores.per_class[name]) for o in outcomes.values())]
        for name in data.classes.names
    ]
    put_table("IoU", ("class", *outcomes), by_class)
    for name, outcome in outcomes.items():
        if outcome.scores.skipped:
            put(f"{name}: neither there nor said, in no mean: {', '.join(outcome.scores.skipped)}")


def write_sheet(path: Path, data: Streets, outcome: Outcome, network: Network, name: str) -> None:
    """Write the pictures that were read worst as a PNG."""
    from streamvis.viz.scene import strips

    rows = [_row(data, i, outcome.alone[i], network) for i in outcome.worst(WORST)]
    title = f"{name}: the worst {len(rows)} of {len(data.scenes)} pictures of {data.name}"
    write_png(path, strips(title, rows, data.classes.names))


def _row(data: Streets, index: int, miou: float | None, network: Network) -> "Row":
    from streamvis.viz.scene import Panel, Row, blended, palette_of

    scene, palette = data.scenes[index], palette_of(data.classes.names)
    pixels, truth = data.read(scene)
    panels = [
        Panel("picture", pixels),
        Panel("truth", blended(pixels, truth, palette)),
        Panel("ours", blended(pixels, network.look(pixels).labels, palette)),
    ]
    return Row(f"{scene.name}: mIoU {or_dash(miou)}", panels)


def write_png(path: Path, image: Array) -> None:
    """Write an RGB picture, and say so."""
    import cv2

    _, data = cv2.imencode(".png", image[..., ::-1])
    path.write_bytes(data.tobytes())
    say(f"wrote {path}")


def or_dash(value: float | str | None) -> str:
    """A share as people read it."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:.3f}" if value < 2 else f"{value:.1f}"


def progress(items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
    """The items, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, title, total, console=console, disable=not console.is_terminal)
