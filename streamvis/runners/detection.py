"""Detection scores: detectors see the same pictures and are scored side by side."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from streamvis.datasets.coco import ImageTruth, read_coco
from streamvis.datasets.motchallenge import Sequence, read_sequences
from streamvis.errors import DataError, UsageError
from streamvis.evaluation.detection import DetectionScores, examine, truth_of
from streamvis.evaluation.mistakes import Matches
from streamvis.messages import Array
from streamvis.runners.detectors import Detector
from streamvis.runners.progress import Progress, silent
from streamvis.runners.tables import Table, table_of, with_mean

COMPARED = ("ap50", "ap", "f1", "miss_rate", "mask_ap")
SHOWN = ("people", "ap50", "ap", "ap75", "f1", "threshold", "miss_rate", "mask_ap", "mask_ap50")


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures with the boxes of the people in them."""

    name: str
    truth: list[ImageTruth]
    consecutive: bool  # frames of one video, in order
    read: Callable[[], Generator[Array, None, None]]

    @property
    def predicted(self) -> int:
        """How many of the people to be found were labelled by a network and never checked."""
        return sum(one.predicted for one in self.truth)

    @property
    def note(self) -> str | None:
        """A caution about the scores where labels are a network's; None elsewhere."""
        people = sum(one.people for one in self.truth)
        if not self.predicted:
            return None
        return (
            f"{self.predicted} of {people} people were labelled by a network and not checked by "
            "anyone: scores against them are agreement with that network, not accuracy"
        )


@dataclass(frozen=True)
class DetectionResult:
    """Scores of several detectors on one data set; the first detector is ours."""

    data: LabelledPictures
    scores: dict[str, DetectionScores]
    matches: list[Matches]  # of our detector

    @property
    def ours(self) -> DetectionScores:
        return next(iter(self.scores.values()))

    @property
    def other(self) -> tuple[str, DetectionScores] | None:
        return (*self.scores.items(), None, None)[1]

    def difference(self, key: str) -> float | None:
        """How much higher our score is than the other detector's; None without both scores."""
        if self.other is None:
            return None
        ours, other = getattr(self.ours, key), getattr(self.other[1], key)
        return None if ours is None or other is None else ours - other

    def report(self) -> dict[str, Any]:
        """Our scores as JSON holds them, with the other detector's and the differences."""
        found = {
            **asdict(self.ours),
            "predicted_labels": self.data.predicted,
            "note": self.data.note,
        }
        if self.other is None:
            return found
        name, scores = self.other
        differences = {key: self.difference(key) for key in COMPARED}
        return {**found, "other": {"name": name, **asdict(scores)}, "difference": differences}


def read_datasets(paths: Iterable[Path], hold_out: Path | None) -> list[LabelledPictures]:
    """Read MOTChallenge sequences and COCO folders.

    hold_out: a training file, or the directory of a training; only the pictures that it held out
    are kept. Errors: DataError, before any detector runs, where nobody is labelled or a picture is
    missing.
    """
    found: list[tuple[Path, LabelledPictures]] = []
    for path in paths:
        if (path / "annotations.json").is_file():
            found.append((path, _coco_folder(path, hold_out)))
            continue
        for one in read_sequences(path):
            if hold_out:
                raise UsageError(
                    f"--hold-out is for folders with annotations.json; {one.folder} is a "
                    "MOTChallenge sequence, which is scored whole"
                )
            data = LabelledPictures(one.name, truth_of(one), True, frames_of(one))
            found.append((one.folder, data))
    for path, data in found:
        if not any(one.people for one in data.truth):
            raise DataError(
                f"{path}: nobody to be found is labelled in its {len(data.truth)} pictures, so "
                "there is nothing to score on"
            )
    return _named(found)


def _named(found: list[tuple[Path, LabelledPictures]]) -> list[LabelledPictures]:
    """Give data sets of the same name their paths for names."""
    names = [data.name for _, data in found]
    paths = [path.resolve() for path, _ in found]
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(f"{path} is given twice; give each data set once")
    return [
        data if names.count(data.name) == 1 else replace(data, name=str(path))
        for path, data in found
    ]


def _coco_folder(path: Path, hold_out: Path | None) -> LabelledPictures:
    truth = read_coco(path / "annotations.json")
    kept = _held_out(path, hold_out)
    truth = truth if kept is None else [t for t in truth if Path(t.name).as_posix() in kept]
    absent = [t.name for t in truth if not (path / "images" / t.name).is_file()]
    if absent:
        raise DataError(
            f"{path / 'annotations.json'} lists {len(truth)} pictures, and {len(absent)} of them "
            f"are not there; the first is {path / 'images' / absent[0]}"
        )
    return LabelledPictures(path.resolve().name, truth, False, _reader(path / "images", truth))


def score(
    data: LabelledPictures, detectors: Mapping[str, Detector], progress: Progress = silent
) -> DetectionResult:
    """Run every detector on every picture, reading each picture once."""
    found = [
        [detect(picture) for detect in detectors.values()]
        for picture in progress(data.read(), data.name, len(data.truth))
    ]  # by picture, then by detector
    results = [examine(data.truth, [each[i] for each in found]) for i in range(len(detectors))]
    scores = {name: one for name, (one, _) in zip(detectors, results, strict=True)}
    return DetectionResult(data, scores, results[0][1])


def tables(results: list[DetectionResult]) -> Iterator[Table]:
    """Yield the scores, and the AP by height of people."""
    if any(result.other for result in results):
        rows = [row for result in results for row in _compared(result)]
        yield Table("", ("data", "detector", *COMPARED), [*rows, *_mean_compared(results)])
    else:
        yield with_mean(table_of("", {one.data.name: one.ours for one in results}, SHOWN, "data"))
    by_height = [
        [result.data.name, name, *scores.ap_by_height.values()]
        for result in results
        for name, scores in result.scores.items()
    ]
    bands = results[0].ours.ap_by_height
    yield with_mean(Table("AP by height in pixels", ("data", "detector", *bands), by_height), 2)


def _compared(result: DetectionResult) -> Iterator[list[str | None]]:
    """Yield a row for each detector, and one for how much higher our scores are."""
    for name, scores in result.scores.items():
        values = (getattr(scores, key) for key in COMPARED)
        yield [result.data.name, name, *(None if v is None else f" {v:.3f}" for v in values)]
    if result.other:
        differences = map(result.difference, COMPARED)
        yield ["", "difference", *(None if v is None else f"{v:+.3f}" for v in differences)]


def _mean_compared(results: list[DetectionResult]) -> Iterator[list[str | None]]:
    """Yield the mean over data sets of each detector."""
    rows = [
        (result.data.name, name, *(getattr(scores, key) for key in COMPARED))
        for result in results
        for name, scores in result.scores.items()
    ]
    table = with_mean(Table("", ("data", "detector", *COMPARED), rows), 2)
    for data, name, *values in table.rows[len(rows) :]:
        yield [str(data), str(name), *(None if v is None else f" {v:.3f}" for v in values)]


def _held_out(path: Path, hold_out: Path | None) -> set[str] | None:
    """Return the names of the pictures that were held out; DataError without any."""
    if hold_out is None:
        return None
    from streamvis.training.detector.crowd_dataset import read_people
    from streamvis.training.detector.recipe import recipe_of, split

    recipe = recipe_of(hold_out)
    pictures = read_people(path)
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
        from streamvis.datasets.pictures import read_picture  # OpenCV

        for one in truth:
            yield read_picture(folder / one.name, one.size)

    return read


def frames_of(sequence: Sequence) -> Callable[[], Generator[Array, None, None]]:
    """Return a function that reads a sequence's frames in order."""

    def read() -> Generator[Array, None, None]:
        from streamvis.sources import open_source, resolve, whole

        (spec,) = resolve([str(sequence.folder)])
        source = open_source(spec)
        try:
            for picture in whole(source):
                yield picture.pixels
        finally:
            source.close()

    return read
