"""Zones that change while the source runs, new stream epochs, crowds, and who counts."""

import msgspec
import pytest
from zone_scenes import RATES, History, Picture, Seen, packets, play, sample, stage_of, walk

from streamvis.messages import Notice
from streamvis.stages.zones import ZoneCounter
from streamvis.stages.zones.events import (
    ZoneClear,
    ZoneCrowded,
    ZoneEnter,
    ZoneExit,
    ZoneLayoutSet,
)
from streamvis.zone_layout import Line, Zone, ZoneLayout

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
RIGHT = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))
GATE = Line(name="gate", start=(0.5, 1.0), end=(0.5, 0.0))
KEPT, GONE = Zone(name="kept", polygon=LEFT), Zone(name="gone", polygon=LEFT)


def standing(seconds, fps=10, **people):
    """One picture after another of people who stand at some x."""
    there = {int(id[1:]): Seen(x, 240) for id, x in people.items()}
    return [Picture(round(k * 1e6 / fps), there) for k in range(round(seconds * fps))]


def test_a_new_layout_ends_visits_of_zones_that_are_removed_and_keeps_the_others():
    stage, history = stage_of(ZoneCounter(zones=(KEPT, GONE), lines=(GATE,))), History()
    given = packets(standing(2, _1=100))
    for one in given[:10]:
        history.add(one.frame.media_us, *stage([one]))
    changed = ZoneLayout(zones=(KEPT, Zone(name="new", polygon=LEFT)), lines=(GATE,))
    stage.notice(Notice(source="a", kind="zones", media_us=900_000, zones=changed))
    state = stage.state("a")
    for one in given[10:]:
        history.add(one.frame.media_us, *stage([one]))
    assert history.of(ZoneLayoutSet)[1:] == [changed]
    assert [(e.name, e.at_us) for e in history.of(ZoneEnter)] == [
        ("kept", 0),
        ("gone", 0),
        ("new", 1_000_000),
    ]
    [gone] = history.of(ZoneExit)
    assert (gone.name, gone.reason, gone.entered_us) == ("gone", "layout", 0)
    assert 900_000 <= gone.at_us <= 1_000_000
    assert [v.left_us for v in history.visits("kept")] == [None]
    successor = stage_of(ZoneCounter(zones=(KEPT, GONE), lines=(GATE,)), state=state)
    after = [event for one in given[10:] for part in successor([one]) for event in part.events]
    assert after == [what for us, what in history.events if us >= 1_000_000]


def test_a_new_stream_epoch_begins_without_anybody_and_with_the_totals():
    stage = stage_of(ZoneCounter(zones=(KEPT,), lines=(GATE,)))
    there = packets(sample({1: walk((0, 100, 240), (2, 600, 240), (3, 600, 240))}, 10, 2.9))
    [*_, last] = stage(there)
    assert (last.in_total.tolist(), last.out_total.tolist()) == ([1], [0])
    assert last.people.tolist() == [0]
    again = [
        msgspec.structs.replace(
            one, frame=msgspec.structs.replace(one.frame, epoch=2, seq=100 + one.frame.seq)
        )
        for one in there
    ]
    parts = list(stage(again))
    assert parts[0].in_total.tolist() == [1]
    assert parts[-1].in_total.tolist() == [2]
    tracks = {what.zone.track for part in parts for what in part.events if type(what) is ZoneEnter}
    assert tracks == {"a:2:1"}


@pytest.mark.parametrize("fps", RATES)
def test_a_crowd_begins_and_ends_at_the_time_of_the_person_who_makes_it_one(fps):
    people = {
        1: walk((0, 500, 100), (10, 500, 100)),
        2: walk((0, 120, 200), (2, 520, 200), (10, 520, 200)),  # over the border at 1 s
        3: walk((0, 20, 300), (3, 320.5, 300), (5, 520, 300), (7, 320.5, 300), (9, 20, 300)),
    }
    crowded = Zone(name="right", polygon=RIGHT, crowd=3, crowd_s=0.6)
    history = play(ZoneCounter(zones=(crowded,)), sample(people, fps, 9.8))
    [began], [ended] = history.of(ZoneCrowded), history.of(ZoneClear)
    assert (began.people, began.threshold) == (3, 3)
    assert (ended.people, ended.threshold) == (2, 3)
    assert began.at_us == pytest.approx(3e6, abs=2e4)
    assert ended.at_us == pytest.approx(7e6, abs=2e4)
    assert history.times(ZoneCrowded)[0] - began.at_us >= 600_000 - 1
    assert history.times(ZoneClear)[0] - ended.at_us >= 600_000 - 1


def test_who_is_too_small_or_too_uncertain_does_not_count():
    path = walk((0, 100, 400), (2, 600, 400), (4, 600, 400))
    small = walk((0, 100, 420), (2, 600, 420), (4, 600, 420), height=40)
    unsure = walk((0, 100, 440), (2, 600, 440), (4, 600, 440), p=0.6)
    scene = sample({1: path, 2: small, 3: unsure}, 10, 5)
    for limits, counted in (
        ({}, {1, 2, 3}),
        ({"min_height": 0.1}, {1, 3}),
        ({"min_p_exist": 0.7}, {1, 2}),
        ({"min_height": 0.1, "min_p_exist": 0.7}, {1}),
    ):
        zone = Zone(name="right", polygon=RIGHT, **limits)
        history = play(
            ZoneCounter(zones=(zone,), lines=(msgspec.structs.replace(GATE, **limits),)), scene
        )
        expected = {f"a:1:{id}" for id in counted}
        assert {visit.track for visit in history.visits("right")} == expected
        assert {crossing.track for crossing in history.crossings("gate")} == expected
