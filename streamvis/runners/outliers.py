"""Out-of-distribution scores: objects that no street has are pasted in and have to be found."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import tee
from typing import Any

from streamvis.datasets.classes import VOID
from streamvis.evaluation.segmentation import Confusion, OutlierHistogram
from streamvis.messages import Array
from streamvis.runners.progress import Progress, silent
from streamvis.runners.scene_networks import SceneNetwork, published_unknown
from streamvis.runners.segmentation import StreetScenes, check_classes, lowest, nothing_labelled
from streamvis.runners.tables import Table
from streamvis.training.scenes.outlier_synthesis import OutlierObject, PastedImage, pasted


@dataclass
class OutlierResult:
    """How well one network finds out-of-distribution objects, and segments without them."""

    plain: Confusion  # of the pictures without objects
    labelled: OutlierHistogram = field(
        default_factory=OutlierHistogram
    )  # pixels without a class are left out
    everywhere: OutlierHistogram = field(
        default_factory=OutlierHistogram
    )  # these pixels count as known
    published: OutlierHistogram = field(
        default_factory=OutlierHistogram
    )  # `labelled`, of the 8-bit map
    per_picture: list[float | None] = field(default_factory=list)  # AP

    def report(self) -> dict[str, Any]:
        """Return the report that `--json` prints."""
        scores = asdict(self.plain.scores())
        del scores["confusion"]
        return {
            **asdict(self.labelled.scores()),
            "void_is_known": asdict(self.everywhere.scores()),
            "as_published": asdict(self.published.scores()) if self.published.pictures else None,
            "without_outliers": scores,
        }

    def worst(self, count: int) -> list[int]:
        """Return the numbers of the pictures with the lowest AP, lowest first."""
        return lowest(self.per_picture, count)


def with_objects(
    data: StreetScenes, objects: Sequence[OutlierObject], seed: int
) -> Iterator[tuple[Array, Array, PastedImage]]:
    """Yield every picture, its truth, and the same with an object pasted in."""
    scenes, again = tee(data)
    for (pixels, truth), one in zip(scenes, pasted(again, objects, seed), strict=True):
        yield pixels, truth, one


def score(
    data: StreetScenes,
    objects: Sequence[OutlierObject],
    networks: Mapping[str, SceneNetwork],
    seed: int,
    progress: Progress = silent,
) -> dict[str, OutlierResult]:
    """Run every network on every picture, with and without an object. seed: of the pasting."""
    for name, network in networks.items():
        check_classes(data, network.names, name)
    results = {name: OutlierResult(Confusion(data.classes.names, VOID)) for name in networks}
    pictures = with_objects(data, objects, seed)
    for pixels, truth, one in progress(pictures, data.name, len(data.scenes)):
        for name, network in networks.items():
            results[name].plain.add(network.segment(pixels).labels, truth)
            _add(results[name], network, one)
    if all(result.plain.miou() is None for result in results.values()):
        raise nothing_labelled(data)
    return results


def _add(result: OutlierResult, network: SceneNetwork, one: PastedImage) -> None:
    counted = (one.labels != VOID) | one.unknown
    picture = network.segment(one.pixels)
    unknown = network.unknown(picture)
    alone = OutlierHistogram()
    for outliers in (alone, result.labelled):
        outliers.add(unknown, one.unknown, counted)
    result.everywhere.add(unknown, one.unknown)
    if picture.seen.unknown.size:
        result.published.add(published_unknown(picture), one.unknown, counted)
    result.per_picture.append(alone.scores().ap)


def miou_difference(results: Mapping[str, OutlierResult]) -> float | None:
    """Return how much higher the first network's mIoU is than the last's; None for one alone."""
    ours, *_, other = [result.plain.miou() for result in results.values()] * 2
    return None if len(results) < 2 or ours is None or other is None else ours - other


def report(
    results: Mapping[str, OutlierResult], objects: Sequence[OutlierObject], seed: int
) -> dict[str, Any]:
    """Return the report that `--json` prints."""
    return {
        "objects": len(objects),
        "seed": seed,
        "weights": {name: result.report() for name, result in results.items()},
        "miou_difference": miou_difference(results),
    }


def tables(
    data: StreetScenes, results: Mapping[str, OutlierResult], objects: int
) -> Iterator[Table | str]:
    """Yield the scores over labelled and over all pixels, and how the mIoUs differ.

    objects: how many there were to paste.
    """
    rows: list[list[object]] = []
    for name, result in results.items():
        over = {"labelled pixels": result.labelled, "all pixels": result.everywhere}
        if result.published.pictures:
            over["as published, in 8 bits"] = result.published
        of_result: list[object] = [name, result.plain.miou()]  # only in its first row
        for pixels, histogram in over.items():
            s = histogram.scores()
            rows.append([of_result[0], pixels, s.ap, s.fpr95, s.auroc, s.unknown, of_result[1]])
            of_result = ["", ""]
    columns = ("weights", "over", "AP", "FPR95", "AUROC", "AP of chance", "mIoU without objects")
    yield Table(f"{data.name}: {len(data.scenes)} pictures, {objects} objects", columns, rows)
    difference = miou_difference(results)
    if difference is not None:
        ours, *_, other = results
        yield f"mIoU of {ours} less that of {other}: {100 * difference:+.1f} points"
