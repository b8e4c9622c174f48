"""The numbers of a report: after corrections, over hours, epochs and runs."""

from collections import Counter
from contextlib import closing

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zone_logs import (
    HOUR,
    SECOND,
    begin,
    cross,
    end,
    enter,
    leave,
    move,
    past,
    revise,
    revise_line,
    rows_of,
    update,
    visit,
    write_log,
)

from streamvis.errors import DataError, UsageError
from streamvis.events.log import Cursor, LogWriter, Row
from streamvis.events.merge import merge
from streamvis.events.source_events import Restart, SourceEpoch
from streamvis.runners.zone_report.files import presence
from streamvis.runners.zone_report.report import Options, report_of
from streamvis.runners.zone_report.tables import (
    count_rows,
    dwell_rows,
    json_text,
    number_rows,
    tables,
)
from streamvis.stages.zones.events import ZoneLayoutSet
from streamvis.zone_layout import Line, Zone, ZoneLayout

WALL = 1_796_000_000 * SECOND  # 2026-11-30T00:53:20Z: 400 s before a full hour
S = SECOND


def counts_of(path, **options):
    """(hour, name, event, direction, reason) -> count."""
    with report_of(path, Options(**options)) as report:
        return {
            (hour, name, event, direction, reason): count
            for _, _, hour, _, name, event, direction, reason, _, count in count_rows(report)
        }


def numbers_of(path, what, **options):
    """(hour, zone) -> (seconds, mean, most, expected mean)."""
    with report_of(path, Options(**options)) as report:
        rows = number_rows(getattr(report, what))
        return {(hour, zone): tuple(rest) for _, _, hour, zone, *rest in rows}


def test_events_count_in_the_hour_in_which_they_happened(tmp_path):
    path = write_log(
        tmp_path / "events.db",
        [
            (402 * S, enter("door", "cam1:1:1", 399 * S)),
            (402 * S, cross("gate", "cam1:1:1", 401 * S)),
            (500 * S, cross("gate", "cam1:1:1", 499 * S, "right_to_left")),
            (500 * S, leave("door", "cam1:1:1", 399 * S, 499 * S)),
        ],
        capture_us=WALL,
    )
    assert counts_of(path) == {
        ("2026-11-30T00:00Z", "door", "entry", "", ""): 1,
        ("2026-11-30T01:00Z", "door", "exit", "", "left"): 1,
        ("2026-11-30T01:00Z", "gate", "crossing", "left_to_right", ""): 1,
        ("2026-11-30T01:00Z", "gate", "crossing", "right_to_left", ""): 1,
    }


def test_without_a_wall_clock_hours_are_those_of_media_time(tmp_path):
    path = write_log(tmp_path / "events.db", [(HOUR + S, cross("gate", "cam1:1:1", HOUR - 1))])
    assert counts_of(path) == {("0:00", "gate", "crossing", "left_to_right", ""): 1}


def test_corrections_take_back_what_was_counted(tmp_path):
    two = (visit("cam1:1:1", 10 * S, 20 * S, "lost"), visit("cam1:1:2", 21 * S))
    path = write_log(
        tmp_path / "events.db",
        [
            (10 * S, enter("door", "cam1:1:1", 10 * S)),
            (20 * S, leave("door", "cam1:1:1", 10 * S, 20 * S, "lost")),
            (21 * S, enter("door", "cam1:1:2", 21 * S)),
            (30 * S, revise("door", two, (visit("cam1:1:1", 10 * S),))),
            (50 * S, leave("door", "cam1:1:1", 10 * S, 50 * S)),
            (51 * S, cross("gate", "cam1:1:1", 51 * S)),
            (52 * S, revise_line("gate", (past("cam1:1:1", 51 * S),), ())),
        ],
    )
    assert counts_of(path) == {
        ("0:00", "door", "entry", "", ""): 1,
        ("0:00", "door", "exit", "", "left"): 1,
    }
    with report_of(path, Options()) as report:
        ((_, _, _, visits, cut, mean, *_, most),) = dwell_rows(report)
        assert (visits, cut, mean, most) == (1, 0, 40.0, 40.0)


changes = st.lists(
    st.tuples(st.integers(0, 3 * 3600), st.integers(0, 3600), st.booleans(), st.integers(0, 4)),
    max_size=12,
)


@given(changes)
@settings(max_examples=25)
def test_corrected_counts_are_those_of_the_visits_that_are_left(tmp_path_factory, rows):
    """Visits begin, end, and some are replaced by one of other times."""
    events, left = [], []
    for number, (start, length, replaced, shift) in enumerate(rows):
        name, now_us = f"cam1:1:{number}", (number + 1) * 20_000 * S
        a, b = start * S, (start + length) * S
        events += [(now_us, enter("door", name, a)), (now_us, leave("door", name, a, b))]
        final = (a, b)
        if replaced:
            final = (a + shift * HOUR, b + shift * HOUR)
            events.append((now_us, revise("door", (visit(name, a, b),), (visit(name, *final),))))
        left.append(final)
    path = write_log(tmp_path_factory.mktemp("log") / "events.db", events)
    expected = Counter((f"{a // HOUR}:00", "entry") for a, _ in left)
    expected += Counter((f"{b // HOUR}:00", "exit") for _, b in left)
    found = {(hour, event): n for (hour, _, event, _, _), n in counts_of(path).items()}
    assert found == dict(expected)


def test_stays_that_are_cut_short_have_no_part_in_quantiles(tmp_path):
    path = write_log(
        tmp_path / "events.db",
        [
            (10 * S, leave("door", "cam1:1:1", 0, 10 * S)),
            (20 * S, leave("door", "cam1:1:2", 0, 20 * S, "lost")),
            (30 * S, leave("door", "cam1:1:3", 0, 30 * S, "eof")),
            (30 * S, leave("door", "cam1:1:4", 0, 30 * S, "layout")),
        ],
    )
    with report_of(path, Options()) as report:
        ((_, _, _, visits, cut, mean, *_, most),) = dwell_rows(report)
        assert (visits, cut, mean, most) == (2, 2, 15.0, 20.0)


def test_occupancy_is_weighted_by_time(tmp_path):
    path = write_log(
        tmp_path / "events.db",
        [
            (0, update("door", 0)),
            (100 * S, update("door", 3, 2.5)),
            (200 * S, update("door", 1)),
            (500 * S, update("door", 1)),
        ],
        capture_us=WALL,
    )
    assert numbers_of(path, "occupancy") == {
        ("2026-11-30T00:00Z", "door"): (400.0, 1.25, 3, 1.125),  # (0·100 + 3·100 + 1·200) / 400
        ("2026-11-30T01:00Z", "door"): (100.0, 1.0, 1, 1.0),
    }


def test_a_zone_that_is_removed_holds_nobody(tmp_path):
    path = write_log(
        tmp_path / "events.db",
        [
            (0, update("door", 1)),
            (10 * S, ZoneLayoutSet(ZoneLayout())),
            (60 * S, move("cam1:1:1")),
        ],
    )
    assert numbers_of(path, "occupancy")["0:00", "door"][0] == 10.0


DOOR, YARD = (
    Zone(name=name, polygon=((0.0, 0.0), (0.5, 0.0), (0.5, 0.5))) for name in ("door", "yard")
)
GATE = Line(name="gate", start=(0.0, 0.5), end=(1.0, 0.5))


def test_a_zone_is_empty_before_its_first_visitor_and_after_it_was_changed(tmp_path):
    wider = msgspec.structs.replace(DOOR, outside=True)
    path = write_log(
        tmp_path / "events.db",
        [
            (0, ZoneLayoutSet(ZoneLayout(zones=(DOOR,)))),
            (30 * S, enter("door", "cam1:1:1", 30 * S)),
            (40 * S, ZoneLayoutSet(ZoneLayout(zones=(YARD, DOOR)))),  # the door goes on
            (60 * S, ZoneLayoutSet(ZoneLayout(zones=(YARD, wider)))),
            (90 * S, move("cam1:1:1")),
        ],
    )
    found = numbers_of(path, "occupancy")
    assert found["0:00", "door"] == (90.0, round(30 / 90, 4), 1, round(30 / 90, 4))
    assert found["0:00", "yard"] == (50.0, 0.0, 0, 0.0)


def test_a_zone_and_a_line_without_an_event_are_in_the_tables(tmp_path):
    layout = ZoneLayout(zones=(DOOR, YARD), lines=(GATE,))
    path = write_log(
        tmp_path / "events.db",
        [
            (0, ZoneLayoutSet(layout)),
            (S, enter("door", "cam1:1:1", S)),
            (9 * S, leave("door", "cam1:1:1", S, 9 * S)),
            (9 * S, enter("door", "cam1:1:2", 9 * S)),
            (9 * S, leave("door", "cam1:1:2", 9 * S, 9 * S, "eof")),
        ],
    )
    with report_of(path, Options()) as report:
        zones, lines, hours = tables(report)
    assert [row[1:7] for row in zones.rows] == [  # entries, and how the visits ended
        ("door", "person", 2, 1, 0, 1),
        ("yard", "person", 0, 0, 0, 0),
    ]
    assert [row[4:] for row in hours.rows] == [
        ("entry", "", "", 2),
        ("exit", "", "eof", 1),
        ("exit", "", "left", 1),
    ]
    assert [row[1:] for row in lines.rows] == [("gate", "person", 0, 0)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(112.4, "112 person-seconds"), (180, "3.0 person-minutes"), (9000, "2.5 person-hours")],
)
def test_presence_is_in_a_unit_of_which_there_are_some(seconds, text):
    assert presence(seconds) == text


def test_a_queue_is_who_is_slow_in_the_zone(tmp_path):
    path = write_log(
        tmp_path / "events.db",
        [
            (0, update("door", 0)),
            (0, begin("cam1:1:1", speed=0.1)),
            (0, begin("cam1:1:2", speed=1.0)),
            (0, begin("cam1:1:3", speed=0.0)),  # never in the zone
            (10 * S, enter("door", "cam1:1:1", 10 * S)),
            (10 * S, enter("door", "cam1:1:2", 10 * S)),
            (20 * S, move("cam1:1:2", speed=0.2)),
            (30 * S, move("cam1:1:1", speed=0.5)),
            (40 * S, leave("door", "cam1:1:2", 10 * S, 40 * S)),
            (50 * S, end("cam1:1:1", 50 * S)),
        ],
    )
    # 10 s nobody, 10 s one, 10 s two, 10 s one, 10 s nobody
    assert numbers_of(path, "queues") == {("0:00", "door"): (50.0, 0.8, 2, 0.8)}
    assert numbers_of(path, "queues", queue_speed=2.0)["0:00", "door"][:3] == (50.0, 1.4, 2)


def test_without_a_ground_plane_speeds_are_heights_a_second(tmp_path):
    events = [
        (0, begin("cam1:1:1", speed_px=20.0)),  # of a box 50 px high: 0.4 heights/s
        (0, enter("door", "cam1:1:1", 0)),
        (10 * S, move("cam1:1:1", speed_px=10.0)),
        (20 * S, move("cam1:1:1", speed_px=10.0)),
    ]
    path = write_log(tmp_path / "events.db", events)
    assert numbers_of(path, "queues") == {("0:00", "door"): (20.0, 0.5, 1, 0.5)}
    with report_of(path, Options()) as report:
        assert report.sources["cam1"].units == {"heights/s"}


def test_a_file_that_begins_again_is_another_stream_epoch(tmp_path):
    """Its media time begins at 0 again; nothing holds from one epoch to the next."""
    path = write_log(
        tmp_path / "events.db",
        [
            (0, update("door", 1)),
            (10 * S, move("cam1:1:1")),
            (10 * S, SourceEpoch(Restart(2, "resumed"))),
            (0, update("door", 2)),
            (30 * S, move("cam1:2:1")),
        ],
    )
    assert numbers_of(path, "occupancy") == {("0:00", "door"): (40.0, 1.75, 2, 1.75)}


def test_of_several_runs_the_latest_is_reported(tmp_path):
    path = tmp_path / "events.db"
    write_log(path, [(S, cross("gate", "cam1:1:1", S))] * 3, epoch="e1")
    write_log(path, [(S, cross("gate", "cam1:1:1", S))], epoch="e2", first=3)
    assert list(counts_of(path).values()) == [1]


def test_sources_are_apart(tmp_path):
    path = tmp_path / "events.db"
    write_log(path, [(S, cross("gate", "cam1:1:1", S))], source="cam1")
    write_log(path, [(S, cross("gate", "cam2:1:1", S))] * 2, source="cam2")
    with report_of(path, Options()) as report:
        assert [(row[0], row[-1]) for row in count_rows(report)] == [("cam1", 1), ("cam2", 2)]
    assert list(counts_of(path, source="cam2").values()) == [2]
    with pytest.raises(UsageError, match="cam1, cam2"):
        counts_of(path, source="cam3")


def test_a_damaged_event_is_one_line(tmp_path):
    path = write_log(tmp_path / "events.db", [])
    log = LogWriter(path)
    log.commit([Row("cam1", 7, 1, "track.update", 0, b'{"time": 3}')], [])
    log.close()
    with pytest.raises(DataError, match="event 7 of 'cam1' is damaged"):
        counts_of(path)


def test_a_log_without_events_has_no_tables(tmp_path):
    path = write_log(tmp_path / "events.db", [])
    with report_of(path, Options()) as report:
        assert not list(tables(report))
        assert not report.has_zones
        assert "".join(json_text(report)).count("[]") >= 4


def test_a_log_that_is_being_written_is_reported_as_far_as_it_is(tmp_path):
    """The writer has the file open in WAL mode, and goes on meanwhile."""
    path = tmp_path / "events.db"
    rows = list(rows_of([(n * S, cross("gate", "cam1:1:1", n * S)) for n in range(20)]))
    with closing(LogWriter(path)) as log:
        log.commit(rows[:10], [Cursor("cam1", "e1", 0, 10, "", b"")])
        assert list(counts_of(path).values()) == [10]
        with report_of(path, Options()) as report:
            log.commit(rows[10:], [Cursor("cam1", "e1", 0, 20, "", b"")])
            assert [row[-1] for row in count_rows(report)] == [10]
        assert list(counts_of(path).values()) == [20]


def test_corrections_of_what_is_evicted_leave_no_negative_counts(tmp_path):
    gone = (visit("cam1:1:1", 10 * S, 20 * S),)
    path = write_log(
        tmp_path / "events.db",
        [
            (HOUR, revise("door", gone, (visit("cam1:1:2", 10 * S, 25 * S),))),
            (HOUR, revise_line("gate", (past("cam1:1:1", 15 * S),), ())),
        ],
        first=1000,
    )
    assert counts_of(path) == {}
    with report_of(path, Options()) as report:
        assert all(row[3] >= 0 for row in dwell_rows(report))
        assert "".join(json_text(report))


def test_the_report_of_a_merged_log_has_what_those_of_its_parts_have(tmp_path):
    parts = []
    for n, name in enumerate(("cam1", "cam2", "cam3")):
        timed = [
            (402 * S, enter("door", f"{name}:1:1", 399 * S)),
            (402 * S + n, cross("gate", f"{name}:1:1", 401 * S)),
            (500 * S, leave("door", f"{name}:1:1", 399 * S, (450 + n) * S)),
        ]
        path = tmp_path / f"{name}.db"
        parts.append(write_log(path, timed, source=name, epoch=f"e{n}", capture_us=WALL))
    merge(tmp_path / "all.db", parts)

    def read(path):
        with report_of(path, Options()) as report:
            assert not report.older_runs
            return Counter([*count_rows(report), *dwell_rows(report)])

    assert read(tmp_path / "all.db") == sum(map(read, parts), Counter())
