"""A sheet of our detector's worst mistakes on each data set, and a plot of the scores."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from streamvis.evaluation.mistakes import Mistake, mistakes
from streamvis.messages import Array
from streamvis.runners.detection import DetectionResult, LabelledPictures
from streamvis.viz.plots import precision_recall
from streamvis.viz.sheets.errors import Section, Tile, mistake_sheet

WORST = 12  # tiles of each kind and data set
NEAR, HIT = 0.1, 0.5  # IoU


def detection_sheet(results: Sequence[DetectionResult]) -> Array:
    """Draw the false positives and missed people that cost most, (H, W, 3) RGB."""
    name = next(iter(results[0].scores))
    return mistake_sheet(f"Worst mistakes of {name}, in bold", [section_of(one) for one in results])


def plot_curves(path: Path, results: Sequence[DetectionResult]) -> None:
    """Write the precision-recall curves at IoU 0.5 of all data sets and detectors."""
    recall = [i / 100 for i in range(101)]
    curves = {
        result.data.name: {name: (recall, s.curve) for name, s in result.scores.items()}
        for result in results
    }
    precision_recall(path, curves, title="Precision and recall at IoU 0.5")


def section_of(result: DetectionResult) -> Section:
    """Collect the tiles of one data set."""
    threshold = result.ours.threshold
    if threshold is None:
        return Section(result.data.name, "nobody to find, or nobody found", [])
    wrong, missed = mistakes(result.data.truth, result.matches, threshold, result.data.consecutive)
    shown = [*wrong[:WORST], *missed[:WORST]]
    pictures = _pictures(result.data, {one.picture for one in shown})
    tiles = [
        _tile(result, one, pictures[one.picture], threshold, is_found=i < len(wrong[:WORST]))
        for i, one in enumerate(shown)
    ]
    first = len(wrong[:WORST])
    false, absent = (sum(one.pictures for one in found) for found in (wrong, missed))
    note = (
        f"F1 {result.ours.f1:.3f} at score {threshold:.2f}: {false} false positives, "
        f"{absent} of {result.ours.people} people missed"
    )
    rows = [
        ("False positives, by score", tiles[:first]),
        ("Missed people, by size in view", tiles[first:]),
    ]
    return Section(result.data.name, note, [row for row in rows if row[1]])


def _pictures(data: LabelledPictures, wanted: set[int]) -> dict[int, Array]:
    """Read some of the pictures again."""
    pictures: dict[int, Array] = {}
    with closing(data.read()) as reading:
        for i, pixels in enumerate(reading):
            if i in wanted:
                pictures[i] = pixels.copy()
            if len(pictures) == len(wanted):
                break
    return pictures


def _tile(
    result: DetectionResult, one: Mistake, pixels: Array, threshold: float, is_found: bool
) -> Tile:
    truth, match = result.data.truth[one.picture], result.matches[one.picture]
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
