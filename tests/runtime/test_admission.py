"""Which source is granted which slots, and when."""

from collections import Counter, deque

import full_scan
import pytest
from factories import source as source_of
from hypothesis import given
from hypothesis import strategies as st

from streamvis.config import MaskRcnn, Pipeline, Placement, StageSpec, WorkerSpec
from streamvis.runtime.admission import AGE_S, IDLE_S, Admission
from streamvis.runtime.dispatch import PREFETCH
from streamvis.runtime.plan import group_stages
from streamvis.runtime.state import OrderedQueue, Stream, worker_group_of
from streamvis.runtime.supervision import ProcessSlot

WINDOW = 4


def workers(state="ready", batch=1, replicas=1, gate=False):
    pipeline = Pipeline(stages=[StageSpec("detect", MaskRcnn(gate=gate))])
    placement = Placement(workers=[WorkerSpec(["detect"], batch=batch, replicas=replicas)])
    group = worker_group_of(group_stages(pipeline, placement)[0])
    for replica in group.replicas:
        replica.process.state = state
    return group


def streams(*names, live=False):
    return {
        name: Stream(
            name,
            ProcessSlot(f"decode-{name}"),
            info=source_of(name, live=live),
            free=[f"{name}{n}" for n in range(WINDOW)],
            open=True,
        )
        for name in names
    }


def granted(sources, group, at=0.0):
    changed_workers = dict.fromkeys(group.replicas, group)
    grants = Admission([group], WINDOW)(sources.values(), changed_workers, at)
    return [(grant.source, grant.slots) for grant in grants]


def test_a_file_is_granted_every_free_slot_whether_a_worker_is_ready_or_not():
    for state in ("ready", "starting"):
        sources = streams("a", "b")
        expected = [(name, [f"{name}{n}" for n in range(WINDOW)]) for name in "ab"]
        assert granted(sources, workers(state)) == expected
        assert sources["a"].granted == set(expected[0][1])
        assert sources["a"].free == []


@pytest.mark.parametrize("change", [{"open": False}, {"saving": True}, {"ending": "eof"}])
def test_a_source_that_is_not_open_or_saves_or_has_ended_is_granted_nothing(change):
    sources = streams("a")
    for name, value in change.items():
        setattr(sources["a"], name, value)
    assert granted(sources, workers()) == []


def test_slots_of_an_older_size_in_flight_count_in_the_window():
    sources = streams("a")
    sources["a"].frames_in_flight = dict.fromkeys(range(WINDOW - 1))
    assert granted(sources, workers()) == [("a", ["a0"])]


@given(st.integers(1, 6), st.integers(1, 3))
def test_cameras_get_as_many_slots_as_workers_prefetch_one_by_one_in_turn(cameras, batch):
    names = [f"c{n}" for n in range(cameras)]
    sources = streams(*names, live=True)
    found = granted(sources, workers(batch=batch))
    assert all(len(slots) == 1 for _, slots in found)
    places = min(PREFETCH * batch, WINDOW * cameras)
    assert [name for name, _ in found] == [names[k % cameras] for k in range(places)]


def test_a_camera_waits_for_a_worker():
    assert granted(streams("a", live=True), workers("starting")) == []


def test_where_packets_are_quick_as_many_are_granted_as_are_done_in_time():
    group = workers()
    group.replicas[0].packet_s = AGE_S / 3
    assert len(granted(streams("a", "b", live=True), group)) in {2, 3}
    group.replicas[0].packet_s = AGE_S / 100
    assert len(granted(streams("a", "b", live=True), group)) == 2 * WINDOW


def test_a_silent_camera_holds_back_the_others_no_longer_than_its_time():
    sources = streams("silent", "other", live=True)
    silent = sources["silent"]
    silent.granted, silent.free, silent.granted_at = {"x", "y"}, [], 0.0
    assert granted(sources, workers(), at=IDLE_S / 2) == []
    assert [name for name, _ in granted(sources, workers(), at=IDLE_S)] == ["other"] * PREFETCH


def test_where_packets_are_slow_none_waits_behind_another():
    group = workers()
    group.replicas[0].packet_s = 2 * AGE_S
    assert len(granted(streams("a", "b", live=True), group)) == 1
    group.replicas[0].load = 1
    assert granted(streams("a", "b", live=True), group) == []


@given(st.integers(0, 3), st.integers(0, 3))
def test_a_camera_is_granted_what_its_own_worker_can_take(first, second):
    """Or the frames of a busy worker would grow old, while another has nothing to do."""
    group = workers(replicas=2, gate=True)
    sources = streams("a", "b", "c", live=True)
    for name, replica in zip("abc", [*group.replicas, group.replicas[0]], strict=True):
        sources[name].queues[group.group.index] = OrderedQueue(replica, deque())
    group.replicas[0].load, group.replicas[1].load = first, second
    found = Counter(name for name, _ in granted(sources, group))
    assert found["a"] + found["c"] == max(0, PREFETCH - first)
    assert found["a"] - found["c"] in (0, 1)
    assert found["b"] == max(0, PREFETCH - second)


def test_what_was_granted_before_counts_for_its_worker_alone():
    group = workers(replicas=2, gate=True)
    sources = streams("a", "b", live=True)
    for name, replica in zip("ab", group.replicas, strict=True):
        sources[name].queues[group.group.index] = OrderedQueue(replica, deque())
    sources["a"].granted, sources["a"].granted_at = {"x", "y"}, 0.0
    assert [name for name, _ in granted(sources, group, at=IDLE_S / 2)] == ["b"] * PREFETCH


@given(st.integers(1, 3), st.integers(1, 3), st.booleans(), st.data())
def test_a_look_at_what_has_changed_finds_what_a_look_at_everything_finds(
    batch, replicas, gate, data
):
    group = workers(batch=batch, replicas=replicas, gate=gate)
    sources = streams("file") | streams("a", "b", "c", "d", live=True)
    if gate:
        for stream in sources.values():
            replica = data.draw(st.sampled_from(group.replicas))
            stream.queues[group.group.index] = OrderedQueue(replica, deque())
    nodes = st.sampled_from(["", "one", "two"])
    for each in [*sources.values(), *group.replicas]:
        each.node = data.draw(nodes)
    admission = Admission([group], WINDOW)
    at, changed = 0.0, dict(sources)
    changed_workers = dict.fromkeys(group.replicas, group)
    for _ in range(30):
        expected = full_scan.grants([group], sources.values(), WINDOW, at)
        found = admission(changed.values(), changed_workers, at)
        assert [(grant.source, len(grant.slots)) for grant in found] == expected
        stream = data.draw(st.sampled_from(list(sources.values())))
        replica = data.draw(st.sampled_from(group.replicas))
        changed, changed_workers = {stream.name: stream}, {replica: group}
        match data.draw(
            st.sampled_from(["wait", "arrive", "finish", "close", "queue", "work", "move"])
        ):
            case "wait":
                changed, changed_workers = {}, {}
                at += data.draw(st.sampled_from([0.01, IDLE_S / 2, IDLE_S]))
            case "arrive" if stream.granted:
                stream.frames_in_flight[stream.admitted] = stream.granted.pop()
                stream.admitted += 1
            case "finish" if stream.frames_in_flight:
                seq = next(iter(stream.frames_in_flight))
                stream.free.append(stream.frames_in_flight.pop(seq))
            case "close":
                stream.open = not stream.open
            case "queue":
                group.queues[data.draw(nodes)] = deque(range(data.draw(st.integers(0, 2))))
            case "move":
                replica.node = data.draw(nodes)
            case "work":
                replica.load = data.draw(st.integers(0, PREFETCH * batch))
                replica.packet_s = data.draw(st.sampled_from([0.0, AGE_S / 5, 2 * AGE_S]))
                replica.process.state = data.draw(st.sampled_from(["ready", "dying"]))
