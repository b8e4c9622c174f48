"""A cluster in virtual time: the core of the hub is the real one, all else is a model.

    found = simulate(Cluster(cameras=100, gpus=8), Costs(), seconds=20.0, seed=0)

Cameras show pictures at a fixed rate, each at its own phase, and keep the newest one until the hub
grants a slot. Workers take a time for each call, links delay each message, and the hub handles one
message after the other. A node that is lost ends its processes without a word; the hub hears of it
`detect_s` later. Trackers start anew on another node, networks and cameras once theirs is back. A
node that is cut off for longer counts as lost, and what its processes still send is refused. The
same seed gives the same result, but for `core_us`, which is measured.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from streamvis.config import Jipda, MaskRcnn, Pipeline, Placement, Publish, StageSpec, WorkerSpec
from streamvis.messages import Array, SourceInfo
from streamvis.runtime import protocol, supervision
from streamvis.runtime.gaps import Gap
from streamvis.runtime.plan import Group, group_stages
from streamvis.runtime.processes import BEAT_S
from streamvis.runtime.reconnect import Reconnect
from streamvis.runtime.routing import Core

HUB = "hub"
DETECT, TRACK, PUBLISH = "detect", "track", "publish"
PIPELINE = Pipeline(
    stages=[
        StageSpec(DETECT, MaskRcnn(gate=False)),
        StageSpec(TRACK, Jipda(), after=[DETECT]),
        StageSpec(PUBLISH, Publish(bind=None), after=[TRACK]),
    ]
)
SLOTS = 4  # of each camera
START_S = (1.0, 3.0)  # a process takes between these to start
OPEN_S = (0.1, 0.5)  # and a camera to be opened
LAST_S = 2.0  # after the time that counts, for pictures that are under way
SPREAD = 0.1  # standard deviation of the logarithm of the time that a call takes


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """How long what takes."""

    hop_us: float = 45.0  # of the hub for a packet that comes and goes on: `bench hub`, full load
    beat_us: float = 8.0  # of the hub for a message without a packet
    call_ms: float = 1.5  # of a call of a network, with any number of frames
    detect_ms: float = 3.2  # and for each frame: 300 frames/s in batches of 8, assumed
    track_ms: float = 0.9  # for a frame, of a CPU core
    publish_ms: float = 0.42
    near_us: float = 60.0  # of a message on its node, on average
    far_us: float = 250.0  # and to another node
    detect_s: float = 10.0  # until the hub knows that a node is gone


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to a node."""

    kind: Literal["lost", "cut", "slow"]  # its processes are gone; no message passes; calls take
    # `factor` times as long
    node: int
    at_s: float  # after the beginning
    seconds: float
    factor: float = 3.0


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """One hub, its nodes with GPUs, and its cameras."""

    cameras: int
    gpus: int
    gpus_per_node: int = 4
    fps: float = 5.0  # of each camera
    batch: int = 8
    faults: tuple[Fault, ...] = ()

    @property
    def nodes(self) -> int:
        return -(-self.gpus // self.gpus_per_node)


class Simulated(NamedTuple):
    """What came of the pictures that were shown in the time that counts."""

    shown: int
    done: Array  # (cameras,) int64: pictures whose events are out
    ages_s: Array  # (done.sum(),) float64: of these, from shown to out
    done_at_s: Array  # the same, when they were out
    busy: dict[str, float]  # shares of the time that hub, GPUs, trackers and publish worked
    core_us: float  # measured: of this machine, for each message to the core


def placement(cluster: Cluster) -> Placement:
    """Return the workers: networks on each GPU, tracks on each node, events beside the hub."""
    return Placement(
        workers=[
            WorkerSpec([DETECT], device="cuda:0", replicas=cluster.gpus, batch=cluster.batch),
            WorkerSpec([TRACK], replicas=cluster.nodes),
            WorkerSpec([PUBLISH], node="hub"),
        ],
        slots=SLOTS,
    )


def simulate(
    cluster: Cluster, costs: Costs, *, seconds: float, settle_s: float = 10.0, seed: int = 0
) -> Simulated:
    """Run a cluster; pictures that are shown after `settle_s`, for `seconds`, count."""
    return _Simulation(cluster, costs, seconds, settle_s, seed).run()


def phases_s(cameras: int, fps: float, seed: int) -> list[float]:
    """Return for each camera how long after a common beat it shows its pictures, by chance."""
    chance = random.Random(seed)
    return [chance.random() / fps for _ in range(cameras)]


class _Process(msgspec.Struct, eq=False):
    """A process slot: a worker, or the decode process of a camera."""

    name: str
    node: str
    life: int = 0  # rises with each process that ends: what was meant for it is lost
    state: str = "absent"  # absent, pending: its node is gone, starting, up
    arrived: list[float] = msgspec.field(default_factory=lambda: [0.0, 0.0])  # when the last
    # message to it and from it did


class _Worker(_Process, eq=False):
    batches: deque[protocol.SendWork] = msgspec.field(default_factory=deque)
    busy_s: float = 0.0


class _Camera(_Process, eq=False):
    index: int = 0
    source: str = ""
    phase_s: float = 0.0
    n: int = 0  # of the next picture of this connection
    media_us: int = 0  # of the last one
    opened_s: float = 0.0
    missing: list[int] = []  # numbers of pictures that no slot was there for
    newest: tuple[int, float] | None = None  # number and time of a picture that waits for a slot
    slots: list[str] = []
    segments: set[str] = set()
    epoch: int = 1
    connected: bool = False


class _Simulation:
    def __init__(
        self, cluster: Cluster, costs: Costs, seconds: float, settle_s: float, seed: int
    ) -> None:
        self._cluster, self._costs = cluster, costs
        self._random = random.Random(seed)
        self._begin, self._end = settle_s, settle_s + seconds  # of the time that counts
        self._now = 0.0
        self._count = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._hub_free = self._hub_busy = 0.0
        self._tick_at = float("inf")
        self._core_s, self._steps = 0.0, 0
        self._down: set[str] = set()
        self._slow: dict[str, float] = {}
        self._cut: dict[str, float] = {}  # until when no message passes
        self._done = np.zeros(cluster.cameras, np.int64)
        self._ages: list[float] = []
        self._done_at: list[float] = []
        self._shown = 0
        self._nodes = nodes = [f"node{index}" for index in range(cluster.nodes)]
        groups = group_stages(PIPELINE, placement(cluster))
        self._groups: dict[str, Group] = {}
        self._workers: dict[str, _Worker] = {}
        self._cameras: dict[str, _Camera] = {}
        for group in groups:
            for index in range(group.worker.replicas):
                node = HUB
                if group.worker.node != "hub":
                    node = nodes[index * len(nodes) // group.worker.replicas]
                name = f"{group.name}.{index}"
                self._workers[name] = _Worker(name, node)
                self._groups[name] = group
        for index, phase_s in enumerate(phases_s(cluster.cameras, cluster.fps, seed)):
            gpu = index % cluster.gpus
            camera = _Camera(
                f"decode-cam{index}",
                nodes[gpu * len(nodes) // cluster.gpus],
                index=index,
                source=f"cam{index}",
                phase_s=phase_s,
            )
            self._cameras[camera.source] = camera
        self._processes: dict[str, _Process] = dict(self._workers)
        self._processes |= {camera.name: camera for camera in self._cameras.values()}
        names = list(self._cameras)
        self._core = Core(
            groups,
            names,
            SLOTS,
            reconnect=dict.fromkeys(names, Reconnect()),
            chance=random.Random(seed + 1),
        )

    def run(self) -> Simulated:
        self._later(0.0, partial(self._hub, protocol.Tick, 0.0))
        for camera in self._cameras.values():
            self._later(camera.phase_s, partial(self._show, camera, 0))
        for fault in self._cluster.faults:
            node = f"node{fault.node}"
            begin, end = partial(self._lose, node), partial(self._return, node)
            if fault.kind == "cut":
                begin = partial(self._cut_off, node, fault.seconds)
            elif fault.kind == "slow":
                begin = partial(self._slow.__setitem__, node, fault.factor)
                end = partial(self._slow.__delitem__, node)
            self._later(fault.at_s, begin)
            self._later(fault.at_s + fault.seconds, end)
        while self._events[0][0] < self._end + LAST_S:
            self._now, _, event = heappop(self._events)
            event()
        return self._result()

    def _result(self) -> Simulated:
        lasted = self._end - self._begin
        busy = {HUB: self._hub_busy / lasted}
        for name in (DETECT, TRACK, PUBLISH):
            spent = [
                worker.busy_s
                for worker in self._workers.values()
                if self._groups[worker.name].name == name
            ]
            busy[name] = sum(spent) / lasted / len(spent)
        return Simulated(
            shown=self._shown,
            done=self._done,
            ages_s=np.array(self._ages),
            done_at_s=np.array(self._done_at),
            busy=busy,
            core_us=self._core_s / max(1, self._steps) * 1e6,
        )

    # time and links

    def _later(self, at: float, event: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._events, (at, self._count, event))

    def _arrival(self, process: _Process, sent: float, *, back: bool = False) -> float:
        """Return when a message arrives at a process, or `back` at the hub: after those before."""
        costs = self._costs
        mean_us = costs.near_us if process.node == HUB else costs.far_us
        arrival = sent + mean_us * (0.5 + 0.5 * self._random.expovariate(1.0)) / 1e6
        if process.node in self._cut:
            arrival = max(arrival, self._cut[process.node])
        process.arrived[back] = max(arrival, process.arrived[back])
        return process.arrived[back]

    def _send(
        self,
        process: _Process,
        message: protocol.FromProcess,
        packets: int,
        blobs: Sequence[bytes] = (),
    ) -> None:
        """Have the hub receive a message of a process."""
        work_us = packets * self._costs.hop_us or self._costs.beat_us
        fact = partial(protocol.Received, process.name, message)
        life = process.life
        at = self._arrival(process, self._now, back=True)
        self._later(at, partial(self._arrive, process, life, fact, work_us, list(blobs)))

    def _arrive(
        self,
        process: _Process,
        life: int,
        fact: Callable[..., protocol.Fact],
        work_us: float,
        blobs: list[bytes],
    ) -> None:
        if process.life == life:  # otherwise a message of a process that has been given up
            self._hub(partial(fact, blobs=blobs) if blobs else fact, work_us)

    # the hub

    def _hub(self, fact: Callable[[float], protocol.Fact], work_us: float) -> None:
        """Give the core a fact once the hub is free, and carry its orders out after that."""
        start = max(self._now, self._hub_free)
        self._hub_free = start + work_us / 1e6
        if self._begin <= start < self._end:
            self._hub_busy += work_us / 1e6
        facts = deque([fact(start)])
        while facts:
            began = time.thread_time()
            orders = self._core.step(facts.popleft())
            self._core_s += time.thread_time() - began
            self._steps += 1
            for order in orders:
                facts += self._carry_out(order, self._hub_free)
        began = time.thread_time()
        due = self._core.due(start)
        self._core_s += time.thread_time() - began
        if due < self._tick_at:
            self._tick_at = max(due, self._hub_free)
            self._later(self._tick_at, partial(self._tick, self._tick_at))

    def _tick(self, due: float) -> None:
        if due == self._tick_at:  # otherwise an earlier one was set meanwhile
            self._tick_at = float("inf")
            self._hub(protocol.Tick, self._costs.beat_us)

    def _carry_out(self, order: protocol.Order, at: float) -> Sequence[protocol.Fact]:
        match order:
            case protocol.SendWork(name):
                worker = self._workers[name]
                arrival = self._arrival(worker, at)
                self._later(arrival, partial(self._work, worker, worker.life, order))
            case protocol.GrantSlots(source, slots):
                camera = self._cameras[source]
                arrival = self._arrival(camera, at)
                self._later(arrival, partial(self._granted, camera, camera.life, slots))
            case protocol.FrameCompleted():
                self._completed(order, at)
            case supervision.StartProcess(name):
                self._start(self._processes[name], at)
            case supervision.KillProcess(name):
                self._end_process(self._processes[name])
                return [protocol.ProcessExited(name, "killed", at)]
            case protocol.OpenSource(source, epoch):
                camera = self._cameras[source]
                opening = partial(self._open, camera, camera.life, epoch)
                self._later(at + self._random.uniform(*OPEN_S), opening)
        return []

    def _completed(self, order: protocol.FrameCompleted, at: float) -> None:
        shown_s = order.frame.capture_us / 1e6
        if order.poison or order.dropped or not self._begin <= shown_s < self._end:
            return
        self._done[self._cameras[order.frame.source].index] += 1
        self._ages.append(at - shown_s)
        self._done_at.append(at)

    # processes

    def _start(self, process: _Process, at: float) -> None:
        if process.node in self._down:
            others = [node for node in self._nodes if node not in self._down]
            group = self._groups.get(process.name)
            if group is None or group.worker.device != "cpu" or not others:
                process.state = "pending"
                return
            process.node = self._random.choice(others)
        process.state = "starting"
        began = partial(self._started, process, process.life)
        self._later(at + self._random.uniform(*START_S), began)

    def _started(self, process: _Process, life: int) -> None:
        if process.life != life:
            return
        process.state = "up"
        self._send(process, protocol.Hello("" if process.node == HUB else process.node), 0)
        if isinstance(process, _Worker):
            self._send(process, protocol.Ready(), 0)
        self._later(self._now + BEAT_S, partial(self._beat, process, life))

    def _beat(self, process: _Process, life: int) -> None:
        if process.life == life:
            fact = partial(protocol.Heartbeat, process.name)
            at = self._arrival(process, self._now, back=True)
            self._later(at, partial(self._arrive, process, life, fact, self._costs.beat_us, []))
            self._later(self._now + BEAT_S, partial(self._beat, process, life))

    def _end_process(self, process: _Process) -> None:
        process.life += 1
        process.state = "absent"
        if isinstance(process, _Worker):
            process.batches.clear()
        elif isinstance(process, _Camera):
            process.connected, process.newest, process.slots = False, None, []

    def _lose(self, node: str) -> None:
        self._down.add(node)
        lost = [one for one in self._processes.values() if one.node == node]
        for process in lost:
            self._end_process(process)
        self._later(self._now + self._costs.detect_s, partial(self._miss, lost))

    def _cut_off(self, node: str, seconds: float) -> None:
        self._cut[node] = self._now + seconds
        if seconds > self._costs.detect_s:
            self._later(self._now + self._costs.detect_s, partial(self._give_up, node))

    def _give_up(self, node: str) -> None:
        """Count a node that is cut off as lost; its processes work on, and are not heard."""
        self._down.add(node)
        lost = [one for one in self._processes.values() if one.node == node]
        for process in lost:
            self._end_process(process)
        self._miss(lost)

    def _miss(self, lost: list[_Process]) -> None:
        """Have the hub know that processes are gone."""
        for process in lost:
            exited = partial(protocol.ProcessExited, process.name, "its node is gone")
            self._hub(exited, self._costs.beat_us)
            if isinstance(process, _Camera) and process.segments:
                segments = frozenset(process.segments)
                process.segments.clear()
                pixels = partial(protocol.PixelsLost, process.source, segments)
                self._hub(pixels, self._costs.beat_us)

    def _return(self, node: str) -> None:
        self._down.discard(node)
        self._cut.pop(node, None)
        for process in self._processes.values():
            if process.node == node and process.state == "pending":
                self._start(process, self._now)

    # cameras

    def _show(self, camera: _Camera, number: int) -> None:
        """The next picture is there: it replaces the one before, if no slot was there for that."""
        at = camera.phase_s + number / self._cluster.fps
        self._later(at + 1 / self._cluster.fps, partial(self._show, camera, number + 1))
        self._shown += self._begin <= self._now < self._end
        if not camera.connected:
            return
        if camera.newest is not None:
            camera.missing.append(camera.newest[0])
        camera.newest = camera.n, self._now
        camera.n += 1
        self._decode(camera)

    def _open(self, camera: _Camera, life: int, epoch: int) -> None:
        if camera.life != life or camera.state != "up":
            return
        camera.epoch, camera.n, camera.connected = epoch, 0, True
        camera.missing = []
        info = SourceInfo(
            id=camera.source,
            label=camera.source,
            width=1280,
            height=720,
            fps=self._cluster.fps,
            live=True,
            epoch=epoch,
        )
        segment = f"{camera.node}@{camera.source}-{camera.life}"
        camera.segments = {segment}
        self._send(camera, protocol.Opened(info), 0)
        slots = [f"{segment}:{index}" for index in range(SLOTS)]
        fact = partial(protocol.SlotsCreated, camera.source, slots)
        at = self._arrival(camera, self._now, back=True)
        self._later(at, partial(self._arrive, camera, life, fact, self._costs.beat_us, []))

    def _granted(self, camera: _Camera, life: int, slots: list[str]) -> None:
        if camera.life == life and camera.state == "up":
            camera.slots += slots
            self._decode(camera)

    def _decode(self, camera: _Camera) -> None:
        """Send the newest picture, if a slot is there for it."""
        if camera.newest is None or not camera.slots:
            return
        n, shown_s = camera.newest
        camera.newest = None
        missing, camera.missing = camera.missing, []
        gaps = [Gap("skipped", len(missing), missing[0], missing[-1])] if missing else []
        us = round(shown_s * 1e6)
        slot = camera.slots.pop(0)
        decoded = protocol.DecodedFrame(slot, n, us, us, "arrival", 1280, 720, 0, gaps)
        self._send(camera, decoded, 1)

    # workers

    def _work(self, worker: _Worker, life: int, order: protocol.SendWork) -> None:
        if worker.life != life or worker.state != "up":
            return
        worker.batches.append(order)
        if len(worker.batches) == 1:
            self._begin_call(worker)

    def _begin_call(self, worker: _Worker) -> None:
        items = worker.batches[0].items
        packets = sum(isinstance(item, protocol.FrameItem) for item in items)
        costs = self._costs
        name = self._groups[worker.name].name
        each_ms = {DETECT: costs.detect_ms, TRACK: costs.track_ms, PUBLISH: costs.publish_ms}[name]
        took_ms = packets * each_ms + (costs.call_ms if name == DETECT and packets else 0.0)
        took_s = took_ms / 1e3 * self._random.lognormvariate(0.0, SPREAD)
        took_s *= self._slow.get(worker.node, 1.0)
        worker.busy_s += took_s if self._begin <= self._now < self._end else 0.0
        self._later(self._now + took_s, partial(self._end_call, worker, worker.life, packets))

    def _end_call(self, worker: _Worker, life: int, packets: int) -> None:
        if worker.life != life:
            return
        order = worker.batches.popleft()
        name = self._groups[worker.name].name
        answer = protocol.Answer(order.id, [[name]] * packets, [], [])
        self._send(worker, answer, packets, [b""] * packets)
        if worker.batches:
            self._begin_call(worker)
