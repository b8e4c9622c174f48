"""The scores of forecasts as tables and lines."""

from collections.abc import Iterator

from streamvis.datasets.classes import Classes
from streamvis.runners.forecasts import COPY, LABELS, ForecastResult, Horizon, gaps_closed
from streamvis.runners.tables import Table
from streamvis.viz.numbers import decimals


def tables(result: ForecastResult, segmenter: str) -> Iterator[Table | str]:
    """Yield the scores by horizon, and the costs. segmenter: its name."""
    for horizon in result.horizons:
        yield from _of_horizon(horizon, result.video.classes, segmenter)
    found = result.report(segmenter)
    yield f"{segmenter}: {decimals(found['segmentation_ms'])} ms to segment a picture"
    for name, ms in found["forecast_ms"].items():
        share = decimals(found["forecast_of_segmentation"][name])
        yield f"{name}: {decimals(ms)} ms to forecast one, {share} of that"


def _of_horizon(horizon: Horizon, classes: Classes, segmenter: str) -> Iterator[Table | str]:
    columns = ("method", "mIoU", "gap closed", "movable mIoU", "gap closed")
    if not horizon.confusions:
        yield f"{horizon.us / 1e6:g} s ahead: the video is too short for any forecast"
    for kind, confusions in horizon.confusions.items():
        truth = "their labels" if kind == LABELS else f"the classes of {segmenter} (oracle)"
        rows = []
        for method, confusion in confusions.items():
            gap, movable = gaps_closed(confusions, method, classes)
            rows.append([method, confusion.miou(), gap, confusion.miou(classes.movable), movable])
        pictures = confusions[COPY].pictures
        title = f"{horizon.us / 1e6:g} s ahead: {pictures} pictures, against {truth}"
        yield Table(title, columns, rows)
    for label, direct in horizon.same.items():
        yield f"{label}: equals {direct} by construction (the same motion for the same time)"
    for name, one in horizon.reliability.items():
        if unsure := one.unsure():
            yield (
                f"{name}: where it forecast movable classes with a probability of 0.1 to 0.9, "
                f"{unsure.predicted:.2f} on average, they came in {unsure.observed:.2f} of places"
            )
