"""Tracks that no frame has for a while, and people who are hidden when a dwell time is reached."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zone_scenes import RATES, Picture, Seen, absent, play, sample, unseen, walk

from streamvis.stages.zones import ZoneCounter
from streamvis.stages.zones.events import (
    Visit,
    ZoneClear,
    ZoneCrowded,
    ZoneDwell,
    ZoneEnter,
    ZoneExit,
    ZoneRevise,
)
from streamvis.zone_layout import Line, Zone

# in a picture of 640×480 px: x 200 to 440, y 120 to 360
SQUARE = ((0.3125, 0.25), (0.6875, 0.25), (0.6875, 0.75), (0.3125, 0.75))
DOOR = Zone(name="door", polygon=SQUARE, dwell_s=(5, 10))
TWO_S = ZoneCounter(zones=(DOOR,), absent_s=2)

rates = pytest.mark.parametrize("fps", RATES)


def stays(x, start=0.0, stop=99.0):
    return walk((start, x, 240), (stop, x, 240))


def kept(pictures, *ids):
    """The pictures, with tracks that do not end: they are absent when nobody is there."""
    return [
        picture._replace(ended=tuple(id for id in picture.ended if id not in ids))
        for picture in pictures
    ]


def visit(number, entered_s, left_s=None, reason=None):
    return Visit(
        track=f"a:1:{number}",
        entered_us=round(entered_s * 1e6),
        left_us=None if left_s is None else round(left_s * 1e6),
        reason=reason,
    )


@rates
@pytest.mark.parametrize("others", [True, False])
def test_who_is_in_no_frame_for_absent_s_was_there_until_last_seen(fps, others):
    people = {1: absent(stays(300), 4, 99), **({2: stays(400)} if others else {})}
    history = play(TWO_S, kept(sample(people, fps, 12), 1))
    [gone] = history.of(ZoneExit)
    assert (gone.track, gone.reason, gone.at_us) == ("a:1:1", "lost", round((4 - 1 / fps) * 1e6))
    [told_us] = history.times(ZoneExit)
    assert 0 <= told_us - (gone.at_us + 2e6) <= 1e6 / fps + 1
    assert gone.occupancy.people == history.parts[-1].people[0] == others
    assert others - 0.01 <= history.parts[-1].mean[0] <= 1.3 * others  # some may be unseen
    assert history.of(ZoneRevise) == []


def test_a_crowd_is_over_without_those_who_are_lost():
    crowded = msgspec.structs.replace(DOOR, crowd=2, crowd_s=0.5)
    people = {1: absent(stays(300), 4, 99), 2: stays(400)}
    history = play(
        msgspec.structs.replace(TWO_S, zones=(crowded,)), kept(sample(people, 10, 12), 1)
    )
    assert len(history.of(ZoneCrowded)) == 1
    [clear] = history.of(ZoneClear)
    assert (clear.people, clear.at_us) == (1, 3_900_000)
    assert history.times(ZoneClear)[0] == pytest.approx(5.9e6, abs=1e5)


@rates
def test_who_is_back_has_one_visit_again(fps):
    people = {1: absent(stays(300), 4, 9), 2: stays(400)}
    history = play(TWO_S, kept(sample(people, fps, 12), 1))
    last_s = 4 - 1 / fps
    assert [e.track for e in history.of(ZoneEnter)] == ["a:1:1", "a:1:2"]
    [revision] = history.of(ZoneRevise)
    assert (revision.was, revision.now) == (
        (visit(1, 0, last_s, "lost"),),
        (visit(1, 0),),
    )
    assert (revision.entries, revision.occupancy.people) == (2, 2)
    assert history.times(ZoneRevise) == [9_000_000]
    dwells = [(s.threshold_s, s.at_us) for s in history.of(ZoneDwell) if s.track == "a:1:1"]
    assert dwells == [(5, 5_000_000), (10, 10_000_000)]


@rates
def test_who_is_back_outside_left_in_between(fps):
    """The way between the two is straight, as always."""
    path = walk((0, 300, 240), (3.9, 300, 240), (10, 580, 240), (14, 580, 240))
    seen = absent(path, 4, 10)
    history = play(TWO_S, kept(sample({1: seen, 2: stays(400)}, fps, 14), 1))
    [revision] = history.of(ZoneRevise)
    assert revision.was == (visit(1, 0, 4 - 1 / fps, "lost"),)
    [now] = revision.now
    assert now.reason == "left"
    assert now.left_us == pytest.approx(4e6 + 6e6 * (440 - 300) / (580 - 300), rel=0.03)
    assert [one.people[0] for one in history.parts][-1] == 1
    people = [int(one.people[0]) for one in history.parts[round(7 * fps) :]]
    assert set(people) == {1}  # at no time is it counted again


def test_who_ends_while_lost_is_told_once():
    people = {1: absent(stays(300), 4, 99), 2: stays(400)}
    pictures = kept(sample(people, 10, 12), 1)
    pictures[90] = pictures[90]._replace(ended=(1,))
    history = play(TWO_S, pictures)
    assert [(e.track, e.reason, e.at_us) for e in history.of(ZoneExit)] == [
        ("a:1:1", "lost", 3_900_000)
    ]
    assert history.of(ZoneRevise) == []


def test_a_source_with_a_picture_each_5_s_loses_nobody_between_two():
    history = play(TWO_S, sample({1: stays(300)}, 0.2, 60))
    assert history.of(ZoneExit) == history.of(ZoneRevise) == []
    assert len(history.of(ZoneEnter)) == 1


@rates
def test_a_dwell_is_told_when_it_is_reached_by_who_is_hidden(fps):
    path = unseen(walk((0, 300, 240), (30, 300, 240)), 4, 20)
    history = play(TWO_S, sample({1: path}, fps, 25))
    assert [s.at_us for s in history.of(ZoneDwell)] == [5_000_000, 10_000_000]
    assert history.times(ZoneDwell) == [5_000_000, 10_000_000]
    assert history.of(ZoneRevise) == history.of(ZoneExit) == []


@rates
def test_a_dwell_of_who_was_gone_is_taken_back(fps):
    """Hidden at 4 s, seen outside at 7 s: it left before the threshold of 5 s."""
    path = walk((0, 300, 240), (3.9, 300, 240), (7, 840, 240), (9, 840, 240))
    history = play(TWO_S, sample({1: unseen(path, 4, 7)}, fps, 8.9))
    assert history.times(ZoneDwell) == [5_000_000]
    [revision] = history.of(ZoneRevise)
    assert revision.was == (visit(1, 0),)
    [now] = revision.now
    assert now.reason == "left"
    assert now.left_us < 5e6
    assert history.of(ZoneExit) == []
    assert history.visits("door") == [now]


def test_a_dwell_that_was_reached_before_it_left_stands():
    path = walk((0, 300, 240), (4, 300, 240), (8, 500, 240), (9, 500, 240))
    history = play(TWO_S, sample({1: unseen(path, 4, 8)}, 10, 8.9))
    assert history.times(ZoneDwell) == [5_000_000]
    [gone] = history.of(ZoneExit)
    assert gone.reason == "left"
    assert gone.at_us > 5e6
    assert history.of(ZoneRevise) == []


def test_a_dwell_of_who_was_never_seen_again_is_taken_back():
    hidden = unseen(stays(300, 0, 5.9), 4, 6)
    history = play(TWO_S, sample({1: hidden, 2: stays(400)}, 10, 9))
    assert [s.track for s in history.of(ZoneDwell)] == ["a:1:1", "a:1:2"]
    [revision] = history.of(ZoneRevise)
    assert (revision.was, revision.now) == ((visit(1, 0),), (visit(1, 0, 3.9, "lost"),))
    assert history.of(ZoneExit) == []


def test_a_dwell_is_not_told_of_who_is_absent():
    people = {1: absent(stays(300), 4, 5.5), 2: stays(400)}
    history = play(TWO_S, kept(sample(people, 10, 9), 1))
    told = [
        (s.track, us)
        for us, what in history.events
        for s in [what.zone]
        if isinstance(what, ZoneDwell)
    ]
    assert told == [("a:1:2", 5_000_000), ("a:1:1", 5_500_000)]


legs = st.tuples(
    st.integers(1, 8),  # pictures
    st.integers(-3, 3),  # steps of 15 px per picture
    st.sampled_from(["detected", "detected", "predicted", "absent"]),
)
walks = st.tuples(st.integers(0, 40), st.lists(legs, min_size=1, max_size=9))
FPS = 5
ALL = ZoneCounter(
    zones=(
        DOOR,
        msgspec.structs.replace(DOOR, name="at-once", enter_s=0, exit_s=0, dwell_s=(1,)),
        msgspec.structs.replace(DOOR, name="rest", outside=True, exit_s=2, dwell_s=()),
    ),
    lines=(Line(name="gate", start=(0.5, 0.9), end=(0.5, 0.1)),),
    absent_s=0.7,
)


def pictures_of(people):
    """The pictures of walks; everybody ends after them."""
    shown = {}
    for id, (x, parts) in enumerate(people, 1):
        x *= 16
        shown[id] = [Seen(x, 240)]
        for count, right, how in parts:
            for _ in range(count):
                x += 15 * right
                here = Seen(x, 240, detected=how == "detected")
                shown[id].append(None if how == "absent" else here)
    count = max(map(len, shown.values()))
    pictures = [
        Picture(
            round(k * 1e6 / FPS),
            {id: own[k] for id, own in shown.items() if k < len(own) and own[k]},
            tuple(id for id, own in shown.items() if k == len(own)),
        )
        for k in range(count)
    ]
    last = tuple(id for id, own in shown.items() if len(own) == count)
    return [*pictures, Picture(round(count * 1e6 / FPS), {}, last)]


@given(st.lists(walks, min_size=1, max_size=3))
@settings(max_examples=200, derandomize=True)
def test_in_the_end_it_does_not_matter_who_was_taken_as_lost(people):
    """Losses are corrected: the history is that of a stage that takes nobody as lost."""
    pictures = pictures_of(people)
    patient = msgspec.structs.replace(ALL, absent_s=3600)
    told, expected = play(ALL, pictures), play(patient, pictures)
    for zone in ALL.zones:
        assert told.visits(zone.name) == expected.visits(zone.name)
    assert told.crossings("gate") == expected.crossings("gate")
