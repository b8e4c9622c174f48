"""What the core decides about, found by a look at everything: the oracle of its own short looks."""

from streamvis.runtime.admission import IDLE_S, _ahead
from streamvis.runtime.dispatch import waiting
from streamvis.runtime.drain import limits_of
from streamvis.runtime.supervision import next_due

NEVER = float("inf")


def grants(worker_groups, streams, window, at):
    """The slots that each source is to be granted now, in turn: [(source, count)]."""
    roots = [workers for workers in worker_groups if not workers.group.parents]
    granted, live = [], []
    for stream in streams:
        room = window - len(stream.granted) - len(stream.frames_in_flight) + stream.lost
        saving = (stream.saving or stream.ending is not None) and not stream.lost
        if not stream.free or not stream.open or saving or room <= 0:
            continue
        if not stream.live:
            granted.append((stream.name, min(room, len(stream.free))))
        elif not stream.granted or at < stream.granted_at + IDLE_S:
            live.append([len(stream.granted), stream.turn, stream, min(room, len(stream.free))])
    rooms = {}
    for workers in roots:
        batch = workers.group.worker.batch
        spare = {one: _ahead(one, batch) - len(one.queue) - one.load for one in workers.replicas}
        rooms[workers] = 0
        if workers.group.stateful:
            rooms |= spare
            continue
        rooms[workers] = sum(spare.values()) - sum(map(len, workers.queues.values()))
        for node in {one.node for one in workers.replicas if one.process.alive}:
            near = sum(spare[one] for one in workers.takers(node))
            rooms[workers.group.index, node] = near - len(workers.queues.get(node, ()))
    for stream in streams:
        if stream.granted and stream.live and at < stream.granted_at + IDLE_S:
            for taker in takers(roots, stream):
                rooms[taker] -= len(stream.granted)
    turn = max((stream.turn for stream in streams), default=0)
    while live := [
        one for one in live if one[3] and all(rooms[t] > 0 for t in takers(roots, one[2]))
    ]:
        first = min(live, key=lambda one: one[:2])
        turn += 1
        first[0], first[1], first[3] = first[0] + 1, turn, first[3] - 1
        granted.append((first[2].name, 1))
        for taker in takers(roots, first[2]):
            rooms[taker] -= 1
    return granted


def takers(roots, stream):
    for workers in roots:
        index = workers.group.index
        near = any(one.node == stream.node and one.process.alive for one in workers.replicas)
        if index in stream.queues:
            yield stream.queues[index].replica
        elif near and workers.group.reads_pixels and not workers.group.stateful:
            yield index, stream.node
        else:
            yield workers


def due(core, now):
    """The time of the next decision."""
    deadlines, limits = core._deadlines, core.limits
    late = deadlines is not None and core._late
    call_s = limits.drain_heartbeat_timeout_s if late else limits.call_timeout_s
    times = [next_due(one, limits_of(one, limits, deadlines)) for one in core.processes]
    times += [core._sources.due(stream) for stream in core.streams.values()]
    for workers in core.worker_groups:
        times += [
            one.sent[0].at + call_s for one in workers.replicas if one.sent and one.process.alive
        ]
        if workers.wait_s:
            times += [job.since + workers.wait_s for job in waiting(workers)]
    if deadlines is not None:
        times.append(deadlines.due(now))
    return min(times, default=NEVER)


def left_undone(core):
    """What could be done now, and so should have been done by the last step."""
    for stream in core.streams.values():
        over = not stream.frames_in_flight and not stream.open_notices
        if stream.ending is not None and over and not stream.done:
            yield f"the end of {stream.name}"
        saving = stream.saving and stream.ending is None and core._deadlines is None
        if saving and over and not stream.granted:
            yield f"the checkpoint of {stream.name}"
    for workers in core.worker_groups:
        if workers.wait_s:
            continue
        for replica in workers.replicas:
            queues = [replica.queue]
            if not workers.group.stateful:
                queues = [
                    q for node, q in workers.queues.items() if replica in workers.takers(node)
                ]
            if replica.process.state == "ready" and not replica.sent and any(queues):
                yield f"a batch for {replica.process.name}"


class CheckedAdmission:
    """Admission that is compared with a look at all sources and workers."""

    def __init__(self, core):
        self._core, self._admission = core, core._admission

    def __call__(self, changed, workers, at):
        core = self._core
        expected = grants(core.worker_groups, core.streams.values(), core.window, at)
        found = self._admission(changed, workers, at)
        files = [one for one in expected if not core.streams[one[0]].live]
        pairs = [(order.source, len(order.slots)) for order in found]
        assert pairs[len(files) :] == expected[len(files) :]
        assert sorted(pairs[: len(files)]) == sorted(files)
        return found
