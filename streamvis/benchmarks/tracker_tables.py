"""The results of the tracker's benchmark, as `--json` prints them and as tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from streamvis.benchmarks.tracker_accuracy import NOTE, TrackerScores
from streamvis.benchmarks.tracker_speed import (
    SpeedReport,
    StepPart,
    StepSize,
    TrackerPart,
    TrackerSize,
)
from streamvis.runners.tables import Table


def report(speed: SpeedReport, scores: Sequence[TrackerScores] | None) -> dict[str, Any]:
    """Return the report that `--json` prints."""
    return {**msgspec.to_builtins(speed), "scores": scores, "note": NOTE}


def tables(speed: SpeedReport, scores: Sequence[TrackerScores] | None) -> Iterator[Table | str]:
    """Yield the times by number of people, who was left out, and the scores."""
    yield _times("The whole tracker, CPU ms a frame", speed.tracker)
    yield _times("A step of JPDA, CPU ms, and times ours", speed.jpda_step)
    for given_up in (speed.tracker.given_up, speed.jpda_step.given_up):
        for name, why in given_up.items():
            yield f"{name} was given up: {why}"
    for name, install in speed.not_installed.items():
        yield f"{name} is not installed: {install}"
    if scores:
        columns = scores[0].__struct_fields__
        rows = [[getattr(one, key) for key in columns] for one in scores]
        rows = [["" if value is None else value for value in row] for row in rows]
        yield Table("MOTChallenge's public detections", columns, rows)
        yield NOTE


def _times(title: str, part: TrackerPart | StepPart) -> Table:
    sizes: Mapping[str, TrackerSize | StepSize] = part.sizes
    names = list(next(iter(sizes.values())).ms)
    rows = [
        [f"{people} × {at.detections}", *(_time(at, name) for name in names)]
        for people, at in sizes.items()
    ]
    growth = part.grows_as
    grows = (f"people^{growth[name]:.2f}" if name in growth else "" for name in names)
    return Table(title, ("people × detections", *names), [*rows, ["grows as", *grows]])


def _time(at: TrackerSize | StepSize, name: str) -> str:
    ms, ratios = at.ms[name], getattr(at, "times_as_fast", None)
    ratio = ratios.get(name) if ratios else None  # UNSET is false
    shown = "-" if ms is None else f"{ms:.2f}"
    return shown if ratio is None else f"{shown} = {ratio:.0f} ×"
