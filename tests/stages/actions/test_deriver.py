"""Actions begin, go on and are over by probability and media time, and end with who does them."""

import numpy as np
import pytest
from factories import frame, source, tracks
from hypothesis import given
from hypothesis import strategies as st
from source_events import end_source, frame_events, inner, source_findings, start_source, successor

from streamvis.events.envelope import Event, Time, encode, family_of, type_of
from streamvis.events.export import csv_lines
from streamvis.events.log import Row
from streamvis.messages import Actions, ActionThresholds
from streamvis.stages import event_codec
from streamvis.stages.actions.events import Action, ActionBegin, ActionEnd, EndedAction

INFO = source("cam1")
RULE = ActionThresholds(begin=0.7, end=0.5, min_us=200_000, ignore=("normal",))


def frame_at(k, epoch=1):
    return frame(k, "cam1", epoch=epoch)


def doing(rows, *, warm=True, sampled=True) -> Actions:
    """By id, how probable a fight is."""
    ids = sorted(rows)
    return Actions(
        labels=("fight", "normal"),
        ids=np.array(ids, np.int64),
        probabilities=np.array([[rows[i], 1 - rows[i]] for i in ids], np.float32).reshape(-1, 2),
        warm=np.full(len(ids), warm),
        window_us=np.full(len(ids), 900_000),
        sampled=np.full(len(ids), sampled),
        thresholds=RULE,
    )


def told(drafts):
    return [
        (type_of(d.what), getattr(d.what.action, "reason", d.what.action.p))
        for d in drafts
        if family_of(d.what) == "action"
    ]


def curve(probabilities, every_us=10**9, **changes):
    """What is told, by frame, as one person's probability goes so."""
    state, _ = start_source(INFO)
    found = {}
    for k, p in enumerate(probabilities):
        actions = None if p is None else doing({7: p}, **changes)
        drafts = frame_events(state, frame_at(k), tracks([7]), actions, every_us=every_us)
        if some := told(drafts):
            found[k] = some
    return found


def fighting(ids=(7,), whole=False):
    """A state in which these fight since frame 2."""
    state, _ = start_source(INFO)
    rows = dict.fromkeys((*([0] if whole else []), *ids), 0.9)
    for k in range(3):
        frame_events(state, frame_at(k), tracks(ids), doing(rows))
    assert inner(state, "off").open.keys() == rows.keys()
    return state


def test_an_action_begins_once_it_has_lasted_and_is_over_once_it_has_not():
    p = [0.1, 0.8, 0.8, 0.9, 0.6, 0.4, 0.6, 0.4, 0.4, 0.4, 0.1]
    assert curve(p) == {3: [("action.begin", 0.9)], 9: [("action.end", "over")]}


def test_a_flicker_is_no_action():
    assert curve([0.9, 0.9, 0.6, 0.9, 0.9, 0.6] * 3) == {}


def test_what_is_not_warm_or_not_new_decides_nothing():
    assert curve([0.9] * 9, warm=False) == {}
    assert curve([0.9] * 9, sampled=False) == {}
    assert curve([0.9] * 4 + [None] * 9) == {2: [("action.begin", 0.9)]}


def test_updates_are_sampled():
    every = curve([0.9] * 7, every_us=0)
    assert every == {
        2: [("action.begin", 0.9)],
        **{k: [("action.update", 0.9)] for k in range(3, 7)},
    }
    some = curve([0.9] * 7, every_us=300_000)
    assert some == {2: [("action.begin", 0.9)], 5: [("action.update", 0.9)]}


def test_what_is_told_of_an_action():
    state, _ = start_source(INFO)
    for k, p in enumerate((0.75, 0.9512345, 0.8)):
        drafts = frame_events(state, frame_at(k), tracks([7]), doing({0: p, 7: p}))
    whats = [d.what.action for d in drafts if family_of(d.what) == "action"]
    known = {"label": "fight", "p": 0.8, "window_us": 900_000, "since_us": 0}
    assert whats == [Action(**known), Action(**known, track="cam1:1:7")]
    assert (drafts[-1].time.media_us, drafts[-1].frame.n) == (200_000, 2)
    for draft in end_source(state, "eof")[:2]:
        assert draft.what.action.p_max == 0.9512
        assert draft.what.action.reason == "eof"


def test_an_action_ends_before_the_track_does():
    drafts = frame_events(
        fighting([7, 9]), frame_at(3), tracks([9], ended=np.array([7])), doing({9: 0.9})
    )
    assert [type_of(d.what) for d in drafts] == [
        "action.end",
        "track.end",
        "track.update",
        "action.update",
    ]
    assert drafts[0].what.action.track == "cam1:1:7"
    assert drafts[0].what.action.reason == "lost"


@pytest.mark.parametrize(
    "change", [{"merged": np.array([[9, 7]])}, {"split": np.array([[9, 12, 100_000]])}]
)
def test_who_was_mixed_up_does_nothing_that_is_known(change):
    state = fighting([7, 9])
    drafts = frame_events(state, frame_at(3), tracks([7, 12], **change))
    assert told(drafts) == [("action.end", "lost")]
    assert inner(state, "off").open.keys() == {7}


def test_who_is_looked_at_no_more_does_nothing_that_is_known():
    drafts = frame_events(fighting([7, 9]), frame_at(3), tracks([7, 9]), doing({7: 0.9}))
    assert told(drafts) == [("action.end", "lost"), ("action.update", 0.9)]


@pytest.mark.parametrize("ending", ["eof", "drained", "failed"])
def test_all_ends_with_the_source(ending):
    assert told(end_source(fighting([7, 9], whole=True), ending)) == [("action.end", ending)] * 3


def test_all_ends_with_the_stream_epoch():
    state = fighting([7], whole=True)
    drafts = frame_events(state, frame_at(0, epoch=2), tracks([7]), doing({7: 0.9}))
    assert told(drafts) == [("action.end", "epoch")] * 2
    assert drafts[0].what.action.track is None
    assert drafts[1].what.action.track == "cam1:1:7"


def test_frames_alone_are_told_of_without_a_tracker():
    state, _ = start_source(INFO)
    found = [
        told(frame_events(state, frame_at(k), doing({0: 0.9}), every_us=10**9)) for k in range(4)
    ]
    assert found == [[], [], [("action.begin", 0.9)], []]


@given(
    st.lists(
        st.dictionaries(st.sampled_from([0, 7, 9]), st.floats(0, 1, width=32), max_size=3)
        | st.none(),
        max_size=40,
    ),
    st.lists(st.sets(st.sampled_from([7, 9])), min_size=40, max_size=40),
)
def test_begins_and_ends_alternate_and_a_successor_goes_on_exactly(rows, present):
    state, _ = start_source(INFO)
    open_, before = set(), set()
    for k, row in enumerate(rows):
        ids = sorted(present[k])
        ended = np.array(sorted(before - present[k]), np.int64)
        before = present[k]
        seen = {i: p for i, p in (row or {}).items() if i == 0 or i in ids}
        actions = None if row is None else doing(seen)
        followed = tracks(ids, ended=ended)
        heir = successor(state)
        drafts = frame_events(state, frame_at(k), followed, actions)
        assert frame_events(heir, frame_at(k), followed, actions) == drafts
        for draft in drafts:
            if family_of(draft.what) != "action":
                continue
            key = (draft.what.action.track, draft.what.action.label)
            kind = type_of(draft.what)
            assert (key in open_) == (kind != "action.begin")
            assert key[1] == "fight"
            open_ = open_ - {key} if kind == "action.end" else open_ | {key}
    assert len(told(end_source(state, "eof"))) == len(open_)


def test_an_action_in_a_table():
    action = Action(label="fight", p=0.9, window_us=900_000, since_us=100_000)
    ended = EndedAction(
        label="fight", p=0.3, p_max=0.9, window_us=1, since_us=5, reason="over", track="cam1:1:7"
    )
    rows = []
    for k, what in enumerate((ActionBegin(action), ActionEnd(ended))):
        event = Event(
            id="x",
            source="cam1",
            epoch="e",
            tseq=1,
            offset=k,
            time=Time(media_us=7),
            what=what,
        )
        rows.append(Row("cam1", k, 1, event.type, 7, encode(event)))
    head, *lines = (line.strip().split(",") for line in csv_lines(rows, event_codec()))
    begin, end = (dict(zip(head, line, strict=True)) for line in lines)
    assert {k: v for k, v in begin.items() if v and k not in ("source", "type")} == {
        "offset": "0",
        "media_us": "7",
        "capture_us": "0",
        "label": "fight",
        "since_us": "100000",
        "p": "0.9",
        "window_us": "900000",
    }
    assert (end["track"], end["reason"], end["p"]) == ("cam1:1:7", "over", "0.3")


def test_what_was_found_counts_how_often_each_action_began():
    state, _ = start_source(INFO)
    assert source_findings(state).actions is None
    ps = [0.1, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9]
    begun = 0
    for k, p in enumerate(ps):
        drafts = frame_events(state, frame_at(k), tracks([4]), doing({4: p}))
        begun += sum(isinstance(draft.what, ActionBegin) for draft in drafts)
    assert begun == 2
    assert source_findings(state).actions == {"fight": 2}


def test_an_action_stage_that_saw_nothing_happen_found_none():
    state, _ = start_source(INFO)
    frame_events(state, frame_at(0), tracks([4]), doing({4: 0.1}))
    assert source_findings(state).actions == {}
