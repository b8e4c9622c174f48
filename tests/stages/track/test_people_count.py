"""What a run found, held against a count over all of its events that forgets nothing."""

import msgspec
import pytest
from counted_findings import counted
from factories import frame, source, tracks
from hypothesis import given, settings
from hypothesis import strategies as st
from source_events import (
    frame_events,
    inner,
    notice_events,
    source_findings,
    start_source,
    successor,
)

from streamvis.events.envelope import Event
from streamvis.messages import Findings, Notice

INFO = source("cam1")
STEP_US = 100_000


def frame_at(seq, epoch=1):
    capture_us = 1_000_000_000 + seq * STEP_US
    return frame(seq, "cam1", epoch=epoch, capture_us=capture_us)


def tracks_with(ids, ended=(), merged=(), split=()):
    return tracks(ids, ended=ended, merged=merged, split=split)


class Scene:
    """Frames given to `derive` one by one, and every event that came of them."""

    def __init__(self):
        self.state, drafts = start_source(INFO)
        self.events = []
        self.seq = 0
        self.epoch = 1
        self.log(drafts)

    def log(self, drafts):
        for draft in drafts:
            event = Event(
                id="",
                source="cam1",
                epoch="e",
                tseq=0,
                offset=len(self.events),
                time=draft.time,
                frame=draft.frame,
                what=draft.what,
            )
            self.events.append(event)

    def show(self, *ids, **changes):
        frame = frame_at(self.seq, self.epoch)
        self.log(frame_events(self.state, frame, tracks_with(sorted(ids), **changes)))
        self.seq += 1
        # a successor after a kill -9 goes on from these bytes
        self.state = successor(self.state)

    def found(self):
        return source_findings(self.state)


def agrees(scene):
    found, expected = scene.found(), counted(scene.events)
    for name in ("people", "tracks", "merges", "splits"):
        assert getattr(found, name) == expected[name], name
    if expected["longest"] is None:
        assert (found.longest, found.busiest) == (None, None)
        return
    # where an id was split, the tally does not know the last frame before, but the next one
    assert found.longest.seconds == pytest.approx(expected["longest"], abs=1.01 * STEP_US / 1e6)
    assert (found.busiest.people, found.busiest.media_us) == (expected["busiest"], expected["when"])
    assert found.busiest.capture_us == 1_000_000_000 + expected["when"]


def test_nobody():
    scene = Scene()
    scene.show()
    assert scene.found() == Findings(people=0, tracks=0, merges=0, splits=0)
    agrees(scene)


def test_without_a_tracker_nothing_is_said_of_people():
    state, _ = start_source(INFO)
    frame_events(state, frame_at(0), None)
    assert source_findings(state) == Findings()


def test_who_comes_back_under_the_same_id_is_one_person():
    scene = Scene()
    scene.show(1)
    scene.show(ended=[1])
    scene.show(1, 2)
    found = scene.found()
    assert (found.people, found.tracks, found.longest.seconds) == (2, 2, 0.2)
    agrees(scene)


def test_two_ids_that_were_one_person_count_once():
    scene = Scene()
    scene.show(1)
    scene.show(ended=[1])
    scene.show(2)
    scene.show(1, ended=[2], merged=[(2, 1)])
    found = scene.found()
    assert (found.people, found.tracks, found.merges) == (1, 2, 1)
    assert (found.longest.track, found.longest.seconds) == ("cam1:1:1", 0.3)
    agrees(scene)


def test_an_id_that_was_two_people_counts_as_two_before_the_other_is_seen_as_itself():
    scene = Scene()
    for _ in range(6):
        scene.show(1)
    scene.show(split=[(1, 2, 3 * STEP_US)], ended=[1])
    assert scene.found().people == 1  # the tracker named somebody whom it has not shown: not told
    scene = Scene()
    for _ in range(6):
        scene.show(1)
    scene.show(2, split=[(1, 2, 3 * STEP_US)], ended=[1])
    found = scene.found()
    assert (found.people, found.tracks, found.splits) == (2, 2, 1)
    agrees(scene)


def test_an_id_that_was_somebody_else_all_the_time_is_nobody():
    scene = Scene()
    scene.show(1)
    scene.show(2, split=[(1, 2, 0)], ended=[1])
    assert (scene.found().people, scene.found().tracks) == (1, 2)
    agrees(scene)


def test_people_before_and_after_a_reconnect_are_not_known_to_be_the_same():
    scene = Scene()
    scene.show(1, 2)
    scene.show(1, 2)
    notice_events(scene.state, Notice(source="cam1", kind="epoch", media_us=0))
    scene.epoch, scene.seq = 2, 0
    scene.show(1)
    found = scene.found()
    assert (found.people, found.tracks, found.longest.track) == (3, 3, "cam1:1:1")
    agrees(scene)


@given(st.data())
@settings(max_examples=200)
def test_findings_are_those_of_the_event_log(data):
    """Random comings and goings, returns, merges, splits and swaps."""
    scene, newest = Scene(), 0
    # in the picture, from when on they may be split, who may come back, who was ever there
    here, since, away, was_here = set(), {}, set(), set()
    for _ in range(data.draw(st.integers(1, 25), "frames")):
        merged, split, ended = [], [], []
        for id_ in sorted(here):
            if data.draw(st.integers(0, 6)) == 0:
                here.remove(id_)
                ended.append(id_)
        match data.draw(
            st.sampled_from(["none", "none", "come", "back", "merge", "split", "swap"])
        ):
            case "come":
                newest += data.draw(st.integers(1, 2))  # the tracker may give ids it never shows
                here.add(newest)
            case "back" if away:
                here.add(data.draw(st.sampled_from(sorted(away))))
            case "merge" if here & since.keys() and away - here:
                gone = data.draw(st.sampled_from(sorted(here & since.keys())))
                kept = data.draw(st.sampled_from(sorted(away - here)))
                merged.append((gone, kept))
                here = (here - {gone}) | {kept}
            case "split" if old := {i for i in here & since.keys() if since[i] < scene.seq}:
                id_ = data.draw(st.sampled_from(sorted(old)))
                newest += 1
                split.append((id_, newest, data.draw(moments(since[id_], scene.seq))))
                here = (here - {id_}) | {newest}
            case "swap" if len(old := {i for i in here & since.keys() if since[i] < scene.seq}) > 1:
                a, b = data.draw(st.permutations(sorted(old)))[:2]
                at = data.draw(moments(max(since[a], since[b]), scene.seq))
                split += [(a, b, at), (b, a, at)]
        away |= {*ended, *(gone for gone, _ in merged), *(row[0] for row in split)} - here
        away -= {gone for gone, _ in merged}
        scene.show(*here, ended=ended, merged=merged, split=split)
        now = scene.seq - 1
        since = {id_: since.get(id_, now + (id_ in was_here)) for id_ in here}
        was_here |= here
        agrees(scene)


def moments(first, now):
    """Media times of frames in which an id was there, the last of them before now."""
    return st.integers(first, now - 1).map(lambda seq: seq * STEP_US)


def test_memory_does_not_grow_and_the_counts_stay_right():
    scene = Scene()
    for number in range(1, 2001):
        scene.show(number, ended=[number - 1] * (number > 1))
    size = len(msgspec.msgpack.encode(inner(scene.state, "jipda").people_count))
    assert size < 4000
    found = scene.found()
    assert (found.people, found.tracks, found.busiest.people) == (2000, 2000, 1)
    scene.show(7, ended=[2000])  # known again after all that time
    assert (scene.found().people, scene.found().tracks) == (2000, 2000)
