"""The way of a person before the tracker was sure of the track."""

import msgspec
import numpy as np
import pytest

from streamvis.messages import Findings, Frame, Packet, SourceInfo
from streamvis.stages.zones.deriver import ZonesDeriver
from streamvis.stages.zones.events import LineCross, LineRevise, ZoneEnter, ZoneRevise, ZoneUpdate
from streamvis.stages.zones.machine import ZoneMachine
from streamvis.stages.zones.observed import Observed, passed
from streamvis.stages.zones.occupancy import ReportSettings
from streamvis.zone_layout import Line, Zone, ZoneLayout

SIZE = (200, 100)
GATE = Line(name="gate", start=(0.25, 0.0), end=(0.25, 1.0), settle_s=0.2)  # x = 50
ROOM = Zone(name="room", polygon=((0.2, 0.0), (0.9, 0.0), (0.9, 1.0), (0.2, 1.0)))  # 40 to 180
SPEED = 80.0  # px/s to the right
FPS = 25


def frame(n: int, x: float, *, first: int, number: int = 1, seen: bool = True) -> Observed:
    return msgspec.structs.replace(
        passed(n * 1_000_000 // FPS, SIZE),
        ids=np.array([number]),
        boxes=np.array([[x - 5, 30.0, x + 5, 50.0]]),
        seen=np.array([seen]),
        p_exist=np.array([0.9]),
        first_us=np.array([first * 1_000_000 // FPS]),
        variance=np.ones((1, 4)),
        velocity=np.array([[SPEED, 0.0]]),
        ground=np.full((1, 2), np.nan),
        ground_velocity=np.full((1, 2), np.nan),
        ground_variance=np.full(1, np.nan),
    )


def events(reported: int, *, first: int = 0, layout=None, until: int = 25, machine=None):
    """Walk from x = 30, detected from frame `first` on and reported from `reported` on."""
    layout = layout or ZoneLayout(zones=(ROOM,), lines=(GATE,))
    machine = machine or ZoneMachine("a", layout, ReportSettings(), 10_000_000)
    steps = [
        machine.step(frame(n, 30 + SPEED * n / FPS, first=first)) for n in range(reported, until)
    ]
    return [event for found in steps for event in found]


def enters(found):
    return [(one.zone.at_us, one.zone.seen_outside) for one in found if isinstance(one, ZoneEnter)]


def crosses(found):
    return [(e.line.direction, e.line.at_us) for e in found if isinstance(e, LineCross)]


def test_a_track_that_is_reported_late_has_the_events_of_one_that_is_not():
    at_once, late = events(0), events(9)  # at 9 it is at x = 58.8, beyond the line
    assert enters(at_once) == [(pytest.approx(125_000, abs=2000), True)]
    assert crosses(at_once) == [("right_to_left", pytest.approx(250_000, abs=2000))]
    assert enters(late) == [(pytest.approx(125_000, abs=2000), True)]
    assert crosses(late) == [("right_to_left", pytest.approx(250_000, abs=2000))]
    assert not [one for one in late if isinstance(one, ZoneRevise)]


@pytest.mark.parametrize(("start", "counted"), [(6, 1), (0, 0)])  # 0.24 s after the media begin
def test_a_way_is_continued_before_the_first_detection_but_not_before_the_media(start, counted):
    machine = ZoneMachine("a", ZoneLayout(lines=(GATE,)), ReportSettings(), 10_000_000)
    x = 49 - SPEED * start / FPS  # first detected within the band, and reported beyond the line
    walk = [frame(n, x + SPEED * n / FPS, first=start) for n in range(start + 2, start + 20)]
    found = [event for one in walk for event in machine.step(one)]
    cut_us = (start / FPS + 1 / SPEED) * 1e6
    assert crosses(found) == [("right_to_left", pytest.approx(cut_us, abs=2000))] * counted


def test_who_is_hidden_for_seconds_after_the_first_detections_has_crossed_too():
    late = events(40, until=60)  # reported after 1.6 s
    assert enters(late) == enters(events(0))
    assert crosses(late) == crosses(events(0))


def test_who_was_detected_first_long_ago_begins_with_the_report():
    late = events(80, until=100)  # 3.2 s after the first detection
    assert crosses(late) == []
    assert enters(late) == []  # it is at x = 286, beyond the zone


def test_zones_that_publish_at_once_are_not_corrected_for_it():
    now = msgspec.structs.replace(ROOM, enter_s=0.0)
    found = events(9, layout=ZoneLayout(zones=(now,), lines=(GATE,)))
    assert enters(found) == [(360_000, False)]
    assert not [one for one in found if isinstance(one, ZoneRevise)]


@pytest.mark.parametrize(("until", "counted"), [(11, 0), (13, 1)])  # 0.04 and 0.12 s
def test_a_track_that_ends_soon_begins_earlier_where_its_velocity_is_known(until, counted):
    machine = ZoneMachine("a", ZoneLayout(lines=(GATE,)), ReportSettings(), 10_000_000)
    found = events(9, until=until, machine=machine)
    assert crosses(found) == []
    gone = msgspec.structs.replace(passed(600_000, SIZE), ended=(1,))
    assert len(crosses(machine.step(gone))) == counted


def test_a_young_track_that_is_merged_begins_earlier():
    machine = ZoneMachine("a", ZoneLayout(lines=(GATE,)), ReportSettings(), 10_000_000)
    found = [e for n in range(9, 14) for e in machine.step(frame(n, 30 + SPEED * n / FPS, first=0))]
    now = frame(14, 30 + SPEED * 14 / FPS, first=0, number=2)
    found += machine.step(msgspec.structs.replace(now, ended=(1,), merges=((1, 2),)))
    assert crosses(found) == []
    (revised,) = (one.line for one in found if isinstance(one, LineRevise))
    assert (revised.was, len(revised.now), revised.out_total) == ((), 1, 1)


@pytest.mark.parametrize("stop", range(10, 20))
def test_a_machine_that_goes_on_from_its_state_has_the_same_events(stop):
    layout = ZoneLayout(zones=(ROOM,), lines=(GATE,))
    first = ZoneMachine("a", layout, ReportSettings(), 10_000_000)
    before = events(9, until=stop, machine=first)
    second = ZoneMachine("a", ZoneLayout(), ReportSettings(), 10_000_000)
    second.restore(first.state())
    after = [
        event
        for n in range(stop, 25)
        for event in second.step(frame(n, 30 + SPEED * n / FPS, first=0))
    ]
    assert before + after == events(9)


def test_zones_are_published_without_forecasts_too():
    updates = [one for one in events(0, until=60) if isinstance(one, ZoneUpdate)]
    assert len(updates) == 3  # at once, and once in a second


def test_who_is_beyond_a_line_when_the_source_ends_has_crossed_it():
    machine = ZoneMachine("a", ZoneLayout(lines=(GATE,)), ReportSettings(), 10_000_000)
    assert crosses(events(0, first=0, until=9, machine=machine)) == []  # 0.07 s after the line
    assert [one.line.out_total for one in machine.part(320_000).at_end] == [1]
    assert machine.totals[0] == (0, 0)
    events(9, first=0, until=25, machine=machine)
    assert (machine.part(1_000_000).at_end, machine.totals[0]) == ((), (0, 1))


@pytest.mark.parametrize(("reason", "counted"), [("eof", 1), ("epoch", 0), ("drained", 0)])
def test_the_deriver_counts_them_only_where_nothing_follows(reason, counted):
    machine = ZoneMachine("a", ZoneLayout(lines=(GATE,)), ReportSettings(), 10_000_000)
    events(0, first=0, until=9, machine=machine)
    info = SourceInfo(id="a", label="a", width=200, height=100, fps=25, live=False)
    frame_ = Frame(source="a", seq=8, n=8, media_us=320_000, width=200, height=100)
    deriver = ZonesDeriver(info, None)
    deriver.derive(Packet(frame=frame_, parts=[machine.part(320_000)]))
    assert len(ZonesDeriver(info, deriver.state()).close(reason)) == counted
    assert len(crosses(deriver.close(reason))) == counted
    assert deriver.findings(Findings()).lines == {"gate": (0, counted)}
