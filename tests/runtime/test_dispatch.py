"""Which jobs form a batch, and where it goes."""

from collections import deque

import pytest
from factories import frame
from factories import source as source_of
from hypothesis import assume, given
from hypothesis import strategies as st

from streamvis.config import MaskRcnn, Pipeline, Placement, StageSpec, WorkerSpec
from streamvis.runtime.dispatch import PREFETCH, Dispatch, fits, waiting
from streamvis.runtime.plan import group_stages
from streamvis.runtime.protocol import Answer, EndItem
from streamvis.runtime.state import Batch, InFlightFrame, Job, Stream, worker_group_of
from streamvis.runtime.supervision import ProcessSlot


def workers(batch=2, replicas=1, wait_ms=50.0):
    pipeline = Pipeline(stages=[StageSpec("detect", MaskRcnn())])
    spec = WorkerSpec(["detect"], batch=batch, replicas=replicas, wait_ms=wait_ms)
    group = worker_group_of(group_stages(pipeline, Placement(workers=[spec]))[0])
    for replica in group.replicas:
        replica.process.state = "ready"
    return group


def job(seq, deaths=0):
    return Job("a", InFlightFrame(frame(seq), 0.0, 0, (), [0], 1), deaths=deaths)


def dispatched(group, jobs, at=0.0):
    group.queues = {"": deque(jobs)}
    streams = {"a": Stream("a", ProcessSlot("decode-a"), info=source_of())}
    return [[i.frame.seq for i in send.items] for send in Dispatch(streams)(group, at)]


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 30))
def test_batches_are_full_in_order_and_no_more_than_the_workers_prefetch(batch, replicas, count):
    group = workers(batch, replicas)
    sent = dispatched(group, map(job, range(count)))
    expected = min(count // batch, PREFETCH * replicas)
    assert sent == [list(range(k * batch, (k + 1) * batch)) for k in range(expected)]
    assert len(group.queues[""]) == count - expected * batch
    assert all(len(replica.sent) <= PREFETCH for replica in group.replicas)


def test_a_batch_that_is_not_full_waits_its_time_if_the_worker_is_idle():
    group = workers(batch=2, wait_ms=50.0)
    assert dispatched(group, [job(0)], at=0.049) == []
    assert [one.in_flight.frame.seq for one in waiting(group)] == [0]
    assert dispatched(group, [job(0)], at=0.05) == [[0]]
    assert list(waiting(group)) == []
    assert dispatched(group, [job(1)], at=9.0) == []  # the worker has work until it is full


@given(st.integers(2, 8), st.floats(0.001, 0.1), st.floats(1.0, 200.0))
def test_a_batch_that_will_not_fill_in_its_time_does_not_wait(batch, interval_s, wait_ms):
    """Of packets that come at regular intervals the first waits only if the last comes in time."""
    group = workers(batch, wait_ms=wait_ms)
    for n in range(100):
        group.add_arrival(n * interval_s)
    spare_s = wait_ms / 1000 - (batch - 1) * interval_s
    assume(abs(spare_s) > 1e-6)
    assert dispatched(group, [job(0)]) == ([] if spare_s > 0 else [[0]])


def test_a_batch_waits_while_intervals_are_unknown():
    group = workers(batch=2, wait_ms=50.0)
    group.add_arrival(0.0)
    assert dispatched(group, [job(0)], at=0.001) == []


def test_a_frame_that_a_worker_died_at_is_sent_alone():
    group = workers(batch=4)
    assert dispatched(group, [job(0), job(1, deaths=1), job(2), job(3)], at=9.0) == [[0]]
    group.replicas[0].sent.clear()
    assert dispatched(group, [job(1, deaths=1), job(2)], at=0.0) == [[1]]


@pytest.mark.parametrize("state", ["starting", "stopping", "dying", "gone"])
def test_a_worker_that_is_not_ready_gets_nothing(state):
    group = workers(batch=1)
    group.replicas[0].process.state = state
    assert dispatched(group, [job(0)], at=9.0) == []
    assert list(waiting(group)) == []


def test_a_batch_with_an_end_does_not_wait():
    group = workers(batch=4)
    group.queues[""] = deque([Job("a", item=EndItem("a", "eof"))])
    (send,) = Dispatch({})(group, 0.0)
    assert [type(item) for item in send.items] == [EndItem]


@pytest.mark.parametrize(
    ("answer", "blobs", "fit"),
    [
        (Answer(1, [["detect"], []], [], []), 1, True),
        (Answer(2, [["detect"], []], [], []), 1, False),  # of another batch
        (Answer(1, [["detect"]], [], []), 1, False),  # a packet is missing
        (Answer(1, [["detect"], []], [], []), 2, False),  # a part too many
        (Answer(1, [["detect"], []], [], [], ran=[{}, {}]), 1, True),
        (Answer(1, [["detect"], []], [], [], ran=[{}]), 1, False),  # provenance of one packet
        (Answer(1, [["track"], []], [], []), 1, False),  # a stage of another group
    ],
)
def test_an_answer_fits_only_its_own_batch(answer, blobs, fit):
    group = workers().group
    assert fits(answer, Batch(1, [job(0), job(1)], 2, 0.0), group, blobs) == fit
