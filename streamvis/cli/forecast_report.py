"""What `streamvis eval forecast` says: JSON, tables, strips of pictures."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamvis.cli.forecasts import (
    COPY,
    COPY_TRUTH,
    LABELS,
    ORACLE,
    Horizon,
    Outcome,
    Told,
)
from streamvis.cli.output import put, put_table
from streamvis.cli.segmentation import or_dash, write_png
from streamvis.datasets.classes import VOID, Classes
from streamvis.evaluation.segmentation import Confusion, gap_closed

if TYPE_CHECKING:
    from streamvis.viz.scene import Row

Tally = dict[str, Confusion]  # by method


def report(outcome: Outcome, segmenter: str) -> dict[str, Any]:
    """As JSON has it."""
    segmentation = outcome.segmentation.ms
    costs = {name: outcome.cost_ms(name) for name in outcome.forecasting}
    return {
        "film": outcome.film.name,
        "fps": outcome.film.fps,
        "classes": outcome.film.classes.name,
        "segmenter": segmenter,
        "horizons": [_report_horizon(one, outcome.film.classes) for one in outcome.horizons],
        "segmentation_ms": segmentation,
        "forecast_ms": costs,
        "forecast_of_segmentation": {
            name: ms / segmentation if ms and segmentation else None for name, ms in costs.items()
        },
    }


def _report_horizon(horizon: Horizon, classes: Classes) -> dict[str, Any]:
    against = {}
    for kind, tally in horizon.tallies.items():
        methods = {}
        for method, confusion in tally.items():
            scores = asdict(confusion.scores(classes.movable))
            del scores["confusion"]
            gap, moving = gaps(tally, method, classes)
            methods[method] = {**scores, "gap_closed": gap, "movable_gap_closed": moving}
        against[kind] = {"targets": tally[COPY].pictures, "methods": methods}
    return {
        "seconds": horizon.us / 1e6,
        "off_ms": horizon.off_us / 1e3,
        "same_by_construction": horizon.alike,
        "against": against,
        "movable_reliability": {
            name: [step._asdict() for step in one.steps()] for name, one in horizon.sure.items()
        },
    }


def gaps(tally: Tally, method: str, classes: Classes) -> tuple[float | None, float | None]:
    """How much of the gap from copying to seeing a forecast closes: of all, of what moves."""
    if method in (ORACLE, COPY, COPY_TRUTH):
        return None, None
    found = []
    for some in (None, classes.movable):
        copied, ours = (tally[name].miou(some) for name in (COPY, method))
        oracle = tally[ORACLE].miou(some) if ORACLE in tally else 1.0
        found.append(gap_closed(copied, ours, oracle))
    return found[0], found[1]


def put_outcome(outcome: Outcome, segmenter: str) -> None:
    """As people read it."""
    classes = outcome.film.classes
    columns = ("by", "mIoU", "gap closed", "mIoU of what moves", "gap closed")
    for horizon in outcome.horizons:
        if not horizon.tallies:
            put(f"{horizon.us / 1e6:g} s ahead: the film is too short for any forecast")
        for kind, tally in horizon.tallies.items():
            true = "their labels" if kind == LABELS else f"what {segmenter} says of them (oracle)"
            rows = []
            for method, confusion in tally.items():
                gap, moving = gaps(tally, method, classes)
                shown = (confusion.miou(), gap, confusion.miou(classes.movable), moving)
                rows.append([method, *map(or_dash, shown)])
            title = f"{horizon.us / 1e6:g} s ahead: {tally[COPY].pictures} pictures, against {true}"
            put_table(title, columns, rows)
        for label, direct in horizon.alike.items():
            put(f"{label}: the classes of {direct}, by construction (the same motion, as long)")
        for name, one in horizon.sure.items():
            if unsure := one.unsure():
                put(
                    f"{name}: where it told what moves with a probability of 0.1 to 0.9, "
                    f"{unsure.told:.2f} in the mean, it was in {unsure.came:.2f} of places"
                )
    found = report(outcome, segmenter)
    put(f"{segmenter}: {or_dash(found['segmentation_ms'])} ms to read a picture")
    for name, ms in found["forecast_ms"].items():
        share = or_dash(found["forecast_of_segmentation"][name])
        put(f"{name}: {or_dash(ms)} ms to forecast one, {share} of that")


def write_sheet(path: Path, outcome: Outcome, segmenter: str) -> None:
    """Write strips of some targets of each horizon as a PNG."""
    from streamvis.viz.scene import strips

    classes = outcome.film.classes
    rows = [
        _row(told, horizon, classes)
        for horizon in outcome.horizons
        for told in horizon.strips.items
    ]
    title = f"{outcome.film.name}: forecasts by what {segmenter} keeps, over the picture that came"
    write_png(path, strips(title, rows, classes.names))


def _row(told: Told, horizon: Horizon, classes: Classes) -> "Row":
    from streamvis.viz.scene import Panel, Row, blended, palette_of

    palette = palette_of(classes.names)
    truth = told.came.truth
    panels = [Panel("last picture", told.last.pixels)]
    for method in (ORACLE, COPY, *(way.label for way in horizon.ways)):
        one = Confusion(classes.names, VOID)
        one.add(told.labels[method], told.labels[ORACLE] if truth is None else truth)
        name = "what came (oracle)" if method == ORACLE else method
        miou = "" if truth is None and method == ORACLE else f" {or_dash(one.miou())}"
        labels = blended(told.came.pixels, told.labels[method], palette)
        panels.append(Panel(f"{name}{miou}", labels))
    if truth is not None:
        panels.append(Panel("truth", blended(told.came.pixels, truth, palette)))
    at = told.came.media_us / 1e6
    return Row(f"{horizon.us / 1e6:g} s ahead, at {at:.2f} s", panels)
