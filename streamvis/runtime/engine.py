"""What starts the processes of a run, and where their pictures lie: on this machine, as here, or on
the nodes of a cluster (`ray`)."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from streamvis.runtime import protocol
from streamvis.runtime.plan import Group
from streamvis.runtime.processes import Child
from streamvis.runtime.segments import Segments
from streamvis.runtime.state import Stream
from streamvis.transport.sockets import Server

Sender = Callable[[protocol.ToProcess], None]


class Process(Protocol):
    """A process of the run, as the hub sees it."""

    name: str
    identity: bytes  # unique: a successor gets another one
    exit: int  # a descriptor, readable when the process has ended

    @property
    def pid(self) -> int | None:
        """Its process id; None for a process that is not a child of this one."""

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that are readable when there is something to `read`, or at its end."""

    def read(self) -> str | None:
        """Return the lines printed since the last call; None at the end of the output."""

    def end(self) -> str:
        """Kill the process if it runs, and return the rest of its output."""

    def reason(self) -> str:
        """Describe how it ended; empty when it exited in good order."""


P = TypeVar("P", bound=Process)


class Engine(Protocol[P]):
    """Starts processes, and keeps the memory of their pictures."""

    @property
    def wake(self) -> int | None:
        """A descriptor, readable when `take_lost` returns something."""

    def listen(self, server: Server) -> None:
        """Have the hub's socket serve processes of other machines, if there are any."""

    def start(self, name: str, incarnation: int, group: Group | None, threads: int | None) -> P:
        """Start a worker of a group, or, without one, a decode process."""

    def ended(self, process: P) -> None:
        """Note that the hub is through with a process."""

    def device(self, device: str) -> str:
        """Return the name of a worker's device in its process."""

    def fit(
        self, stream: Stream, width: int, height: int, process: P, send: Sender
    ) -> list[str] | None:
        """Return new slots for pictures of this size; None when the present ones are large enough.

        Raises RunError when there is no memory. Where the process makes them itself, it is sent the
        order and there are none until `made`.
        """

    def made(self, stream: Stream, made: protocol.SlotsMade, process: P) -> bool:
        """Take over slots that a process has made; False when it was not asked for them."""

    def size(self, source: str) -> int:
        """Return the bytes of each of the newest slots of a source."""

    def tidy(self, stream: Stream) -> None:
        """Free slots that no frame in flight is in: older ones, and all of a finished source."""

    def take_lost(self) -> list[tuple[str, frozenset[str]]]:
        """Return, by source, the segments that have gone with their process."""

    def close(self) -> None:
        """Free everything."""


class LocalEngine:
    """Child processes, and shared memory of the hub."""

    wake = None

    def __init__(self, endpoint: str, window: int) -> None:
        """`endpoint`: the hub's, which the processes connect to."""
        self._endpoint = endpoint
        self._segments = Segments(window)
        self.size = self._segments.size
        self.tidy = self._segments.tidy
        self.close = self._segments.close

    def listen(self, server: Server) -> None:
        return

    def start(self, name: str, incarnation: int, group: Group | None, threads: int | None) -> Child:
        module = "decode" if group is None else "worker"
        cores = [] if group is None else group.worker.cores
        return Child(
            name, incarnation, f"streamvis.runtime.{module}", self._endpoint, threads, cores
        )

    def ended(self, process: Child) -> None:
        return

    def device(self, device: str) -> str:
        return device

    def fit(
        self, stream: Stream, width: int, height: int, process: Child, send: Sender
    ) -> list[str] | None:
        return self._segments.fit(stream, width, height)

    def made(self, stream: Stream, made: protocol.SlotsMade, process: Child) -> bool:
        return False

    def take_lost(self) -> list[tuple[str, frozenset[str]]]:
        return []
