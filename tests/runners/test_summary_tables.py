"""The summary of a run as tables."""

import pytest

from streamvis.messages import Busiest, Findings, LongestStay, MeanForecastScore
from streamvis.runners.summary_tables import counts_tables, findings_table, moment, tables
from streamvis.runtime.metrics import Quantiles, SourceReport, StageReport, Summary

PEOPLE = Findings(
    people=12,
    tracks=14,
    merges=2,
    splits=0,
    longest=LongestStay(track="gate:1:3", seconds=75.25, from_us=0),
    busiest=Busiest(people=5, media_us=3_725_400_000),
)
SCENES = Findings(
    unknown=0,
    forecasts={
        200_000: MeanForecastScore(count=40, miou=0.685),
        600_000: MeanForecastScore(count=38, miou=0.6),
    },
)


def report_of(name, found):
    return SourceReport(
        id=name,
        label=name,
        decoded=50,
        frames_promised=None,
        admitted=45,
        dropped={"stale": 3, "full": 2},
        poisoned=0,
        decode_errors=1,
        restarts=0,
        ending="eof",
        error="",
        fps=1.0,
        latency_ms=Quantiles(p50=20.4, p99=99.6),
        found=found,
    )


def summary_of(**found):
    sources = [report_of(name, one) for name, one in found.items()]
    service = Quantiles(p50=3.25, p95=7.5, p99=8.5)
    stages = [
        StageReport(
            name="detect", count=40, skipped=5, restarts=1, queue=0, fps=12.5, service_ms=service
        )
    ]
    return Summary(wall_s=1.0, sources=sources, stages=stages)


def cells(**found):
    """The cells of each source by column."""
    (table,) = findings_table(summary_of(**found))
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_people():
    assert cells(gate=PEOPLE) == [
        {
            "source": "gate",
            "people": 12,
            "tracks": 14,
            "merges": 2,
            "splits": 0,  # there is a tracker, and it has split nobody
            "longest stay": "gate:1:3, 75.2 s",
            "busiest moment": "5 at 1:02:05.4",
        }
    ]


def test_scenes_have_no_columns_of_people():
    scores = "0.2 s: 0.685 of 40; 0.6 s: 0.600 of 38"
    expected = {"source": "drive", "unknown objects": 0, "mIoU of forecasts": scores}
    assert cells(drive=SCENES) == [expected]


def test_a_source_that_failed_has_no_values_and_a_run_without_publisher_no_table():
    _, gone = cells(gate=PEOPLE, gone=Findings())
    assert gone.pop("source") == "gone"
    assert set(gone.values()) == {None}
    assert list(findings_table(summary_of(gate=None))) == []


def test_actions():
    found = Findings(actions={"fight": 3, "run": 1})
    assert cells(gate=found) == [{"source": "gate", "actions": "fight 3, run 1"}]
    fallen = Findings(postures={"fallen": 1})
    assert cells(gate=fallen) == [{"source": "gate", "postures": "fallen 1"}]
    assert cells(gate=Findings(actions={})) == [{"source": "gate", "actions": "none"}]


def test_zones_and_lines_have_a_row_each():
    found = Findings(zones={"door": 3, "yard": 0}, lines={"gate": (5, 0)})
    zones, lines = counts_tables(summary_of(a=found, b=Findings(zones={}, lines={}), c=Findings()))
    assert zones.columns == ("source", "zone", "visits")
    assert list(zones.rows) == [("a", "door", 3), ("a", "yard", 0)]
    assert lines.columns == ("source", "line", "in", "out")
    assert list(lines.rows) == [("a", "gate", 5, 0)]
    assert list(counts_tables(summary_of(a=PEOPLE))) == []


def test_frames_and_stages_have_a_row_each():
    sources, stages = tables(summary_of(gate=None))
    (row,) = sources.rows
    assert dict(zip(sources.columns, row, strict=True)) == {
        "source": "gate",
        "decoded": 50,
        "admitted": 45,
        "dropped": 5,
        "errors": 1,
        "ending": "eof",
        "fps": 1.0,
        "p50 ms": 20,
        "p99 ms": 100,
    }
    assert list(stages.rows) == [("detect", 40, 5, 1, 12.5, 3.25, 7.5, 8.5)]


@pytest.mark.parametrize(
    ("media_us", "capture_us", "told"),
    [
        (0, 0, "0:00:00.0"),
        (61_250_000, 0, "0:01:01.2"),
        (59_990_000, 0, "0:01:00.0"),
        (36_000_000_000, 0, "10:00:00.0"),
        (5, 1_795_939_200_000_000, "2026-11-29 08:00:00+00:00"),
    ],
)
def test_a_moment_is_told_by_the_wall_clock_where_it_is_known(
    monkeypatch, media_us, capture_us, told
):
    monkeypatch.setenv("TZ", "UTC")
    assert moment(media_us, capture_us) == told
