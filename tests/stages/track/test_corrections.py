"""What corrections make of the past, against histories that are rewritten row by row."""

from collections import Counter

import msgspec
import numpy as np
import pytest
from factories import frame, source, tracks
from hypothesis import given, settings
from hypothesis import strategies as st
from source_events import end_source, frame_events, start_source

from streamvis.errors import UsageError
from streamvis.events.envelope import Event
from streamvis.events.source_events import Finish, SourceEof
from streamvis.stages.track.corrections import Corrections, corrected_tracks
from streamvis.stages.track.events import (
    Merge,
    Split,
    TrackBegin,
    TrackEnd,
    TrackMerge,
    TrackSplit,
    TrackUpdate,
)

INFO = source("cam1")
STEP_US = 100_000


def frame_at(seq, epoch=1):
    return frame(seq, "cam1", epoch=epoch)


def tracks_of(places, ended=(), merged=None, split=None, seen=True):
    """Tracks by id, each at its x; `seen` says whether detections support them."""
    boxes = np.array(
        [[places[i], places[i], places[i] + 10, places[i] + 20] for i in sorted(places)]
    )
    rows = {"ended": ended, "merged": merged, "split": split}
    return tracks(sorted(places), boxes.reshape(-1, 4), detection=0 if seen else -1, **rows)


def logged(frames, ending="eof"):
    """The events of (frame, tracks), numbered as a publisher would."""
    state, drafts = start_source(INFO)
    for seen, followed in frames:
        drafts += frame_events(state, seen, followed)
    drafts += end_source(state, ending)
    return [
        Event(
            id="",
            source="cam1",
            epoch="e",
            tseq=offset + 1,
            offset=offset,
            time=draft.time,
            frame=draft.frame,
            what=draft.what,
        )
        for offset, draft in enumerate(drafts)
    ]


def told(events):
    return [event for event in events if isinstance(event.what, TrackBegin | TrackUpdate)]


def history(events):
    """(frame, number) -> x, by what is known at the end."""
    pairs = list(corrected_tracks(events, Corrections(events)))
    rows = {(e.frame.n, int(track.id.split(":")[2])): track.box_px[0] for e, track in pairs}
    assert len(rows) == len(pairs), "a track at two places in one frame"
    return rows


number = st.integers(1, 5)


@st.composite
def any_frames(draw):
    """Whatever a tracker may say, and some of what it never should."""
    frames, epoch = [], 1
    for seq in range(draw(st.integers(1, 12))):
        epoch += draw(st.integers(0, 9)) == 0
        tracks = tracks_of(
            draw(st.dictionaries(number, st.integers(0, 600), max_size=4)),
            ended=draw(st.lists(number, max_size=2)),
            merged=draw(st.none() | st.lists(st.tuples(number, number), max_size=3)),
            split=draw(
                st.none()
                | st.lists(st.tuples(number, number, st.integers(-1, seq * STEP_US)), max_size=3)
            ),
            seen=draw(st.booleans()),
        )
        skipped = draw(st.integers(0, 9)) == 0
        frames.append((frame_at(seq, epoch), None if skipped else tracks))
    return frames


@settings(max_examples=50)
@given(any_frames())
def test_who_ignores_corrections_sees_each_track_begin_and_end_in_turn(frames):
    events, open_ = logged(frames), set()
    for event in events:
        match event.what:
            case TrackBegin(track):
                assert track.id not in open_
                open_.add(track.id)
            case TrackUpdate(track):
                assert track.id in open_
            case TrackEnd(track):
                open_.remove(track.id)
    assert not open_


@settings(max_examples=50)
@given(any_frames())
def test_corrections_come_first_in_their_frame_and_an_end_by_merging_names_the_kept(frames):
    events = logged(frames)
    order = {TrackSplit: 0, TrackMerge: 1, TrackEnd: 2, TrackBegin: 3, TrackUpdate: 3}
    about = [event for event in events if event.frame and event.family == "track"]
    ranks = [(event.frame.n, order[type(event.what)]) for event in about]
    assert ranks == sorted(ranks)
    splits = Counter(event.frame.n for event in events if isinstance(event.what, TrackSplit))
    assert set(splits.values()) <= {1}
    merges = {
        (event.frame.n, event.what.merge.gone): event.what.merge.kept
        for event in events
        if isinstance(event.what, TrackMerge)
    }
    for event in about:
        if isinstance(event.what, TrackEnd):
            assert event.what.track.into == merges.get((event.frame.n, event.what.track.id))


@settings(max_examples=50)
@given(any_frames())
def test_nobody_is_at_two_places_in_one_frame(frames):
    events = logged(frames)
    rows = history(events)
    raw = Counter(event.frame.n for event in told(events))
    kept = Counter(n for n, _ in rows)
    assert set(kept) == set(raw)
    assert all(kept[n] <= raw[n] for n in raw)


@settings(max_examples=50)
@given(any_frames())
def test_reading_through_corrections_is_rewriting_when_they_come(frames):
    events = logged(frames)
    corrections = Corrections(events)
    rewritten = []  # [media_us, id] of each row so far
    for event in events:
        match event.what:
            case TrackBegin(track) | TrackUpdate(track):
                rewritten.append([event.time.media_us, track.id])
            case TrackSplit(splits):
                by = {split.id: split for split in splits}
                for row in rewritten:
                    if row[1] in by and row[0] >= by[row[1]].since_us:
                        row[1] = by[row[1]].other
            case TrackMerge(merge):
                for row in rewritten:
                    row[1] = merge.kept if row[1] == merge.gone else row[1]
    assert [corrections.track_id(event) for event in told(events)] == [row[1] for row in rewritten]


@st.composite
def mistaken(draw):
    """A tracker that mixes people up and later finds out; the frames, and who was where.

    Three people; (frame, id of the person) -> x. Person 1 is id 1 for good, and so on.
    """
    label = {1: 1, 2: 2, 3: 3}  # person -> the id it is reported by
    wrong = {}  # person -> since when
    fresh, reported, frames, truth = 4, set(), [], {}
    for seq in range(draw(st.integers(2, 25))):
        ended, merged, split = [], [], []
        step = "see" if seq == 0 else draw(st.sampled_from(["see", "swap", "anew", "find out"]))
        right = [person for person in label if person not in wrong]
        if step == "swap" and len(right) >= 2:
            a, b = right[:2]
            label[a], label[b] = label[b], label[a]
            wrong |= {a: seq, b: seq}
        elif step == "anew" and right:
            label[right[-1]], fresh = fresh, fresh + 1
            wrong[right[-1]] = seq
            ended = [right[-1]]
        elif step == "find out":
            for person, since in wrong.items():
                if label[person] > 3:
                    merged.append((label[person], person))
                    ended.append(label[person])
                else:
                    split.append((label[person], person, since * STEP_US))
                label[person] = person
            wrong = {}
        here = {
            person: draw(st.integers(0, 600))
            for person in label
            if seq == 0 or draw(st.integers(0, 3))
        }
        truth |= {(seq, person): x for person, x in here.items()}
        ended = [i for i in ended if i in reported]
        reported |= {label[person] for person in here}
        tracks = tracks_of({label[p]: x for p, x in here.items()}, ended, merged, split)
        frames.append((frame_at(seq), tracks))
    seq += 1
    split = [(label[p], p, since * STEP_US) for p, since in wrong.items() if label[p] <= 3]
    merged = [(label[p], p) for p in wrong if label[p] > 3]
    frames.append((frame_at(seq), tracks_of({}, [], merged, split)))
    return frames, truth


@settings(max_examples=60)
@given(mistaken())
def test_a_tracker_that_finds_out_its_mistakes_leaves_the_truth(case):
    frames, truth = case
    assert history(logged(frames)) == truth


def test_a_swap_and_a_return_as_they_are_read():
    frames = [
        (frame_at(0), tracks_of({1: 10, 2: 50})),
        (frame_at(1), tracks_of({1: 49, 2: 11})),  # they passed behind a tree
        (frame_at(2), tracks_of({1: 12, 2: 48}, split=[(1, 2, STEP_US), (2, 1, STEP_US)])),
        (frame_at(3), tracks_of({2: 47}, ended=[1])),
        (frame_at(4), tracks_of({2: 46, 3: 20})),
        (frame_at(5), tracks_of({1: 21, 2: 45}, ended=[3], merged=[(3, 1)])),
    ]
    assert history(logged(frames)) == {
        (n, i): x
        for i, places in [
            (1, {0: 10, 1: 11, 2: 12, 4: 20, 5: 21}),
            (2, {0: 50, 1: 49, 2: 48, 3: 47, 4: 46, 5: 45}),
        ]
        for n, x in places.items()
    }


def test_who_jumped_onto_another_and_was_found_again_in_one_frame():
    """1 took to a stranger, and went on as 2: the split speaks of 1 before the merge does."""
    frames = [
        (frame_at(0), tracks_of({1: 10})),
        (frame_at(1), tracks_of({1: 90})),
        (frame_at(2), tracks_of({1: 91, 2: 12})),
        (
            frame_at(3),
            tracks_of({1: 13, 3: 92}, ended=[2], merged=[(2, 1)], split=[(1, 3, STEP_US)]),
        ),
    ]
    assert history(logged(frames)) == {
        (0, 1): 10,
        (2, 1): 12,
        (3, 1): 13,
        (1, 3): 90,
        (2, 3): 91,
        (3, 3): 92,
    }


def test_a_detection_is_believed_over_a_guess_and_the_moved_over_the_other():
    guess = msgspec.structs.replace(tracks_of({1: 30, 2: 60}), detection=np.array([0, -1]))
    frames = [
        (frame_at(0), tracks_of({1: 10, 2: 40})),
        (frame_at(1), guess),
        (frame_at(2), tracks_of({1: 50}, merged=[(2, 1)])),
    ]
    assert history(logged(frames)) == {(0, 1): 40, (1, 1): 30, (2, 1): 50}


def event_of(what, offset, epoch="e"):
    """This, or what is told of track 1."""
    model = told(logged([(frame_at(offset), tracks_of({1: 10}))]))[0]
    return msgspec.structs.replace(model, what=what or model.what, offset=offset, epoch=epoch)


def test_a_correction_that_comes_again_changes_nothing_and_a_run_has_its_own():
    merge = TrackMerge(Merge(gone="cam1:1:1", kept="cam1:1:7"))
    split = TrackSplit((Split(id="cam1:1:7", other="cam1:1:8", since_us=0),))
    corrections = Corrections([event_of(merge, 5), event_of(split, 6), event_of(merge, 5)])
    assert corrections.track_id(event_of(None, 4)) == "cam1:1:8"
    assert corrections.track_id(event_of(None, 5)) == "cam1:1:1"
    assert corrections.track_id(event_of(None, 4, epoch="another run")) == "cam1:1:1"


def test_only_what_is_about_a_track_is_somebody():
    with pytest.raises(UsageError, match=r"source\.eof has no track"):
        Corrections().track_id(event_of(SourceEof(Finish(1)), 3))
