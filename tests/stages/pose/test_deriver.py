"""Postures begin, go on and are over by clearness and media time, and end with who has them."""

import msgspec
import numpy as np
import pytest
from factories import packet, source, tracks
from hypothesis import given
from hypothesis import strategies as st

from streamvis.config import Jipda
from streamvis.events.deriver import PublishPolicy
from streamvis.events.envelope import type_of
from streamvis.messages import Findings, Packet, Poses
from streamvis.stages.pose import PoseEstimation
from streamvis.stages.pose.deriver import LOST_US, PoseDeriver
from streamvis.stages.pose.events import PoseUpdate, PostureBegin, PostureEnd
from streamvis.stages.pose.keypoints import POSTURES
from streamvis.stages.publish.derive import SourceEvents, SourceStatus

INFO = source("cam1")
CONFIG = PoseEstimation(min_s=0.2, fallen_s=0.2, update_s=0.5)
NAN = float("nan")


def poses(rows: dict[int, float], label="fallen", *, sampled=True) -> Poses:
    """By id, how clear a posture is; the others are not."""
    ids = sorted(rows)
    clear = np.zeros((len(ids), len(POSTURES)), np.float32)
    clear[:, POSTURES.index(label)] = [rows[id_] for id_ in ids]
    return Poses(
        ids=np.array(ids, np.int64),
        points=np.ones((len(ids), 17, 2), np.float32),
        scores=np.full((len(ids), 17), 0.5, np.float32),
        covariances=np.broadcast_to(np.float32(4 * np.eye(2)), (len(ids), 17, 2, 2)),
        postures=clear,
        sampled=np.full(len(ids), sampled),
    )


def changes(deriver: PoseDeriver, one: Packet):
    events = deriver.derive(one)
    bodies = [*events.ends, *(draft.what for draft in events.drafts)]
    return [
        (what.__struct_config__.tag, getattr(what.posture, "reason", what.posture.label))
        for what in bodies
        if isinstance(what, PostureBegin | PostureEnd)
    ]


def curve(values, config=CONFIG, **given):
    """The changes by frame, at 10 a second, as one person's posture is so clear."""
    deriver, found = PoseDeriver(config, INFO, None), {}
    for k, clear in enumerate(values):
        part = None if clear is None else poses({7: clear}, **given)
        if some := changes(deriver, packet(k, tracks([7]), part, source="cam1")):
            found[k] = some
    return found


def test_a_posture_begins_once_it_has_lasted_and_is_over_once_it_has_not():
    clear = [0.1, 0.8, 0.8, 0.9, 0.6, 0.2, 0.4, 0.2, 0.2, 0.2, 0.1]
    begin, end = [("posture.begin", "fallen")], [("posture.end", "over")]
    assert curve(clear) == {3: begin, 9: end}


def test_a_fall_begins_sooner_than_other_postures():
    """A keypoint that is misplaced for half a second is no posture."""
    config = PoseEstimation()
    short = [0.0, *[0.9] * 6, 0.0, 0.0, 0.0, 0.0]
    assert list(curve(short, config, label="fallen")) == [4, 10]
    assert curve(short, config, label="sitting") == {}
    assert list(curve([0.9] * 12, config, label="sitting")) == [10]


def test_what_was_found_counts_the_postures_that_began_also_after_a_restart():
    deriver = PoseDeriver(CONFIG, INFO, None)
    for k, clear in enumerate([0.9] * 4 + [0.1] * 4):
        deriver.derive(packet(k, tracks([7]), poses({7: clear}), source="cam1"))
    deriver = PoseDeriver(CONFIG, INFO, deriver.state())
    for k, clear in enumerate([0.9] * 4, start=8):
        deriver.derive(packet(k, tracks([7]), poses({7: clear}), source="cam1"))
    assert deriver.findings(Findings(people=1)) == Findings(people=1, postures={"fallen": 2})


def test_without_postures_none_are_counted():
    deriver = PoseDeriver(CONFIG, INFO, None)
    assert deriver.findings(Findings()).postures is None
    deriver.derive(packet(0, tracks([7]), poses({7: 0.1}), source="cam1"))
    assert deriver.findings(Findings()).postures == {}


def test_a_flicker_is_no_posture():
    assert curve([0.9, 0.9, 0.6, 0.9, 0.9, 0.6] * 3) == {}


def test_frames_that_were_not_estimated_decide_nothing():
    assert curve([0.9] * 9, sampled=False) == {}
    assert curve([0.9, None, None, None, 0.9]) == {4: [("posture.begin", "fallen")]}


def test_what_is_unknown_decides_nothing_for_a_while():
    begin = [("posture.begin", "fallen")]
    assert curve([0.9, NAN, 0.9]) == {2: begin}
    assert curve([0.9, NAN, NAN, NAN, 0.9, 0.9]) == {}  # it has to become clear anew
    open_ = [0.9] * 3 + [NAN] * (LOST_US // 100_000)
    assert curve(open_) == {2: begin}
    assert curve([*open_, NAN]) == {2: begin, len(open_): [("posture.end", "lost")]}


@pytest.mark.parametrize(
    "gone",
    [
        {"ids": [9], "ended": [7]},
        {"ids": [9], "merged": [[7, 9]]},
        {"ids": [7, 9], "split": [[7, 9, 0]]},
    ],
)
def test_a_posture_ends_with_its_track(gone):
    deriver = PoseDeriver(CONFIG, INFO, None)
    for k in range(3):
        changes(deriver, packet(k, tracks([7]), poses({7: 1.0}), source="cam1"))
    last = packet(3, tracks(**gone), poses({}), source="cam1")
    events = deriver.derive(last)
    (end,) = events.ends
    assert isinstance(end, PostureEnd)
    assert (end.posture.track, end.posture.reason) == ("cam1:1:7", "lost")
    assert deriver.close("eof") == []


def test_open_postures_end_with_the_source():
    deriver = PoseDeriver(CONFIG, INFO, None)
    for k in range(3):
        both = {7: 1.0, 9: 0.9}
        changes(deriver, packet(k, tracks([7, 9]), poses(both, "sitting"), source="cam1"))
    ends = deriver.close("drained")
    assert [(end.posture.track, end.posture.label, end.posture.reason) for end in ends] == [
        ("cam1:1:7", "sitting", "drained"),
        ("cam1:1:9", "sitting", "drained"),
    ]
    assert ends[1].posture.clear_max == pytest.approx(0.9)


def test_updates_are_sampled_for_each_track():
    deriver, at = PoseDeriver(CONFIG, INFO, None), []
    for k in range(12):
        part = poses({7: 0, 9: 0} if k >= 3 else {7: 0})
        events = deriver.derive(packet(k, tracks(part.ids), part, source="cam1"))
        for draft in events.drafts:
            assert isinstance(draft.what, PoseUpdate)
            pose = draft.what.pose
            at.append((k, pose.track))
            assert len(pose.points_px) == len(pose.scores) == len(pose.sigma_px) == 17
            assert (pose.scores[0], pose.sigma_px[0]) == (0.5, 2.0)
    assert at == [
        *((0, "cam1:1:7"), (3, "cam1:1:9"), (5, "cam1:1:7")),
        *((8, "cam1:1:9"), (10, "cam1:1:7")),
    ]


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, NAN, None]), max_size=30), st.integers(0, 30))
def test_a_successor_derives_the_same_events(values, cut):
    whole, deriver = PoseDeriver(CONFIG, INFO, None), PoseDeriver(CONFIG, INFO, None)
    for k, clear in enumerate(values):
        if k == cut:
            deriver = PoseDeriver(CONFIG, INFO, deriver.state())
        part = None if clear is None else poses({7: clear})
        one = packet(k, tracks([7]), part, source="cam1")
        assert whole.derive(one) == deriver.derive(one)
    assert whole.close("eof") == deriver.close("eof")


def test_thresholds_that_cross_are_refused():
    with pytest.raises(msgspec.ValidationError, match="make `end` the smaller"):
        msgspec.convert({"kind": "pose", "begin": 0.3, "end": 0.5}, PoseEstimation)


def test_in_the_feed_a_posture_ends_before_its_track_and_state_survives():
    kinds = (Jipda(), CONFIG)
    events = SourceEvents(SourceStatus(INFO, INFO.epoch), kinds, PublishPolicy(every_us=10**9))
    events.start()
    for k in range(3):
        events.frame(packet(k, tracks([7]), poses({7: 1.0}), source="cam1"))
    status = msgspec.msgpack.decode(msgspec.msgpack.encode(events.status), type=SourceStatus)
    successor = SourceEvents(status, kinds, PublishPolicy(every_us=10**9), events.states())
    last = packet(3, tracks([], ended=[7]), poses({}), source="cam1")
    bodies = [[draft.what for draft in one.frame(last)] for one in (events, successor)]
    assert bodies[0] == bodies[1]
    assert [type_of(what) for what in bodies[0]] == ["posture.end", "track.end"]
