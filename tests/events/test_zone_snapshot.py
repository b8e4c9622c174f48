"""What a late joiner gets of zones and lines, against a consumer that was there from the start."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from track_scenes import Scene, rows_of_run

from streamvis.events.envelope import Event, Time, encode
from streamvis.events.snapshot import SourceState, fold
from streamvis.stages import event_codec
from streamvis.stages.zones import ZoneCounter
from streamvis.stages.zones.events import (
    Crossing,
    Departure,
    ForecastOutcome,
    LineCross,
    LineRevise,
    LineRevision,
    Occupancy,
    OccupancyForecast,
    PastCrossing,
    Stay,
    Visit,
    ZoneClear,
    ZoneCrowd,
    ZoneCrowded,
    ZoneDwell,
    ZoneEnter,
    ZoneEntry,
    ZoneExit,
    ZoneForecastMade,
    ZoneLayoutSet,
    ZoneRevise,
    ZoneRevision,
    ZoneScored,
    ZoneState,
    ZoneUpdate,
)
from streamvis.zone_layout import Line, Zone, ZoneLayout

CODEC = event_codec()
SQUARE = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9))


class Consumer:
    """A program that shows the zones and lines of a source as its events have them."""

    def __init__(self, events):
        self.layout = None
        self.zones, self.lines, self.inside, self.forecasts = {}, {}, {}, {}
        for event in events:
            self.take(event.what)

    def shows(self):
        zones = {name: said for name, said in self.zones.items() if said}
        return self.layout, zones, self.lines, self.inside, self.forecasts

    def take(self, what):
        match what:
            case ZoneLayoutSet(layout):
                self.set_layout(layout)
            case LineCross(line) | LineRevise(line):
                if self.layout is None or line.name in [one.name for one in self.layout.lines]:
                    self.lines[line.name] = (line.in_total, line.out_total)
            case _ if self.layout is None or what.zone.name in [
                one.name for one in self.layout.zones
            ]:
                self.take_zone(what)

    def set_layout(self, layout):
        if self.layout is None:
            zones = {one.name for one in layout.zones}
            lines = {one.name for one in layout.lines}
        else:
            zones = {one.name for one in layout.zones if one in self.layout.zones}
            lines = {one.name for one in layout.lines if one in self.layout.lines}
        self.layout = layout
        self.zones = {name: one for name, one in self.zones.items() if name in zones}
        self.lines = {name: one for name, one in self.lines.items() if name in lines}
        self.inside = {key: one for key, one in self.inside.items() if key[0] in zones}
        self.forecasts = {key: one for key, one in self.forecasts.items() if key[1] in zones}

    def take_zone(self, what):
        name = what.zone.name
        zone = self.zones.setdefault(name, {})
        match what:
            case ZoneEnter(entry):
                zone |= {"people": entry.occupancy, "entries": entry.entries}
                self.inside[name, entry.track] = entry.at_us
            case ZoneExit(gone):
                zone["people"] = gone.occupancy
                self.inside.pop((name, gone.track), None)
            case ZoneUpdate(state):
                zone |= {"people": state.occupancy, "entries": state.entries}
                zone |= {"longest_s": state.longest_s, "crowded": state.crowded}
            case ZoneRevise(revision):
                zone |= {"people": revision.occupancy, "entries": revision.entries}
                for visit in revision.was:
                    if visit.left_us is None:
                        self.inside.pop((name, visit.track), None)
                for visit in revision.now:
                    if visit.left_us is None:
                        self.inside[name, visit.track] = visit.entered_us
            case ZoneCrowded():
                zone["crowded"] = True
            case ZoneClear():
                zone["crowded"] = False
            case ZoneForecastMade(made):
                self.forecasts["made", name, made.horizon_us] = made
            case ZoneScored(score):
                self.forecasts["scored", name, score.horizon_us] = score


def events_of(whats, first=0):
    return [
        Event(
            id=f"e1/{offset}",
            source="cam1",
            epoch="e1",
            tseq=offset + 1,
            offset=offset,
            time=Time(media_us=offset),
            what=what,
        )
        for offset, what in enumerate(whats, start=first)
    ]


def snapshot_of(events):
    state = SourceState()
    for event in events:
        fold(state, encode(event), CODEC.identities)
    return state


def joined_at(state):
    return [CODEC.decode(payload) for payload in state.events()]


def inside(people=1):
    return Occupancy(people=people, mean=float(people), sd=0.0, p_occupied=float(people > 0))


def layout(zones=("door",), lines=("gate",), enter_s=0.3):
    return ZoneLayoutSet(
        ZoneLayout(
            zones=tuple(Zone(name=one, polygon=SQUARE, enter_s=enter_s) for one in zones),
            lines=tuple(Line(name=one, start=(0.0, 0.5), end=(1.0, 0.5)) for one in lines),
        )
    )


def enter(track, entries=1, name="door", at_us=0):
    return ZoneEnter(
        ZoneEntry(
            name=name,
            track=track,
            at_us=at_us,
            seen_outside=True,
            entries=entries,
            occupancy=inside(),
        )
    )


def leave(track, name="door", people=0):
    return ZoneExit(
        Departure(
            name=name,
            track=track,
            at_us=1,
            entered_us=0,
            dwell_s=0.0,
            reason="left",
            occupancy=None if people is None else inside(people),
        )
    )


def update(entries=1, name="door", crowded=False, longest_s=0.0):
    number = inside(entries)
    return ZoneUpdate(
        ZoneState(
            name=name, occupancy=number, longest_s=longest_s, entries=entries, crowded=crowded
        )
    )


def visit(track, left_us=None, entered_us=0):
    reason = None if left_us is None else "left"
    return Visit(track=track, entered_us=entered_us, left_us=left_us, reason=reason)


def revise(was, now, name="door", entries=1):
    return ZoneRevise(
        ZoneRevision(
            name=name, was=tuple(was), now=tuple(now), entries=entries, occupancy=inside(entries)
        )
    )


def cross(in_total, name="gate"):
    return LineCross(
        Crossing(
            name=name,
            track="a",
            direction="left_to_right",
            at_us=0,
            p=1.0,
            in_total=in_total,
            out_total=0,
        )
    )


def revise_line(in_total, name="gate"):
    was = (PastCrossing(track="a", direction="left_to_right", at_us=0),)
    return LineRevise(LineRevision(name=name, was=was, now=(), in_total=in_total, out_total=0))


def forecast(horizon_us, mean=1.0, name="door"):
    return ZoneForecastMade(
        OccupancyForecast(name=name, horizon_us=horizon_us, target_us=0, p_occupied=0.5, mean=mean)
    )


def score(horizon_us, name="door"):
    return ZoneScored(
        ForecastOutcome(
            name=name,
            horizon_us=horizon_us,
            made_us=0,
            p_occupied=0.5,
            mean=1.0,
            people=1,
            brier=0.2,
        )
    )


def crowd(kind, name="door"):
    return kind(ZoneCrowd(name=name, at_us=0, people=3, threshold=3))


def dwell(track, name="door"):
    return ZoneDwell(Stay(name=name, track=track, at_us=0, entered_us=0, threshold_s=10.0))


def kept(whats):
    return [event.what for event in joined_at(snapshot_of(events_of(whats)))]


def test_a_late_joiner_knows_the_layout_who_is_inside_and_all_totals():
    whats = [layout(), enter("a"), update(1), enter("b", 2), cross(1), forecast(1), forecast(2)]
    assert kept(whats) == whats
    later = [update(2), cross(2), forecast(1, mean=2.0), dwell("a"), leave("b")]
    expected = [layout(), enter("a"), forecast(2), update(2), cross(2), later[2], leave("b")]
    assert kept([*whats, *later]) == expected


def test_totals_of_a_zone_outlast_the_visits_until_its_next_state():
    whats = [layout(), enter("a"), leave("a")]
    assert kept(whats) == whats
    assert kept([*whats, update(1)]) == [layout(), update(1)]


def test_zones_and_lines_that_a_layout_removes_or_changes_begin_anew():
    there = [layout(("door", "hall"), ("gate", "far")), enter("a"), enter("b", name="hall")]
    there += [update(2), forecast(1), cross(3), cross(4, "far")]
    only_hall = layout(("hall",), ("gate",))
    assert kept([*there, only_hall, leave("a")]) == [there[2], cross(3), only_hall]
    changed = layout(("door", "hall"), ("gate", "far"), enter_s=1.0)
    assert kept([*there, changed]) == [cross(3), cross(4, "far"), changed]
    assert kept([*there, there[0]]) == [*there[1:], there[0]]


def test_a_correction_that_moves_two_visits_is_kept_with_the_exit_of_one():
    moved = revise([visit("a"), visit("b")], [visit("c"), visit("d"), visit("a", left_us=9)])
    whats = [layout(), enter("a"), enter("b"), moved, leave("c"), update()]
    assert kept(whats) == [layout(), moved, leave("c"), update()]
    assert kept([*whats, leave("d"), update()]) == [layout(), update()]


def test_a_correction_of_an_earlier_visit_leaves_the_present_one_open():
    corrected = revise([visit("a", left_us=5)], [visit("b", left_us=5)])
    whats = [enter("a", at_us=10), corrected, update()]
    assert kept(whats) == whats[:1] + whats[2:]


names = st.sampled_from(["door", "hall", "yard"])
tracks = st.sampled_from(["a", "b", "c", "d"])
counts = st.integers(0, 9)
visits = st.lists(
    st.builds(visit, tracks, st.none() | counts, counts), max_size=3, unique_by=lambda v: v.track
)
some = st.lists(names, unique=True, max_size=3).map(tuple)
whats = st.one_of(
    st.builds(layout, some, some, st.sampled_from([0.3, 0.3, 0.5])),
    st.builds(enter, tracks, counts, names, counts),
    st.builds(enter, tracks, counts, names, counts),
    st.builds(leave, tracks, names, st.none() | counts),
    st.builds(update, counts, names, st.booleans(), counts.map(float)),
    st.builds(revise, visits, visits, names, counts),
    st.builds(revise, visits, visits, names, counts),
    st.builds(cross, counts, names),
    st.builds(revise_line, counts, names),
    st.builds(forecast, st.integers(1, 2), counts.map(float), names),
    st.builds(score, st.integers(1, 2), names),
    st.builds(crowd, st.sampled_from([ZoneCrowded, ZoneClear]), names),
    st.builds(dwell, tracks, names),
)


@given(st.lists(whats, max_size=60), st.data())
def test_a_late_joiner_shows_what_a_consumer_of_all_events_shows(whats, data):
    events = events_of(whats)
    at = data.draw(st.integers(0, len(events)))
    snapshot = snapshot_of(events[:at])
    expected = Consumer(events).shows()
    assert Consumer([*joined_at(snapshot), *events[at:]]).shows() == expected
    assert (
        snapshot_of([*joined_at(snapshot), *events[at:]]).events() == snapshot_of(events).events()
    )
    resumed = msgspec.msgpack.decode(msgspec.msgpack.encode(snapshot), type=SourceState)
    for event in events[at:]:
        fold(resumed, encode(event), CODEC.identities)
    assert resumed == snapshot_of(events)


@given(st.lists(whats, max_size=80))
def test_a_snapshot_does_not_grow_with_the_number_of_events(whats):
    state = snapshot_of(events_of(whats))
    open_ = sum(len(zone.inside) for zone in state.shapes.zones.values())
    assert open_ <= 3 * 4
    for zone in state.shapes.zones.values():
        assert len(zone.latest) <= 4 + 2 * 2
        assert len(zone.outside) <= 4


SHAPES = ZoneCounter(
    zones=(
        Zone(name="door", polygon=((0.1, 0.3), (0.5, 0.3), (0.5, 0.9), (0.1, 0.9)), crowd=2),
        Zone(name="hall", polygon=((0.3, 0.2), (0.9, 0.2), (0.9, 0.8), (0.3, 0.8)), enter_s=0),
    ),
    lines=(Line(name="gate", start=(0.5, 0.2), end=(0.5, 1.0)),),
)


@pytest.mark.parametrize("seed", range(4))
def test_late_joins_into_runs_with_corrections(seed):
    rows = rows_of_run(Scene(seed, frames=150, corrections=0.15, epochs=True), SHAPES)
    events = [CODEC.decode(row.payload) for row in rows]
    shapes = [event for event in events if event.family in ("zone", "line")]
    assert sum(isinstance(event.what, ZoneRevise) for event in shapes) > 5
    expected = Consumer(shapes)
    assert expected.inside == {}  # all visits have ended with the run
    state = SourceState()
    for row in rows:
        fold(state, row.payload, CODEC.identities)
        if row.offset % 20 == 0:
            joined = [one for one in joined_at(state) if one.family in ("zone", "line")]
            later = [one for one in shapes if one.offset > row.offset]
            assert Consumer([*joined, *later]).shows() == expected.shows()
            assert (
                Consumer(joined).shows()
                == Consumer([one for one in shapes if one.offset <= row.offset]).shows()
            )
