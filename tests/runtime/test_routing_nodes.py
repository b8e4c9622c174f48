"""With several nodes: pixels are lost with the process that holds them, and nothing else is.

As `test_routing_properties`, with decode processes that hold the pixels, workers on nodes, and
workers that miss pixels.
"""

from collections import deque
from random import Random

import facts
import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from test_routing_properties import LONG, World, cursed, placements, sources, verdict

from streamvis.config import MaskRcnn, Pipeline, Placement, StageSpec, WorkerSpec
from streamvis.messages import SourceInfo
from streamvis.runtime import protocol
from streamvis.runtime.plan import group_stages
from streamvis.runtime.protocol import DecodedFrame, FrameItem, Hello, Received
from streamvis.runtime.routing import Core
from streamvis.runtime.state import segment_of

NODES = ("n0", "n1")


class NodeWorld(World):
    """Segments that belong to the decode process, on one of two nodes."""

    limits = msgspec.structs.replace(LONG, backoff_s=(0.0,))  # a drain is over before long pauses

    def __init__(self, placement, sources, cursed=frozenset(), node_of=lambda process: NODES[0]):
        self.node_of = node_of
        self.lives = 0  # of decode processes so far
        self.held = {}  # source -> segments of its decode processes
        self.dead = set()  # segments
        self.next_n = dict.fromkeys(sources, 0)
        self.again = 0  # pictures that were decoded again
        self.ignoring = set()  # workers that have missed pixels, until they are resumed
        super().__init__(placement, sources, cursed)

    def carry_out(self, order):
        match order:
            case protocol.ResumeWorker(process):
                assert process in self.ignoring
                self.ignoring.remove(process)
                self.inbox[process].clear()  # what was sent before is not worked on
                return None
            case protocol.SendWork(process) if process in self.ignoring:
                raise AssertionError("work before the worker was resumed")
        return super().carry_out(order)

    def forget(self, process):
        self.ignoring.discard(process)
        super().forget(process)

    def check(self):
        for stream in self.core.streams.values():
            frames = stream.frames_in_flight.values()
            held = [one.frame.slot for one in frames if not one.lost]
            assert len(set(held)) == len(held)
            assert len(held) + len(stream.granted) <= self.window
            assert not set(held) & (stream.granted | set(stream.free))
            assert stream.lost == sum(one.lost for one in frames)
            drained = sum(source == stream.name for source, _ in self.drained)
            assert stream.admitted == self.admitted[stream.name] - drained

    def join(self, process):
        node = self.node_of(process)
        self.starting.discard(process)
        self.alive.add(process)
        if not process.startswith("decode-"):
            self.inbox[process] = deque()
            self.feed(Received(process, Hello(node), self.now))
            self.feed(facts.started(process, self.now))
        else:
            self.feed(Received(process, Hello(node), self.now))

    def options(self):
        for name, (n, granted, _) in sorted(self.decode.items()):
            stream = self.core.streams[name]
            if stream.ending is not None and stream.lost:
                if n >= self.sources[name][0]:
                    yield "end", name
                elif granted:
                    yield "shoot", name
        yield from super().options()

    def deaths(self):
        yield from super().deaths()
        yield from (("lose", source) for source, held in sorted(self.held.items()) if held)

    def open(self, source):
        epoch, n = self.opening.pop(source)
        self.decode[source] = [n, [], 0]
        live = self.sources[source][1]
        info = SourceInfo(
            id=source, label=source, width=1, height=1, fps=25, live=live, epoch=epoch
        )
        self.feed(facts.opened(source, info, self.now))
        self.slots(source)

    def slots(self, source):
        self.feed(protocol.SlotsCreated(source, [], self.now))
        if source not in self.decode:
            return
        self.decode[source][1].clear()
        self.lives += 1
        segment = f"{self.node_of(f'decode-{source}')}@tcp://x/s{self.lives}"
        self.held.setdefault(source, set()).add(segment)
        names = [f"{segment}:{i}" for i in range(self.window)]
        self.feed(protocol.SlotsCreated(source, names, self.now))

    def lose(self, source):
        """The processes that hold pixels of the source die, also those that have ended."""
        segments = frozenset(self.held.pop(source))
        self.dead |= segments
        process = f"decode-{source}"
        if process in self.alive:
            super().die(process)
        self.feed(protocol.PixelsLost(source, segments, self.now))

    def die(self, process):
        if process.startswith("decode-") and self.held.get(process.removeprefix("decode-")):
            self.lose(process.removeprefix("decode-"))
        else:
            super().die(process)

    def shoot(self, source):
        n, granted, _ = self.decode[source]
        live = self.sources[source][1]
        if live or n >= self.next_n[source]:
            super().shoot(source)
            self.next_n[source] = n + 1
            return
        self.again += 1
        self.decode[source][0] = n + 1
        decoded = DecodedFrame(granted.pop(0), n, n * 40_000, 0, "file", 1, 1, 0)
        self.feed(facts.admitted(source, decoded, self.now))

    def answer(self, process):
        send = self.inbox[process][0]
        frames = [item.frame for item in send.items if isinstance(item, FrameItem)]
        group = next(w.group for w in self.core.worker_groups if w.group.name == process[:-2])
        gone = [frame.slot for frame in frames if segment_of(frame.slot) in self.dead]
        if gone and group.reads_pixels:
            self.ignoring.add(process)
            self.feed(Received(process, protocol.PixelsMissing(send.id, gone), self.now))
            return
        super().answer(process)


@settings(max_examples=100)
@given(placements(), sources, cursed, st.data())
def test_nothing_is_lost_doubled_or_swapped_when_pixels_are(placement, sources, cursed, data):
    homes = {}

    def node_of(process):
        if process not in homes:
            homes[process] = data.draw(st.sampled_from(NODES))
        return homes[process]

    world = NodeWorld(placement, sources, cursed, node_of)
    for _ in range(data.draw(st.integers(0, 80))):
        if world.core.finished:
            break
        choices = list(world.options())
        if data.draw(st.integers(0, 5)) == 0:
            choices = list(world.deaths()) or choices
        world.happen(*data.draw(st.sampled_from(choices)))
    if data.draw(st.booleans()):
        world.feed(protocol.Drain(world.now))
    for _ in range(3000):
        if world.core.finished:
            break
        world.happen(*next(iter(world.options())))
    assert world.core.finished, [
        (process.name, process.state) for process in world.core.processes if process.state != "gone"
    ]
    verdict(world)


@given(placements(), st.integers(0, 2**32))
@settings(max_examples=60)
def test_files_whose_pixels_are_lost_give_the_same_histories(placement, seed):
    """Decode processes die; workers do not, so no frame is taken for one that kills them."""
    random = Random(seed)
    histories = []
    for share in (0.0, 0.15):
        world = NodeWorld(placement, {"a": (8, False), "b": (6, False)})
        while not world.core.finished:
            losses = [one for one in world.deaths() if one[0] == "lose"]
            lose = losses and random.random() < share
            world.happen(*random.choice(losses if lose else list(world.options())))
        verdict(world)
        histories.append(world.ended)
        assert not world.poison
    assert histories[0] == histories[1]


def test_batches_go_to_the_workers_that_have_the_pixels_and_to_others_without_any():
    pipeline = Pipeline(stages=[StageSpec("detect", MaskRcnn())])
    spec = WorkerSpec(["detect"], replicas=2)
    core = Core(group_stages(pipeline, Placement(workers=[spec])), ["a"], 8)
    core.step(protocol.Tick(0.0))
    for number, node in enumerate(NODES):
        core.step(Received(f"detect.{number}", Hello(node), 0.0))
        core.step(facts.started(f"detect.{number}", 0.0))
    core.step(Received("decode-a", Hello("n1"), 0.0))
    info = SourceInfo(id="a", label="a", width=1, height=1, fps=25, live=False, epoch=1)
    core.step(facts.opened("a", info, 0.0))
    slots = [f"n1@tcp://x/s:{i}" for i in range(8)]
    core.step(protocol.SlotsCreated("a", slots, 0.0))

    def sent(n):
        decoded = DecodedFrame(slots[n], n, n * 40_000, 0, "file", 1, 1, 0)
        orders = core.step(facts.admitted("a", decoded, 0.1))
        return [one.process for one in orders if isinstance(one, protocol.SendWork)]

    assert [sent(n) for n in range(3)] == [["detect.1"], ["detect.1"], []]  # it has two batches
    orders = core.step(protocol.ProcessExited("detect.1", "boom", 0.2))
    moved = [one.process for one in orders if isinstance(one, protocol.SendWork)]
    assert moved == ["detect.0"]  # the other waits, until it is known which of them killed it
