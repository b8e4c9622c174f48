"""Consistency of the tracker on sequences, as JSON and as tables."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from streamvis.config import Jipda
from streamvis.evaluation.consistency import (
    Consistency,
    NormalisedErrors,
    concatenated,
    consistency,
)
from streamvis.evaluation.mot import COMBINED
from streamvis.runners.tables import Table
from streamvis.runners.track_beliefs import observe
from streamvis.runners.tracking import TrackingResult

ERRORS = ("tracks", "n", "mean", "error", "low", "high", "median", "beyond")


def measure(results: Sequence[TrackingResult], config: Jipda) -> dict[str, Consistency]:
    """Track each sequence again and compare with the truth; all together as COMBINED at the end.

    Of several sequences in different state spaces, components of COMBINED are a mixture of units.
    """
    seen = {one.sequence.name: observe(one.sequence, config, one.inputs) for one in results}
    found = {name: consistency(beliefs) for name, beliefs in seen.items()}
    return {**found, COMBINED: consistency(concatenated(seen.values()))}


def as_json(found: Consistency) -> object:
    """Return plain values, as `--json` prints them."""
    return msgspec.to_builtins(found)


def tables(measured: Mapping[str, Consistency]) -> Iterator[Table]:
    """Yield errors of each sequence, then components and calibration of all together."""
    together = measured[COMBINED]
    if len(measured) == 2:  # one sequence
        measured = {name: one for name, one in measured.items() if name != COMBINED}
    rows = [row for name, found in measured.items() for row in _errors(name, found)]
    yield Table(
        "Consistency: squared errors over their covariance and degrees of freedom; 1 is consistent",
        ("name", "of", "tracks that are", *ERRORS),
        rows,
    )
    rows = [
        [name, key, one.nis, one.nees, one.detections, one.innovation_correlation, *one.correlation]
        for name, found in measured.items()
        for key, one in found.components.items()
    ]
    lags = next(iter(next(iter(measured.values())).components.values())).lag_s
    yield Table(
        "Components; correlation of innovations with the next, of detection errors after a time",
        ("name", "component", "NIS", "NEES", "detections", "next", *(f"{lag:g} s" for lag in lags)),
        rows,
    )
    yield _calibration(together)
    yield _unseen(together)


def _errors(name: str, found: Consistency) -> Iterator[list[object]]:
    yield [name, "NIS", "seen", *_cells(found.nis)]
    for group, one in found.groups.items():
        if one.nees.n:
            yield [name, "NEES", group, *_cells(one.nees)]
    everyone = found.groups["all"].velocity
    if everyone.n:
        yield [name, "NEES of velocity", "all", *_cells(everyone)]


def _cells(errors: NormalisedErrors) -> list[object]:
    return [getattr(errors, key) for key in ERRORS]


def _calibration(found: Consistency) -> Table:
    rows = [
        [group, f"{one.low:.1f}-{one.high:.1f}", one.n, one.existence, one.right]
        for group, of in found.groups.items()
        for one in of.calibration
        if one.n
    ]
    return Table(
        "Probability of existence r, and the share of tracks that are on a person (IoU 0.5)",
        ("tracks that are", "r from-to", "n", "r", "right"),
        rows,
    )


def _unseen(found: Consistency) -> Table:
    rows = [
        [
            f"{one.low_s:g} s or longer"
            if one.high_s is None
            else f"{one.low_s:g}-{one.high_s:g} s",
            "at the edge" if one.edge else "inside",
            one.n,
            one.existence,
            one.right,
            one.nees.mean,
            one.nees.median,
        ]
        for one in found.unseen
        if one.n
    ]
    columns = ("not seen for", "where", "n", "r", "right", "NEES", "median")
    return Table("Tracks that are not seen", columns, rows)
