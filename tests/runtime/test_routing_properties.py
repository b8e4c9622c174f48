"""Whatever happens, in whatever order: nothing is lost, doubled or swapped.

A make-believe shell carries the core's orders out. Hypothesis chooses what happens next: who
answers, who dies, which picture comes, how time passes.
"""

from collections import Counter, deque
from itertools import pairwise

import facts
import full_scan
import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.config import (
    Jipda,
    MaskRcnn,
    Pipeline,
    Placement,
    Publish,
    Record,
    StageSpec,
    WorkerSpec,
)
from streamvis.messages import SourceInfo
from streamvis.runtime import protocol, supervision
from streamvis.runtime.dispatch import PREFETCH
from streamvis.runtime.gaps import Gap
from streamvis.runtime.plan import group_stages
from streamvis.runtime.protocol import (
    Answer,
    BeginItem,
    DecodedFrame,
    EndItem,
    FrameItem,
    NoticeItem,
    StageState,
)
from streamvis.runtime.routing import Core
from streamvis.runtime.supervision import Limits
from streamvis.zone_layout import Zone, ZoneLayout

PIPELINE = Pipeline(
    stages=[
        StageSpec("detect", MaskRcnn(), every_s=0.08),
        StageSpec("second", MaskRcnn()),
        StageSpec("track", Jipda(), after=["detect"]),
        StageSpec("publish", Publish(), after=["track", "second"]),
        StageSpec("record", Record(), after=["track"], every_s=0.12),
    ]
)
READS = {
    "detect": [],
    "second": [],
    "track": ["detect"],
    "publish": ["track"],
    "record": ["detect", "track"],
}
LONG = Limits(deaths=10**6, heartbeat_timeout_s=1e9, call_timeout_s=1e9, checkpoint_s=0.002)


LAYOUTS = [
    ZoneLayout(zones=(Zone(name=f"z{i}", polygon=((0.1, 0.1), (0.9, 0.1), (0.5, 0.9))),))
    for i in range(5)
]


class World:
    """Processes, sources and time, all made up."""

    limits = LONG

    def __init__(self, placement, sources, cursed=frozenset(), hung=frozenset()):
        self.cursed = cursed  # (stage, source, seq): a worker that processes it dies
        self.hung = hung  # stages that never answer once the run is drained
        self.silent = False  # and have no heartbeat then
        self.zones = dict.fromkeys(sources, 0)  # number of the layout that each source has now
        self.zones_at = {}  # (source, seq) -> when it was admitted
        self.core = Core(
            *(group_stages(PIPELINE, placement), list(sources), placement.slots, self.limits),
            zones=dict.fromkeys(sources, LAYOUTS[0]),
        )
        self.core._admission = full_scan.CheckedAdmission(self.core)
        self.window = placement.slots
        self.batch = {
            workers.group.name: workers.group.worker.batch for workers in self.core.worker_groups
        }
        self.now = 0.0
        self.starting = set()
        self.alive = set()
        self.inbox = {}  # process -> batches that it has not answered
        self.memory = {}  # (process, stage, source) -> items that it got
        self.ended = {}  # (stage, source) -> all items that it got
        self.sources = sources  # name -> (pictures, live)
        self.decode = {}  # name -> [next n, granted slots, size]
        self.opening = {}
        self.sizes = Counter()
        self.admitted = Counter()
        self.dropped = Counter()
        self.drained = set()  # admitted at first, then dropped
        self.done = Counter()
        self.poison = set()
        self.skipped = {}
        self.feed(protocol.Tick(0.0))

    def feed(self, fact):
        facts = deque([fact])
        while facts:
            for order in self.core.step(facts.popleft()):
                facts += self.carry_out(order) or ()
        self.check()

    def carry_out(self, order):
        match order:
            case supervision.StartProcess(process):
                self.starting.add(process)
            case supervision.KillProcess(process, _) | supervision.StopProcess(process):
                self.forget(process)
                return [protocol.ProcessExited(process, "", self.now)]
            case protocol.OpenSource(source, epoch, after_n):
                self.opening[source] = (epoch, after_n + 1)
            case protocol.GrantSlots(source, slots):
                self.decode[source][1] += slots
            case protocol.SendWork(process):
                self.inbox[process].append(order)
                packets = [item for item in order.items if isinstance(item, FrameItem)]
                assert len(packets) <= self.batch[process.rpartition(".")[0]]
                assert len(self.inbox[process]) <= PREFETCH
            case protocol.FrameCompleted(frame, parts, skipped, poison, _, dropped):
                key = (frame.source, frame.seq)
                self.done[key] += 1
                if dropped:
                    self.drained.add(key)
                    return None
                self.skipped[key] = skipped
                if poison:
                    self.poison.add(key)
                else:
                    assert set(parts) == set(READS) - set(skipped)
            case protocol.SaveCheckpoint(source, checkpoint):
                assert checkpoint.ending or not self.sources[source][1]  # live ones begin anew
                assert not self.core.streams[source].frames_in_flight
                assert checkpoint.admitted == self.core.streams[source].admitted
                assert sum(name == source for name, _ in self.done) == self.admitted[source]
            case protocol.FailRun():
                assert self.hung, order.message
        return None

    def forget(self, process):
        self.starting.discard(process)
        self.alive.discard(process)
        self.inbox.pop(process, None)
        self.memory = {key: history for key, history in self.memory.items() if key[0] != process}
        source = process.removeprefix("decode-")
        self.decode.pop(source, None)
        self.opening.pop(source, None)

    def check(self):
        assert self.core.due(self.now) == full_scan.due(self.core, self.now)
        assert list(full_scan.left_undone(self.core)) == []
        for stream in self.core.streams.values():
            held = [in_flight.frame.slot for in_flight in stream.frames_in_flight.values()]
            assert len(set(held)) == len(held)
            assert len(held) + len(stream.granted) <= self.window
            assert not set(held) & (stream.granted | set(stream.free))
            drained = sum(source == stream.name for source, _ in self.drained)
            assert stream.admitted == self.admitted[stream.name] - drained
            assert sum(stream.dropped.values()) == self.dropped[stream.name] + drained

    def options(self):
        """What could happen next, as (name, argument)."""
        yield from (("join", process) for process in sorted(self.starting))
        yield from (("open", source) for source in sorted(self.opening))
        yield from (("answer", process) for process in sorted(self.inbox) if self.inbox[process])
        for name, (n, granted, _) in sorted(self.decode.items()):
            if self.core.streams[name].ending is None:
                if n >= self.sources[name][0]:
                    yield "end", name
                elif granted:
                    yield "shoot", name
        yield "wait", None

    def deaths(self):
        yield from (("die", process) for process in sorted(self.alive))
        yield from (("grow", source) for source in sorted(self.decode))
        yield from (("set_zones", source) for source in sorted(self.sources))

    def hangs(self, choice):
        """Whether this is the answer of a worker that gives none."""
        what, who = choice
        return what == "answer" and bool(set(who.rpartition(".")[0].split("+")) & self.hung)

    def happen(self, what, who):
        getattr(self, what)(who)

    def wait(self, _):
        self.now = max(self.now + 0.001, min(self.core.due(self.now), self.now + 1.0))
        for process in sorted(self.alive):
            if not (self.silent and self.hangs(("answer", process))):
                self.feed(protocol.Heartbeat(process, self.now))
        self.feed(protocol.Tick(self.now))

    def join(self, process):
        self.starting.discard(process)
        self.alive.add(process)
        if not process.startswith("decode-"):
            self.inbox[process] = deque()
        self.feed(facts.started(process, self.now))

    def open(self, source):
        epoch, n = self.opening.pop(source)
        self.decode[source] = [n, [], self.sizes[source]]
        live = self.sources[source][1]
        info = SourceInfo(
            id=source, label=source, width=1, height=1, fps=25, live=live, epoch=epoch
        )
        self.feed(facts.opened(source, info, self.now))
        if not self.core.streams[source].slots:
            self.slots(source)

    def slots(self, source):
        self.decode[source][1].clear()
        names = [f"{source}-{self.sizes[source]}:{i}" for i in range(self.window)]
        self.feed(protocol.SlotsCreated(source, names, self.now))

    def grow(self, source):
        if self.core.streams[source].ending is None:
            self.sizes[source] += 1
            self.slots(source)

    def set_zones(self, source):
        self.zones[source] = number = (self.zones[source] + 1) % len(LAYOUTS)
        self.feed(protocol.SetZones(source, LAYOUTS[number], self.now))

    def die(self, process):
        self.forget(process)
        self.feed(protocol.ProcessExited(process, "boom", self.now))

    def shoot(self, source):
        n, granted, _ = self.decode[source]
        gaps = []
        if self.sources[source][1] and n % 3 == 2:
            gaps = [Gap("overload", 1, n, n)]
            self.dropped[source] += 1
            n += 1
        self.decode[source][0] = n + 1
        self.zones_at[source, self.admitted[source]] = LAYOUTS[self.zones[source]].zones[0].name
        self.admitted[source] += 1
        decoded_frame = DecodedFrame(granted.pop(0), n, n * 40_000, 0, "file", 1, 1, 0, gaps)
        self.feed(facts.admitted(source, decoded_frame, self.now))

    def end(self, source):
        self.feed(facts.ended(source, "eof", self.now))

    def answer(self, process):
        send = self.inbox[process][0]
        names = process.rpartition(".")[0].split("+")
        at_work = {
            (name, item.frame.source, item.frame.seq)
            for item in send.items
            if isinstance(item, FrameItem)
            for name in names
        }
        if at_work & self.cursed:
            self.die(process)
            return
        self.inbox[process].popleft()
        blobs = iter(send.blobs)
        wrote, parts, states = [], [], {}
        for item in send.items:
            if isinstance(item, FrameItem):
                key = f"{item.frame.source}/{item.frame.seq}"
                given = {name: next(blobs) for name in item.parts}
                assert given == {name: f"{name}:{key}" for name in given}
                wrote.append([name for name in names if name not in item.skip])
                parts += [f"{name}:{key}" for name in wrote[-1]]
                for name in wrote[-1]:
                    outside = {r for r in READS[name] if r not in names}
                    rests = set(
                        self.core.streams[item.frame.source].frames_in_flight[item.frame.seq].skip
                    )
                    assert set(given) >= outside - rests
            for name in names:
                if PIPELINE.stage(name).run.stateful:
                    self.record(process, name, item, states)
        answer = Answer(send.id, wrote, list(states.values()), [])
        self.feed(facts.answered(process, answer, parts, self.now))

    def record(self, process, stage, item, states):
        match item:
            case BeginItem(info, begun):
                source = info.id
                assert (process, stage, source) not in self.memory
                # of a source that was never open nothing is known
                history = [["zones", info.zones.zones[0].name]] if info.zones else []
                if stage in begun:
                    history = msgspec.msgpack.decode(begun[stage])
                self.memory[process, stage, source] = history
            case FrameItem(frame, skip):
                source = frame.source
                if stage not in skip:
                    self.memory[process, stage, source].append(["frame", frame.seq])
            case NoticeItem(notice) if notice.kind == "zones":
                source = notice.source
                self.memory[process, stage, source].append(["zones", notice.zones.zones[0].name])
            case NoticeItem(notice):
                source = notice.source
                self.memory[process, stage, source].append(
                    [notice.reason or notice.kind, notice.first_n, notice.count]
                )
            case EndItem(source):
                assert (stage, source) not in self.ended
                self.ended[stage, source] = self.memory.pop((process, stage, source))
                states.pop((stage, source), None)
                return
        history = self.memory[process, stage, source]
        states[stage, source] = StageState(stage, source, msgspec.msgpack.encode(history))


def verdict(world):
    """What must hold once all is over."""
    everything = {
        (source, seq) for source in world.sources for seq in range(world.admitted[source])
    }
    assert world.done == dict.fromkeys(everything, 1)
    for source, stream in world.core.streams.items():
        assert stream.dropped.get("drained", 0) == sum(s == source for s, _ in world.drained)
    for source in world.sources:
        for stage in ("track", "publish", "record"):
            if (stage, source) not in world.ended:
                assert world.admitted[source] == 0
                continue
            history = world.ended[stage, source]
            zones = [what[1] for what in history if what[0] == "zones"]
            assert all(before != after for before, after in pairwise(zones))
            now = None
            for kind, what, *_ in history:
                if kind == "zones":
                    now = what
                assert kind != "frame" or now == world.zones_at[source, what]
            seqs = [what[1] for what in history if what[0] == "frame"]
            assert seqs == sorted(set(seqs))
            due = [
                seq
                for seq in range(world.admitted[source])
                if (source, seq) not in world.drained and stage not in world.skipped[source, seq]
            ]
            missing = set(due) - set(seqs)
            assert {(source, seq) for seq in set(seqs) - set(due)} <= world.drained
            assert {(source, seq) for seq in missing} <= world.poison
            assert sum(what[0] in ("poison", "lost") for what in history) >= len(missing)
            noticed = Counter()
            for kind, _, *count in history:
                noticed[kind] += sum(count)
            for reason in ("overload", "drained"):
                assert noticed[reason] == world.core.streams[source].dropped.get(reason, 0)


groupings = st.sampled_from(
    [
        [["detect"], ["second"], ["track"], ["publish"], ["record"]],
        [["detect", "track"], ["second"], ["publish", "record"]],
        [["detect", "second"], ["track", "publish", "record"]],
        [["second", "detect", "track", "publish", "record"]],
    ]
)


@st.composite
def placements(draw):
    return Placement(
        workers=[
            WorkerSpec(
                stages,
                replicas=draw(st.integers(1, 3)),
                batch=draw(st.integers(1, 3)),
                wait_ms=draw(st.sampled_from([0, 2])),
            )
            for stages in draw(groupings)
        ],
        slots=draw(st.integers(1, 4)),
    )


sources = st.dictionaries(
    st.sampled_from(["a", "b"]), st.tuples(st.integers(0, 8), st.booleans()), min_size=1
)


cursed = st.frozensets(
    st.tuples(st.sampled_from(sorted(READS)), st.sampled_from(["a", "b"]), st.integers(0, 7)),
    max_size=3,
)


@settings(max_examples=100)
@given(placements(), sources, cursed, st.data())
def test_nothing_is_lost_doubled_or_swapped(placement, sources, cursed, data):
    world = World(placement, sources, cursed)
    for _ in range(data.draw(st.integers(0, 60))):
        if world.core.finished:
            break
        choices = list(world.options())
        if data.draw(st.integers(0, 7)) == 0:
            choices = list(world.deaths()) or choices
        world.happen(*data.draw(st.sampled_from(choices)))
    if data.draw(st.booleans()):
        world.feed(protocol.Drain(world.now))
    for _ in range(2000):
        if world.core.finished:
            break
        world.happen(*next(iter(world.options())))
    assert world.core.finished, [
        process for process in world.core.processes if process.state != "gone"
    ]
    verdict(world)


@settings(max_examples=100)
@given(
    placements(),
    sources,
    cursed,
    st.frozensets(st.sampled_from(sorted(READS))),
    st.booleans(),
    st.data(),
)
def test_a_drain_takes_its_time_and_no_longer_whoever_hangs(
    placement, sources, cursed, hung, silent, data
):
    """Stages that do not hang get the end, and the run ends within the deadline."""
    world = World(placement, sources, cursed, hung)
    for _ in range(data.draw(st.integers(0, 40))):
        choices = list(world.options())
        if data.draw(st.integers(0, 7)) == 0:
            choices = list(world.deaths()) or choices
        world.happen(*data.draw(st.sampled_from(choices)))
    began = world.now
    world.silent = silent
    world.feed(protocol.Drain(began))
    for _ in range(2000):
        if world.core.finished:
            break
        choices = list(world.options())
        world.happen(*next(choice for choice in choices if not world.hangs(choice)))
    assert world.core.finished
    assert world.now <= began + LONG.drain_end_s + 1
    for stream in world.core.streams.values():
        assert stream.admitted + sum(stream.dropped.values()) == (
            world.admitted[stream.name] + world.dropped[stream.name]
        )
    sinks = [spec.stages for spec in placement.workers if set(spec.stages) & {"publish", "record"}]
    for names in sinks:
        if not set(names) & hung:
            for source in sources:
                if world.core.streams[source].info is not None:
                    assert all(
                        (name, source) in world.ended
                        for name in names
                        if PIPELINE.stage(name).run.stateful
                    )


@given(placements(), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_without_deaths_every_order_gives_the_same_histories(placement, random):
    histories = []
    for _ in range(2):
        world = World(placement, {"a": (6, False), "b": (5, False)})
        while not world.core.finished:
            world.happen(*random.choice(list(world.options())))
        verdict(world)
        histories.append(world.ended)
    assert histories[0] == histories[1]
    assert not world.poison
