"""The scores of forecasts as tables and lines."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import mean
from typing import Any

from streamvis.datasets.classes import Classes
from streamvis.runners.forecasts import (
    COPY,
    LABELS,
    STRAIGHT,
    TURNING,
    ForecastResult,
    Horizon,
    gaps_closed,
)
from streamvis.runners.tables import Table
from streamvis.viz.numbers import decimals

PARTS = (TURNING, STRAIGHT)  # of a film, whose shares of the gap have columns of their own


def tables(results: Sequence[ForecastResult], segmenter: str) -> Iterator[Table | str]:
    """Yield the scores of each film by horizon, its costs, and the mean over several films."""
    for result in results:
        if len(results) > 1:
            yield f"{result.video.name}:"
        yield from _of_film(result, segmenter)
    if len(results) > 1:
        rows = [tuple(row.values()) for row in mean_gaps(results)]
        columns = (
            "seconds",
            "against",
            "method",
            "films",
            "gap closed",
            "movable gap closed",
            *(f"gap closed, {part}" for part in PARTS),
        )
        yield Table("Mean over films", columns, rows)


def mean_gaps(results: Sequence[ForecastResult]) -> list[dict[str, Any]]:
    """Return the mean share of the gap that each method closes, over the films that have it."""
    found: dict[tuple[float, str, str], list[list[float | None]]] = {}
    for result in results:
        for horizon in result.horizons:
            for kind, confusions in horizon.confusions.items():
                for method in confusions:
                    gaps = [
                        *gaps_closed(confusions, method, result.video.classes),
                        *_by_part(horizon, kind, method, result.video.classes),
                    ]
                    found.setdefault((horizon.us / 1e6, kind, method), []).append(gaps)
    names = ("gap_closed", "movable_gap_closed", *(f"{part}_gap_closed" for part in PARTS))
    return [
        {
            "seconds": seconds,
            "against": kind,
            "method": method,
            "films": len(gaps),
            **{
                name: _mean(column)
                for name, column in zip(names, zip(*gaps, strict=True), strict=True)
            },
        }
        for (seconds, kind, method), gaps in found.items()
    ]


def _by_part(horizon: Horizon, kind: str, method: str, classes: Classes) -> list[float | None]:
    """Return the share of the gap that a method closes where the camera turns, and elsewhere."""
    there = [horizon.parts.get(part, {}).get(kind) for part in PARTS]
    return [gaps_closed(one, method, classes)[0] if one else None for one in there]


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return mean(there) if there else None


def _of_film(result: ForecastResult, segmenter: str) -> Iterator[Table | str]:
    for horizon in result.horizons:
        yield from _of_horizon(horizon, result.video.classes, segmenter)
    found = result.report(segmenter)
    yield f"{segmenter}: {decimals(found['segmentation_ms'])} ms to segment a picture"
    for name, ms in found["forecast_ms"].items():
        share = decimals(found["forecast_of_segmentation"][name])
        yield f"{name}: {decimals(ms)} ms to forecast one, {share} of that"


def _of_horizon(horizon: Horizon, classes: Classes, segmenter: str) -> Iterator[Table | str]:
    columns = ("method", "mIoU", "gap closed", "movable mIoU", "gap closed", *PARTS)
    if not horizon.confusions:
        yield f"{horizon.us / 1e6:g} s ahead: the video is too short for any forecast"
    for kind, confusions in horizon.confusions.items():
        truth = "their labels" if kind == LABELS else f"the classes of {segmenter} (oracle)"
        rows = []
        for method, confusion in confusions.items():
            gap, movable = gaps_closed(confusions, method, classes)
            parts = _by_part(horizon, kind, method, classes)
            movable_miou = confusion.miou(classes.movable)
            rows.append([method, confusion.miou(), gap, movable_miou, movable, *parts])
        title = (
            f"{horizon.us / 1e6:g} s ahead: {confusions[COPY].pictures} pictures, against {truth}"
        )
        yield Table(title, columns, rows)
    for label, direct in horizon.same.items():
        yield f"{label}: equals {direct} by construction (the same motion for the same time)"
    for name, one in horizon.reliability.items():
        if unsure := one.unsure():
            yield (
                f"{name}: where it forecast movable classes with a probability of 0.1 to 0.9, "
                f"{unsure.predicted:.2f} on average, they came in {unsure.observed:.2f} of places"
            )
