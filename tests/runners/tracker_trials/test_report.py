"""Reports of trials: what embeddings change, groups together, tables."""

import msgspec
import pytest

from streamvis.evaluation.trials import TrialScore
from streamvis.runners.tracker_trials.report import ALL, TrialReport, report, tables
from streamvis.runners.tracker_trials.trials import Thinning


def trial(group: str, sequence: str, kind: str, idf1: float, copy: int = 0) -> TrialScore:
    return TrialScore(
        group=group, sequence=sequence, inputs=f"simulated detections, {kind}", copy=copy,
        mota=0.5, idf1=idf1, hota=0.5, idsw=3,
    )  # fmt: skip


SCORES = [
    trial("low", "a", "boxes", 0.5),
    trial("low", "a", "embeddings", 0.7),
    trial("low", "b", "boxes", 0.5),
    trial("low", "b", "embeddings", 0.6),
    trial("high", "c", "boxes", 0.8),
    trial("high", "c", "embeddings", 0.5),
    trial("recorded", "d", "boxes", 0.5),
]


def test_what_embeddings_change_is_paired_by_sequence_and_copy():
    (result,) = report(Thinning(), [("today", SCORES)]).results
    low, high, together = result.by_embeddings
    assert (low.name, high.name, together.name) == ("low", "high", ALL)
    assert low.idf1.mean == pytest.approx(0.15)
    assert low.idf1.error == pytest.approx(0.05)
    assert high.idf1.mean == pytest.approx(-0.3)
    assert together.idf1.mean == pytest.approx(0.0)
    assert together.idf1.n == 3


def test_recorded_sequences_are_not_among_the_simulated_ones():
    (result,) = report(Thinning(), [("today", SCORES)]).results
    (boxes,) = [one for one in result.groups if one.name == ALL and one.inputs.endswith("boxes")]
    assert boxes.idf1.n == 3


def test_a_report_is_read_back_as_it_was():
    better = [msgspec.structs.replace(one, idf1=one.idf1 + 0.1) for one in SCORES]
    made = report(Thinning(), [("today", SCORES), ("x=1", better), ("x=2", SCORES)])
    assert msgspec.json.decode(msgspec.json.encode(made), type=TrialReport) == made
    assert made.choice.chosen == "x=1"
    assert "chosen on all: x=1; on the sequences left out" in list(tables(made, cells=False))[-1]
    titles = [part.title for part in tables(made, cells=True) if not isinstance(part, str)]
    assert titles[:3] == [
        "today: groups",
        "today: sequences",
        "today: with embeddings, minus without",
    ]
    assert "x=1, minus today: sequences" in titles
