"""What `streamvis eval detect` does: detectors on the same pictures, scored side by side."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamvis.cli.detectors import Detector
from streamvis.cli.output import put_table, say
from streamvis.datasets.coco import ImageTruth, read_coco
from streamvis.datasets.motchallenge import Sequence, read_sequences
from streamvis.errors import DataError, UsageError
from streamvis.evaluation.detection import DetectionScores, examine, truth_of
from streamvis.evaluation.mistakes import Matches, Mistake, mistakes
from streamvis.messages import Array

if TYPE_CHECKING:
    from streamvis.viz.sheets.errors import Section, Tile

SHOWN = ("people", "ap50", "ap", "ap75", "f1", "threshold", "miss_rate", "mask_ap", "mask_ap50")
COMPARED = ("ap50", "ap", "f1", "miss_rate", "mask_ap")
WORST = 12  # tiles of each kind and data set
NEAR, HIT = 0.1, 0.5  # IoU


@dataclass(frozen=True)
class Dataset:
    """Pictures and who is in them."""

    name: str
    truth: list[ImageTruth]
    film: bool  # each picture follows the one before
    read: Callable[[], Generator[Array, None, None]]

    @property
    def predicted(self) -> int:
        """Of the people to be found, how many a network labelled and nobody checked."""
        return sum(one.predicted for one in self.truth)

    @property
    def note(self) -> str | None:
        """What scores are worth where labels are a network's."""
        people = sum(one.people for one in self.truth)
        if not self.predicted:
            return None
        return (
            f"{self.predicted} of {people} people were labelled by a network and not checked by "
            "anyone: scores against them are agreement with that network, not accuracy"
        )


@dataclass(frozen=True)
class Outcome:
    """How detectors did on one data set; ours is the first."""

    data: Dataset
    scores: dict[str, DetectionScores]
    matches: list[Matches]  # of ours

    @property
    def ours(self) -> DetectionScores:
        return next(iter(self.scores.values()))

    @property
    def other(self) -> tuple[str, DetectionScores] | None:
        return (*self.scores.items(), None, None)[1]

    def report(self) -> dict[str, Any]:
        """As JSON has it: our scores, and those of the other with the difference."""
        told = {"predicted_labels": self.data.predicted, "note": self.data.note}
        if self.other is None:
            return {**asdict(self.ours), **told}
        name, scores = self.other
        apart = {key: _apart(self.ours, scores, key) for key in COMPARED}
        other = {"name": name, **asdict(scores)}
        return {**asdict(self.ours), **told, "other": other, "difference": apart}


def datasets(paths: Iterable[Path], hold_out: Path | None) -> list[Dataset]:
    """MOTChallenge sequences and COCO folders; of these, if told, what a training held out.

    hold_out: a training file, or the directory of a training. Errors: DataError, before an hour's
    work, where there is nobody to score on or a picture is not there.
    """
    found: list[tuple[Path, Dataset]] = []
    for path in paths:
        if (path / "annotations.json").is_file():
            found.append((path, _folder(path, hold_out)))
            continue
        for one in read_sequences(path):
            if hold_out:
                raise UsageError(
                    f"--hold-out is for folders with annotations.json; {one.folder} is a "
                    "MOTChallenge sequence, which is scored whole"
                )
            found.append((one.folder, Dataset(one.name, truth_of(one), True, film(one))))
    for path, data in found:
        if not any(one.people for one in data.truth):
            raise DataError(
                f"{path}: nobody to be found is labelled in its {len(data.truth)} pictures, so "
                "there is nothing to score on"
            )
    return _named(found)


def _named(found: list[tuple[Path, Dataset]]) -> list[Dataset]:
    """The data sets by their names, or by their paths where two have the same."""
    names = [data.name for _, data in found]
    paths = [path.resolve() for path, _ in found]
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(f"{path} is given twice; give each data set once")
    return [
        data if names.count(data.name) == 1 else replace(data, name=str(path))
        for path, data in found
    ]


def _folder(path: Path, hold_out: Path | None) -> Dataset:
    truth = read_coco(path / "annotations.json")
    kept = _held_out(path, hold_out)
    truth = truth if kept is None else [t for t in truth if Path(t.name).as_posix() in kept]
    absent = [t.name for t in truth if not (path / "images" / t.name).is_file()]
    if absent:
        raise DataError(
            f"{path / 'annotations.json'} lists {len(truth)} pictures, and {len(absent)} of them "
            f"are not there; the first is {path / 'images' / absent[0]}"
        )
    return Dataset(path.resolve().name, truth, False, _reader(path / "images", truth))


def score(data: Dataset, detectors: Mapping[str, Detector]) -> Outcome:
    """Show every picture to every detector, once."""
    found = [
        [detect(picture) for detect in detectors.values()] for picture in _progress(data)
    ]  # by picture, then by detector
    results = [examine(data.truth, [each[i] for each in found]) for i in range(len(detectors))]
    scores = {name: one for name, (one, _) in zip(detectors, results, strict=True)}
    return Outcome(data, scores, results[0][1])


def _held_out(path: Path, hold_out: Path | None) -> set[str] | None:
    """Names of the pictures that were held out; DataError without any."""
    if hold_out is None:
        return None
    from streamvis.training.detector import crowd_dataset as data
    from streamvis.training.detector.recipe import recipe_of, split

    recipe = recipe_of(hold_out)
    pictures = data.read_coco(path / "annotations.json", path / "images")
    _, held = split(pictures, recipe.hold_out)
    if not held:
        why = "" if recipe.hold_out else ": it has no hold_out"
        raise DataError(
            f"{hold_out} holds nothing out of {path}{why}, so there is nothing to score on; leave "
            "out --hold-out to score on all of it"
        )
    return {picture.path.relative_to(path / "images").as_posix() for picture in held}


def _reader(folder: Path, truth: list[ImageTruth]) -> Callable[[], Generator[Array, None, None]]:
    def read() -> Generator[Array, None, None]:
        import cv2

        for one in truth:
            image = cv2.imread(str(folder / one.name), cv2.IMREAD_COLOR_RGB)
            if image is None:
                raise DataError(f"{folder / one.name} is not an image that can be read")
            yield image

    return read


def film(sequence: Sequence) -> Callable[[], Generator[Array, None, None]]:
    """How to read a sequence's pictures, in their order."""

    def read() -> Generator[Array, None, None]:
        from streamvis.sources import open_source, resolve

        (spec,) = resolve([str(sequence.folder)])
        source = open_source(spec)
        try:
            for picture in source:
                yield picture.pixels
        finally:
            source.close()

    return read


def _progress(data: Dataset) -> Iterator[Array]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    hidden = not console.is_terminal
    yield from track(data.read(), data.name, len(data.truth), console=console, disable=hidden)


def put(outcomes: list[Outcome]) -> None:
    """The scores as tables."""
    if any(outcome.other for outcome in outcomes):
        put_table("", ("data", "detector", *COMPARED), [r for o in outcomes for r in _rows(o)])
    else:
        rows = [[o.data.name, *(_or_dash(getattr(o.ours, n)) for n in SHOWN)] for o in outcomes]
        put_table("", ("data", *SHOWN), rows)
    rows = [
        [outcome.data.name, name, *(_or_dash(v) for v in scores.ap_by_height.values())]
        for outcome in outcomes
        for name, scores in outcome.scores.items()
    ]
    bands = next(iter(outcomes)).ours.ap_by_height
    put_table("AP by height in pixels", ("data", "detector", *bands), rows)


def _rows(outcome: Outcome) -> Iterator[list[str]]:
    """A row for each detector, and one for how much higher ours is."""
    for name, scores in outcome.scores.items():
        values = (getattr(scores, key) for key in COMPARED)
        yield [outcome.data.name, name, *("-" if v is None else f" {v:.3f}" for v in values)]
    if outcome.other:
        apart = (_apart(outcome.ours, outcome.other[1], key) for key in COMPARED)
        yield ["", "difference", *("-" if v is None else f"{v:+.3f}" for v in apart)]


def _apart(ours: DetectionScores, other: DetectionScores, key: str) -> float | None:
    a, b = getattr(ours, key), getattr(other, key)
    return None if a is None or b is None else a - b


def _or_dash(value: Any) -> Any:
    return "-" if value is None else value


def plot(path: Path, outcomes: list[Outcome]) -> None:
    """Write the precision-recall curves at IoU .5 of all data sets and detectors."""
    from streamvis.viz.plots import precision_recall

    recall = [i / 100 for i in range(101)]
    curves = {
        outcome.data.name: {name: (recall, s.curve) for name, s in outcome.scores.items()}
        for outcome in outcomes
    }
    precision_recall(path, curves, title="Precision and recall at IoU 0.5")
    say(f"wrote {path}")


def write_sheet(path: Path, outcomes: list[Outcome]) -> None:
    """Write our detector's worst mistakes on each data set as a PNG."""
    import cv2

    from streamvis.viz.sheets.errors import mistake_sheet

    name = next(iter(outcomes[0].scores))
    sheet = mistake_sheet(f"Worst mistakes of {name}, in bold", [_section(one) for one in outcomes])
    _, data = cv2.imencode(".png", sheet[..., ::-1])
    path.write_bytes(data.tobytes())
    say(f"wrote {path}")


def check_writable(path: Path) -> None:
    """Learn before an hour's work that its result cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path} cannot be written: it is a directory, or lies in a locked one")


def _section(outcome: Outcome) -> "Section":
    from streamvis.viz.sheets.errors import Section

    threshold = outcome.ours.threshold
    if threshold is None:
        return Section(outcome.data.name, "nobody to find, or nobody found", [])
    wrong, missed = mistakes(outcome.data.truth, outcome.matches, threshold, outcome.data.film)
    shown = [*wrong[:WORST], *missed[:WORST]]
    pictures = _pictures(outcome.data, {one.picture for one in shown})
    tiles = [
        _tile(outcome, one, pictures[one.picture], threshold, is_found=i < len(wrong[:WORST]))
        for i, one in enumerate(shown)
    ]
    first = len(wrong[:WORST])
    false, absent = (sum(one.pictures for one in found) for found in (wrong, missed))
    note = (
        f"F1 {outcome.ours.f1:.3f} at score {threshold:.2f}: {false} false positives, "
        f"{absent} of {outcome.ours.people} people missed"
    )
    rows = [
        ("False positives, by score", tiles[:first]),
        ("Missed people, by size in view", tiles[first:]),
    ]
    return Section(outcome.data.name, note, [row for row in rows if row[1]])


def _pictures(data: Dataset, wanted: set[int]) -> dict[int, Array]:
    """Some of the pictures, read once more."""
    pictures: dict[int, Array] = {}
    with closing(data.read()) as reading:
        for i, pixels in enumerate(reading):
            if i in wanted:
                pictures[i] = pixels.copy()
            if len(pictures) == len(wanted):
                break
    return pictures


def _tile(
    outcome: Outcome, one: Mistake, pixels: Array, threshold: float, is_found: bool
) -> "Tile":
    from streamvis.viz.sheets.errors import Tile

    truth, match = outcome.data.truth[one.picture], outcome.matches[one.picture]
    score = f"score {one.score:.2f}" if one.score else "no score"
    why = _of_found(one) if is_found else _of_missed(one)
    again = f", {one.pictures} frames" if one.pictures > 1 else ""
    return Tile(
        pixels=pixels,
        box=one.box,
        is_found=is_found,
        people=truth.boxes,
        counts=match.counts,
        found=match.boxes[match.scores >= threshold],
        lines=(truth.name, f"{score}, IoU {one.iou:.2f}", why + again),
    )


def _of_found(one: Mistake) -> str:
    if one.iou < NEAR:
        return "nobody labelled there"
    return "badly placed" if one.iou < HIT else "a second box"


def _of_missed(one: Mistake) -> str:
    if one.score:
        return "too weak"
    if one.iou < NEAR:
        return "nothing found there"
    return "badly placed" if one.iou < HIT else "another's box"
