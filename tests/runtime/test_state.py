"""Small decisions on the state of a run."""

import pytest
from factories import source as source_of
from hypothesis import given
from hypothesis import strategies as st

from streamvis.config import MaskRcnn, Pipeline, Placement, StageSpec, WorkerSpec
from streamvis.runtime.plan import group_stages
from streamvis.runtime.protocol import DecodedFrame
from streamvis.runtime.state import (
    Batch,
    Job,
    Stream,
    frame_of,
    queue_length,
    stages_to_skip,
    too_many_exits,
    worker_group_of,
)
from streamvis.runtime.supervision import Limits, ProcessSlot


def workers(replicas=2):
    pipeline = Pipeline(stages=[StageSpec("detect", MaskRcnn())])
    placement = Placement(workers=[WorkerSpec(["detect"], replicas=replicas)])
    return worker_group_of(group_stages(pipeline, placement)[0])


def stream(**changes):
    return Stream("a", ProcessSlot("decode-a"), info=source_of(), **changes)


@given(
    st.lists(st.integers(0, 10_000_000), max_size=40).map(sorted),
    st.sampled_from([0.1, 0.5, 1.0, 3.0]),
)
def test_a_stage_with_every_s_runs_once_in_each_interval_of_media_time(times_us, every_s):
    stage = StageSpec("detect", MaskRcnn(), every_s=every_s)
    source = stream()
    ran = [t for t in times_us if not stages_to_skip(source, [stage], t)]
    intervals = [int(t // (every_s * 1e6)) for t in times_us]
    assert [int(t // (every_s * 1e6)) for t in ran] == sorted(set(intervals))


def test_a_frame_has_the_number_and_times_of_its_picture_and_the_next_place_of_its_source():
    source = stream(admitted=5, epoch=2)
    source.info = source_of(start_us=1_000_000)
    frame = frame_of(source, DecodedFrame("s:0", 7, 40_000, 0, "file", 4, 2, 0, []))
    assert (frame.seq, frame.n, frame.epoch, frame.slot) == (5, 7, 2, "s:0")
    assert (frame.media_us, frame.capture_us) == (40_000, 1_040_000)
    live = frame_of(source, DecodedFrame("s:0", 7, 40_000, 9, "arrival", 4, 2, 0, []))
    assert (live.capture_us, live.clock) == (9, "arrival")


@pytest.mark.parametrize("seconds", [0.1, 2.0])
def test_the_smoothed_duration_of_a_packet_settles_at_that_of_equal_batches(seconds):
    replica = workers().replicas[0]
    replica.add_batch(0, 5.0)
    assert replica.packet_s == 0  # a batch without packets says nothing
    replica.add_batch(4, 4 * seconds)
    assert replica.packet_s == pytest.approx(seconds)
    for _ in range(100):
        replica.add_batch(2, 6 * seconds)
    assert replica.packet_s == pytest.approx(3 * seconds, rel=1e-3)


def test_a_queue_counts_what_waits_and_what_is_with_the_workers():
    group = workers()
    assert queue_length(group) == 0
    group.queue_of(Job("a")).append(Job("a"))
    group.replicas[0].queue.append(Job("a"))
    group.replicas[1].load = 3
    assert queue_length(group) == 5


def test_a_worker_is_busy_since_its_oldest_batch():
    replica = workers().replicas[0]
    assert replica.busy_s(9.0) == 0
    replica.sent.extend([Batch(1, [], 1, at=2.0), Batch(2, [], 1, at=8.0)])
    assert replica.busy_s(9.0) == 7


def test_a_process_that_died_too_often_is_reported_with_its_last_reason():
    limits = Limits(deaths=2, within_s=30.0)
    expected = "its process died more than 2 times in 30 s, the last time: "
    assert too_many_exits("killed by SIGKILL", limits) == expected + "killed by SIGKILL"
    assert too_many_exits("", limits) == expected + "it ended by itself"
