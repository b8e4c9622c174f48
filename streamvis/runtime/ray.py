"""Seats of a run on the nodes of a Ray cluster: which actor runs where, and whose end it is.

Ray starts a process for each seat, in an actor, where its resources are, and says when it has
died. Everything else stays with the hub: it restarts processes (`max_restarts=0`), since only it
knows what they had in work, and refuses messages of those before. Pixels never enter Ray's object
store: they stay in the memory of the node that decodes them, or go over ZeroMQ.
"""

import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from typing import Any

import msgspec

from streamvis import logs
from streamvis.config import Placement, RaySpec
from streamvis.errors import RunError, UsageError
from streamvis.runtime import protocol
from streamvis.runtime.engine import Sender
from streamvis.runtime.plan import Group
from streamvis.runtime.processes import THREADS, Heartbeats, keep_memory
from streamvis.runtime.ray_deaths import first_lines, why_it_ended
from streamvis.runtime.state import Stream, segment_of
from streamvis.stages.publish import Publish
from streamvis.stages.record import Record
from streamvis.transport.hub_watch import exit_without_hub
from streamvis.transport.keys import ClientKeys, ServerKeys, new_pair
from streamvis.transport.node_pixels import Encoding, NodePixels, PixelKeys, SlotHost
from streamvis.transport.sockets import Client, Server

LIGHT_CPUS = 0.1  # that Ray counts for a process without networks, and for the decoding of a chain
PATIENCE_S = 5.0  # without the resources that are needed, until the log says so
NODE_DIGITS = 6  # of a node's id, in its name
CLOSE_S = 3.0  # for the actors to free their slots
CALLS = 3  # at once, to a seat: `work`, `stay`, and one more

Resources = dict[str, float]


class SeatOrder(msgspec.Struct, frozen=True, kw_only=True):
    """All that a process of the run needs to know to reach its hub."""

    module: str  # worker or decode, in streamvis.runtime
    identity: str
    hub: str  # the node of the hub, which is reached there at `near`, from elsewhere at `far`
    near: str
    far: str
    keys: ClientKeys
    pixels: PixelKeys
    encoding: Encoding


class Seat:
    """The actor of one process of the run."""

    def __init__(self, order: SeatOrder) -> None:
        os.dup2(2, 1)  # standard output of the hub is for data
        keep_memory()
        self._order = order
        self._node, self._address = this_node()
        self._slots: SlotHost | None = None

    def work(self) -> None:
        """Run the process to its end."""
        order = self._order
        near = self._node == order.hub
        endpoint = order.near if near else order.far
        identity = order.identity.encode()
        client = Client(endpoint, identity, keys=None if near else order.keys)
        if not near:
            exit_without_hub(endpoint, order.keys)
        beats = Heartbeats(client, endpoint, identity)
        place: SlotHost | NodePixels
        if order.module == "decode":
            place = self._slots = SlotHost(self._node, self._address, order.pixels)
        else:
            place = NodePixels(self._node, order.pixels, order.encoding)
        try:
            importlib.import_module(f"streamvis.runtime.{order.module}").work(client, place)
        finally:
            beats.close()
            client.close()

    def stay(self) -> None:
        """Return never: that it fails shows that this process is gone."""
        threading.Event().wait()

    def drop(self, segment: str) -> None:
        """Free a segment of slots."""
        if self._slots is not None:
            self._slots.drop(segment)


class SeatProcess:
    """A process of the run in its actor, as the hub sees it."""

    pid = None

    def __init__(self, name: str, identity: bytes, actor: Any, gone: Callable[[], None]) -> None:
        self.name = name
        self.identity = identity
        self.actor = actor
        self.left = False  # its work is over
        self.exit = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.fds = (self.exit,)
        self._lock = threading.Lock()
        self._open = True
        self._reason = ""
        actor.work.remote().future().add_done_callback(self._ended)
        actor.stay.remote().future().add_done_callback(lambda _: gone())

    def read(self) -> str | None:
        return None  # Ray passes on what it prints

    def reason(self) -> str:
        """Describe how it ended; empty when it ended in good order."""
        return self._reason

    def end(self) -> str:
        """End the process; what it printed has been passed on."""
        with self._lock:
            if self._open:
                self._open = False
                os.close(self.exit)
        return ""

    def kill(self) -> None:
        import ray

        with suppress(Exception):  # it is dead, or its node is
            ray.kill(self.actor)

    def _ended(self, work: Any) -> None:
        error = work.exception()
        self.left = error is None
        if error is not None:
            self._reason = why_it_ended(error)
            logging.getLogger(__name__).debug("%s: %s", self.name, error)
        with self._lock:
            if self._open:
                os.eventfd_write(self.exit, 1)


class _Slots(msgspec.Struct, eq=False):
    """Slots that a decode process was asked for."""

    process: SeatProcess
    size: int
    segment: str = ""  # until they are made


class RayEngine:
    """Starts the processes of a run as actors, and keeps track of slots on their nodes."""

    def __init__(
        self, spec: RaySpec, placement: Placement, groups: Sequence[Group], near: str, window: int
    ) -> None:
        """Connect to the cluster and wait for its resources.

        `near`: the address of the hub on its own node. RunError names the resources that no node
        has; UsageError when the cluster would take orders from anybody who reaches it.
        """
        _check_access()
        server, pixel_server, pixel_client = new_pair(), new_pair(), new_pair()
        self.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._groups = groups
        self._placement = placement
        self._window = window
        self._near = near
        self._keys = ServerKeys(public=server[0], secret=server[1])
        self._clients: set[str] = set()  # public keys
        self._pixel_keys = PixelKeys(
            server=ServerKeys(public=pixel_server[0], secret=pixel_server[1]),
            client=ClientKeys(
                server=pixel_server[0], public=pixel_client[0], secret=pixel_client[1]
            ),
        )
        self._slots: dict[str, list[_Slots]] = {}  # by source, the newest last
        self._gone: list[SeatProcess] = []  # that have not been looked at
        self._chain_of: dict[str, int] = {}  # by source
        self._chains = _chains(groups)
        self._reserved: list[Any] = []
        self._far = ""
        self._closing = threading.Lock()  # of `wake`, which Ray's threads write to
        self._over = False
        self._printing = redirect_stdout(sys.stderr)  # Ray prints at any time; our own is for data
        self._printing.__enter__()
        try:
            self._join(spec)
        except BaseException:
            self.close()
            raise

    def _join(self, spec: RaySpec) -> None:
        import ray

        _connect(spec)
        self._node, self._address = this_node()
        self._hub_id = ray.get_runtime_context().get_node_id()
        self._actor = ray.remote(max_concurrency=CALLS, max_restarts=0, num_cpus=0)(Seat)
        self._reserve(spec)

    def listen(self, server: Server) -> None:
        """Have the hub's socket serve the seats of other nodes."""
        self._far = server.listen(f"tcp://{self._address}:*", self._keys, self._clients)

    # processes

    def start(
        self, name: str, incarnation: int, group: Group | None, threads: int | None
    ) -> SeatProcess:
        """Start a process; it waits for its resources as long as the hub waits for it."""
        identity = f"{name}#{incarnation}"
        public, secret = new_pair()
        self._clients.add(public)
        order = SeatOrder(
            module="decode" if group is None else "worker",
            identity=identity,
            hub=self._node,
            near=self._near,
            far=self._far,
            keys=ClientKeys(server=self._keys.public, public=public, secret=secret),
            pixels=self._pixel_keys,
            encoding="raw" if group is None else group.worker.pixels,
        )
        variables = dict.fromkeys(THREADS, str(threads or 1))
        options = self._options(name, group)
        actor = self._actor.options(runtime_env={"env_vars": variables}, **options).remote(order)
        process = SeatProcess(name, identity.encode(), actor, lambda: self._note(process))
        return process

    def device(self, device: str) -> str:
        """Return the device in the process: of those that Ray gives it, the first."""
        return "cuda:0" if device.startswith("cuda") else device

    def ended(self, process: SeatProcess) -> None:
        """Let the actor go, unless frames in flight may be in its slots."""
        theirs = [s for slots in self._slots.values() for s in slots if s.process is process]
        if not (process.left and any(one.segment for one in theirs)):
            process.kill()

    # slots

    def fit(
        self, stream: Stream, width: int, height: int, process: SeatProcess, send: Sender
    ) -> list[str] | None:
        """Have the decode process make slots; until they are there, the source has none.

        None when those that it has are large enough.
        """
        size = width * height * 3
        slots = self._slots.setdefault(stream.name, [])
        if slots and slots[-1].process is process and slots[-1].size >= size:
            return None
        slots.append(_Slots(process, size))
        send(protocol.MakeSlots(self._window, size, f"source '{stream.name}' ({width}×{height})"))
        return []

    def made(self, stream: Stream, made: protocol.SlotsMade, process: SeatProcess) -> bool:
        """Take over slots that were made; False when nobody waits for them."""
        for slots in reversed(self._slots.get(stream.name, [])):
            if slots.process is process and slots.size == made.size and not slots.segment:
                slots.segment = segment_of(made.slots[0]) if made.slots else ""
                return bool(slots.segment)
        return False

    def size(self, source: str) -> int:
        """Return the bytes of each slot of the newest segment."""
        return self._slots[source][-1].size

    def tidy(self, stream: Stream) -> None:
        """Free slots without frames in flight: older ones, and all of a finished source."""
        slots = self._slots.get(stream.name, [])
        used = {segment_of(one.frame.slot) for one in stream.frames_in_flight.values()}
        newest = None if stream.done or not slots else slots[-1]
        for one in list(slots):
            if one is newest or one.segment in used or not one.segment:
                continue
            slots.remove(one)
            with suppress(Exception):  # it is dead, or its node is
                one.process.actor.drop.remote(one.segment)
            if one.process.left:
                self.ended(one.process)

    def take_lost(self) -> list[tuple[str, frozenset[str]]]:
        """Return, by source, the segments that have gone with their process since the last call."""
        os.eventfd_read(self.wake)
        lost = []
        while self._gone:
            process = self._gone.pop()
            for source, slots in self._slots.items():
                theirs = [one for one in slots if one.process is process]
                for one in theirs:
                    slots.remove(one)
                if segments := frozenset(one.segment for one in theirs if one.segment):
                    lost.append((source, segments))
        return lost

    def close(self) -> None:
        """Leave the cluster, which ends all actors of this run."""
        import ray

        left = [one for slots in self._slots.values() for one in slots if one.segment]
        with suppress(Exception):  # of actors that are dead
            drops = [one.process.actor.drop.remote(one.segment) for one in left]
            ray.wait(drops, num_returns=len(drops), timeout=CLOSE_S)
        with suppress(Exception):
            for group in self._reserved:
                ray.util.remove_placement_group(group)
        ray.shutdown()
        self._printing.__exit__(None, None, None)
        with self._closing:
            self._over = True
            os.close(self.wake)

    def _note(self, process: SeatProcess) -> None:
        self._gone.append(process)
        with self._closing:
            if not self._over:  # otherwise the descriptor may be that of another file
                os.eventfd_write(self.wake, 1)

    # where

    def _options(self, name: str, group: Group | None) -> dict[str, Any]:
        """Return where the process runs, in Ray's words."""
        from ray.util import scheduling_strategies as strategies

        if group is None:
            if self._placement.sources.together:
                chain = self._chain(name)
                return {"scheduling_strategy": self._place(chain, len(self._chains[chain]))}
            needs: Resources = {"CPU": LIGHT_CPUS, **self._placement.sources.needs}
            return _demand(needs) | {"scheduling_strategy": "SPREAD"}
        if on_hub(group):
            here = strategies.NodeAffinitySchedulingStrategy(self._hub_id, soft=False)
            return {"scheduling_strategy": here}
        if not group.reads_pixels:
            return _demand(needs_of(group)) | {"scheduling_strategy": "SPREAD"}
        chain = int(name.rpartition(".")[2])
        place = self._place(chain, self._chains[chain].index(group))
        return _demand(needs_of(group)) | {"scheduling_strategy": place}

    def _place(self, chain: int, bundle: int) -> Any:
        from ray.util import scheduling_strategies as strategies

        return strategies.PlacementGroupSchedulingStrategy(self._reserved[chain], bundle)

    def _chain(self, name: str) -> int:
        """Return the chain of a source's decode process: the one with the fewest sources."""
        if name not in self._chain_of:
            taken = list(self._chain_of.values())
            chains = range(len(self._chains) if self._placement.sources.spread else 1)
            self._chain_of[name] = min(chains, key=taken.count)
        return self._chain_of[name]

    def _reserve(self, spec: RaySpec) -> None:
        """Reserve the resources of each chain, on one node."""
        import ray
        from ray.util.placement_group import placement_group

        for index, chain in enumerate(self._chains):
            bundles = [needs_of(group) for group in chain]
            if self._placement.sources.together:
                bundles.append({"CPU": LIGHT_CPUS, **self._placement.sources.needs})
            place = placement_group(bundles or [{"CPU": LIGHT_CPUS}], strategy="STRICT_PACK")
            what = (
                f"{', '.join(group.name for group in chain)} ({index + 1} of {len(self._chains)})"
            )
            self._reserved.append(place)
            _await(place, bundles, what, spec.start_s)
        alone = [g for g in self._groups if not g.reads_pixels and not on_hub(g)]
        needed = {g.name: needs_of(g) for g in alone}
        if not self._placement.sources.together:
            needed["sources"] = {"CPU": LIGHT_CPUS, **self._placement.sources.needs}
        for what, needs in needed.items():
            place = placement_group([needs], strategy="PACK")  # only to see that they are there
            try:
                _await(place, [needs], what, spec.start_s)
            finally:
                ray.util.remove_placement_group(place)


def on_hub(group: Group) -> bool:
    """Whether the group runs beside the hub, where the files of a run are."""
    writes = any(isinstance(stage.run, Publish | Record) for stage in group.stages)
    return writes or group.worker.node == "hub"


def needs_of(group: Group) -> Resources:
    """Return the resources of a replica of the group, as Ray counts them."""
    network = any(stage.run.torch for stage in group.stages)
    needs: Resources = {"CPU": float(group.worker.threads or 1) if network else LIGHT_CPUS}
    if group.worker.device.startswith("cuda"):
        needs["GPU"] = 1.0
    return needs | group.worker.needs


def _chains(groups: Sequence[Group]) -> list[list[Group]]:
    """Return the groups that share a node with the pixels that they read: one list a replica."""
    readers = [group for group in groups if group.reads_pixels and not on_hub(group)]
    count = max((group.worker.replicas for group in readers), default=1)
    return [[g for g in readers if index < g.worker.replicas] for index in range(count)]


def this_node() -> tuple[str, str]:
    """Return the name and the address of the node of this process."""
    import ray

    address = ray.util.get_node_ip_address()
    return node_name(address, ray.get_runtime_context().get_node_id()), address


def node_name(address: str, node: str) -> str:
    """Return the name of a node: its address, and what tells it from others there."""
    return f"{address}-{node[:NODE_DIGITS]}"


def _check_access() -> None:
    if os.environ.get("RAY_AUTH_MODE") != "token" and os.environ.get("RAY_USE_TLS") != "1":
        raise UsageError(
            "the Ray cluster would run the code of anybody who reaches its ports, and hand out the "
            "keys of this run: set RAY_AUTH_MODE=token with RAY_AUTH_TOKEN, or RAY_USE_TLS=1 with "
            "certificates, for `ray start` on all nodes and for this command"
        )


def _connect(spec: RaySpec) -> None:
    import ray

    os.environ.setdefault("RAY_SCHEDULER_EVENTS", "0")  # hints on standard output
    try:
        ray.init(
            address=spec.address,
            _node_ip_address=spec.node_ip,
            log_to_driver=True,
            logging_level="warning",
            configure_logging=False,
        )
    except Exception as error:  # noqa: BLE001 - of many classes, ValueError and RuntimeError too
        said = first_lines(str(error)) or type(error).__name__
        raise RunError(
            f"no Ray cluster at {spec.address}: {said}. Start one with: ray start "
            "--head --node-ip-address ADDRESS, and name it in `engine: {kind: ray, address: …}`"
        ) from None


def _await(place: Any, bundles: Sequence[Resources], what: str, start_s: float) -> None:
    """Wait for the resources of a chain; RunError when they are not there in time."""
    import ray

    total: Resources = {}
    for bundle in bundles:
        for name, amount in bundle.items():
            total[name] = total.get(name, 0.0) + amount
    ready = place.ready()
    if ray.wait([ready], timeout=min(PATIENCE_S, start_s))[0]:
        return
    nodes = [each["Resources"] for each in ray.nodes() if each["Alive"]]
    logs.warn("waiting for resources of the cluster", reason=_absent(what, total, nodes))
    if not ray.wait([ready], timeout=max(0.0, start_s - PATIENCE_S))[0]:
        nodes = [each["Resources"] for each in ray.nodes() if each["Alive"]]
        raise RunError(_absent(what, total, nodes))


def _absent(what: str, needs: Resources, nodes: Sequence[Mapping[str, float]]) -> str:
    """Name what is missing of the resources, and what the nodes have."""
    nowhere = [n for n, a in needs.items() if not any(node.get(n, 0) >= a for node in nodes)]
    why = (
        f"no node has {_shown({n: needs[n] for n in nowhere})}"
        if nowhere
        else (
            "no node has all of them free"
            if any(_holds(node, needs) for node in nodes)
            else "no node has all of them"
        )
    )
    have = "; ".join(_shown(_own(node)) for node in nodes)
    return (
        f"{what} needs {_shown(needs)} on one node of the Ray cluster, and {why}. The nodes have: "
        f"{have}. Start a node that has them (ray start --address … --resources …), or change "
        "`needs`, `threads` or `replicas` in the placement"
    )


def _own(node: Mapping[str, float]) -> dict[str, float]:
    hidden = ("node:", "memory", "object_store_memory")
    return {name: amount for name, amount in node.items() if not name.startswith(hidden)}


def _shown(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in sorted(resources.items())) or "none"


def _holds(node: Mapping[str, float], needs: Resources) -> bool:
    return all(node.get(name, 0.0) >= amount for name, amount in needs.items())


def _demand(needs: Resources) -> dict[str, Any]:
    """Return the arguments of an actor for these resources."""
    others = {name: amount for name, amount in needs.items() if name not in ("CPU", "GPU")}
    return {
        "num_cpus": needs.get("CPU", 0.0),
        "num_gpus": needs.get("GPU", 0.0),
        "resources": others,
    }
