"""Times and scores of trackers as tables: what is missing stays empty."""

from streamvis.benchmarks.tracker_accuracy import NOTE, TrackerScores
from streamvis.benchmarks.tracker_speed import (
    SpeedReport,
    StepPart,
    StepSize,
    TrackerPart,
    TrackerSize,
)
from streamvis.benchmarks.tracker_tables import report, tables

SPEED = SpeedReport(
    tracker=TrackerPart(
        sizes={
            "4": TrackerSize(detections=5, ms={"ours": 0.5, "slow": 3.0}, reported={}),
            "64": TrackerSize(detections=80, ms={"ours": 8.0, "slow": None}, reported={}),
        },
        grows_as={"ours": 1.0},
        given_up={"slow": "more than 60 s"},
    ),
    jpda_step=StepPart(
        sizes={"4": StepSize(detections=5, ms={"ours": 1.0, "b": 12.0}, times_as_fast={"b": 12.0})},
        grows_as={},
        given_up={},
    ),
    not_installed={"norfair": "pip install norfair"},
)
SCORES = TrackerScores(
    sequence="a", tracker="ours", mota=0.5, idf1=0.6, hota=0.4, idsw=3, hz=90.0, threshold=None
)


def test_times_are_rows_of_people_and_who_did_not_take_part_is_said():
    whole, step, *lines = tables(SPEED, None)
    assert list(whole.columns) == ["people × detections", "ours", "slow"]
    assert [list(row) for row in whole.rows] == [
        ["4 × 5", "0.50", "3.00"],
        ["64 × 80", "8.00", "-"],
        ["grows as", "people^1.00", ""],
    ]
    assert [list(row) for row in step.rows] == [
        ["4 × 5", "1.00", "12.00 = 12 ×"],
        ["grows as", "", ""],
    ]
    assert lines == [
        "slow was given up: more than 60 s",
        "norfair is not installed: pip install norfair",
    ]


def test_scores_have_an_empty_cell_where_there_is_no_threshold():
    *_, table, note = tables(SPEED, [SCORES])
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    assert (cells["tracker"], cells["mota"], cells["threshold"]) == ("ours", 0.5, "")
    assert note == NOTE
    found = report(SPEED, [SCORES])
    assert found["scores"] == [SCORES]
    assert "gated" not in found["jpda_step"]["sizes"]["4"]  # not measured
