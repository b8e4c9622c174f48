"""The end of a source: exits of who was out, or was not seen any more, before its last frame."""

from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.stages.zones.deriver import ZonesDeriver
from streamvis.stages.zones.ending import UNSEEN_US
from streamvis.stages.zones.events import ZoneEnter, ZoneExit
from streamvis.stages.zones.machine import ZoneMachine
from streamvis.stages.zones.observed import Observed, passed
from streamvis.stages.zones.occupancy import ReportSettings
from streamvis.zone_layout import Zone, ZoneLayout

SIZE = (200, 100)
ROOM = Zone(
    name="room",
    polygon=((0.2, 0.0), (0.9, 0.0), (0.9, 1.0), (0.2, 1.0)),  # x of 40 to 180
    enter_s=0.1,
    exit_s=0.5,
)
INSIDE, OUTSIDE = 100.0, 10.0
FPS = 10


def frame(n: int, places: dict[int, float]) -> Observed:
    """A frame with these tracks, by number at x, detected."""
    xs = np.array([places[number] for number in sorted(places)])
    count = len(xs)
    low, high = np.full(count, 30.0), np.full(count, 50.0)
    return msgspec.structs.replace(
        passed(n * 1_000_000 // FPS, SIZE),
        ids=np.array(sorted(places), np.int64),
        boxes=np.stack([xs - 5, low, xs + 5, high], 1),
        seen=np.ones(count, bool),
        p_exist=np.full(count, 0.9),
        first_us=np.zeros(count, np.int64),
        variance=np.ones((count, 4)),
        velocity=np.zeros((count, 2)),
        ground=np.full((count, 2), np.nan),
        ground_velocity=np.full((count, 2), np.nan),
        ground_variance=np.full(count, np.nan),
    )


def walked(frames: list[dict[int, float]]) -> tuple[ZoneMachine, list]:
    """The machine after these frames, which were all published, and its events."""
    machine = ZoneMachine("a", ZoneLayout(zones=(ROOM,)), ReportSettings(), 10_000_000)
    events = []
    for n, places in enumerate(frames):
        events += machine.step(frame(n, places))
        machine.part(machine.now_us)
    return machine, events


def exits(machine: ZoneMachine):
    found = machine.part(machine.now_us).at_end
    assert all(isinstance(one, ZoneExit) for one in found)
    return [(one.zone.track, one.zone.reason, one.zone.at_us) for one in found]


def test_who_is_inside_when_the_source_ends_has_not_left_before():
    machine, _ = walked([{1: INSIDE}] * 10)
    assert exits(machine) == []


def test_who_was_last_seen_outside_has_left_although_the_exit_is_not_sure_yet():
    machine, _ = walked([{1: INSIDE}] * 10 + [{1: OUTSIDE}] * 2)
    ((track, reason, at_us),) = exits(machine)
    assert (track, reason) == ("a:1:1", "left")
    assert 900_000 <= at_us <= 1_000_000  # between the last frame inside and the first one outside


@pytest.mark.parametrize(("unseen", "lost"), [(4, False), (5, True), (30, True)])
def test_who_is_in_no_frame_any_more_is_lost_where_last_seen(unseen, lost):
    machine, _ = walked([{1: INSIDE, 2: INSIDE}] * 10 + [{2: INSIDE}] * unseen)
    assert UNSEEN_US == 500_000
    assert exits(machine) == ([("a:1:1", "lost", 900_000)] if lost else [])


def test_a_visit_that_is_not_published_yet_has_no_end():
    machine, events = walked([{1: OUTSIDE}] * 5 + [{1: INSIDE}])
    assert not [one for one in events if isinstance(one, ZoneEnter)]
    assert exits(machine) == []


@given(
    st.lists(
        st.dictionaries(st.integers(1, 3), st.sampled_from([INSIDE, OUTSIDE, 170.0, 190.0])),
        min_size=5,
        max_size=30,
    )
)
def test_each_exit_is_that_of_a_track_that_ends_with_the_last_frame(frames):
    """The oracle lets all tracks end in one more frame; who was seen inside just now stays."""
    machine, _ = walked(frames)
    state, found, now_us = machine.state(), machine.part(machine.now_us).at_end, machine.now_us
    again = ZoneMachine("a", ZoneLayout(), ReportSettings(), 10_000_000)
    again.restore(state)
    assert again.part(now_us).at_end == found
    last = {
        number: max(n for n, places in enumerate(frames) if number in places)
        for number in {number for places in frames for number in places}
    }
    ended = msgspec.structs.replace(frame(len(frames), {}), ended=tuple(sorted(last)))
    expected = [one.zone for one in again.step(ended) if isinstance(one, ZoneExit)]
    stays = {
        f"a:1:{number}"
        for number, n in last.items()
        if (len(frames) - 1 - n) / FPS * 1e6 < UNSEEN_US
    }
    expected = [one for one in expected if one.reason == "left" or one.track not in stays]
    assert sorted((one.zone.track, one.zone.at_us, one.zone.reason) for one in found) == sorted(
        (one.track, one.at_us, one.reason) for one in expected
    )


@pytest.mark.parametrize(
    ("reason", "ends"), [("eof", ("left", "lost", "eof")), ("drained", ("drained",) * 3)]
)
def test_only_the_end_of_a_source_makes_them_events(reason, ends):
    """A run that is stopped knows nothing of what would have followed."""
    frames = (
        [{1: INSIDE, 2: INSIDE, 3: INSIDE}] * 10
        + [{1: INSIDE, 3: INSIDE}] * 6
        + [{1: OUTSIDE, 3: INSIDE}]
    )
    deriver = ZonesDeriver(SimpleNamespace(), None)
    machine = ZoneMachine("a", ZoneLayout(zones=(ROOM,)), ReportSettings(), 10_000_000)
    for n, places in enumerate(frames):
        events = machine.step(frame(n, places))
        part = machine.part(machine.now_us, events)
        media = SimpleNamespace(media_us=machine.now_us)
        deriver.derive(SimpleNamespace(part=lambda _, part=part: part, frame=media))
    successor = ZonesDeriver(SimpleNamespace(), deriver.state())
    assert tuple(one.zone.reason for one in successor.close(reason)) == ends
    assert successor.close(reason) == []
