"""What `routing` remembers: streams, the frames in flight, and who works on what."""

from collections import deque
from typing import Any

import msgspec

from streamvis.messages import Ending, Frame, SourceInfo
from streamvis.runtime.plan import Group
from streamvis.runtime.seats import Seat
from streamvis.runtime.wire import End, Tell


class Flight(msgspec.Struct, eq=False):
    """One admitted frame on its way through the graph."""

    frame: Frame
    at: float  # when it was admitted
    before_us: int  # media time of the frame before it
    skip: tuple[str, ...]  # stages that do not run for it
    waits: list[int]  # for each group: how many parents have not answered
    left: int  # groups that have not answered
    out: int = 0  # groups that are at it right now
    poison: bool = False
    parts: dict[str, Any] = {}
    jobs: dict[int, "Job"] = {}  # by group, until answered


class Job(msgspec.Struct, eq=False):
    """One thing for one group to do: a frame, or an item that needs no parents' answers."""

    source: str
    flight: Flight | None = None
    item: Tell | End | None = None
    ready: bool = False
    since: float = 0.0  # when it became ready
    deaths: int = 0  # workers that died at it
    out: bool = False  # with a worker now


class Batch(msgspec.Struct, eq=False):
    id: int
    jobs: list[Job]
    packets: int
    at: float  # since when its worker has had nothing else to do first


class Station(msgspec.Struct, eq=False):
    """One replica of a group."""

    seat: Seat
    queue: deque[Job]  # of a stateful group: what is ready, in the order of each source
    sent: deque[Batch]
    load: int = 0  # packets with the worker
    begun: set[str] = set()  # sources that this process of the seat was told of


class Crew(msgspec.Struct, eq=False):
    """A group and its replicas."""

    group: Group
    stations: list[Station]
    queue: deque[Job]  # of a stateless group: what is ready

    @property
    def wait_s(self) -> float:
        return self.group.worker.wait_ms / 1000


class Lane(msgspec.Struct, eq=False):
    """A source's jobs for one stateful group, in order; the first ready ones move on."""

    station: Station
    jobs: deque[Job]


class Stream(msgspec.Struct, eq=False):
    """A source, its slots and its frames in flight."""

    name: str
    seat: Seat  # of its decode process
    info: SourceInfo | None = None
    epoch: int = 1
    last_n: int = -1
    last_us: int = 0
    free: list[str] = []
    granted: set[str] = set()
    slots: frozenset[str] = frozenset()  # free, granted or in flight; older ones are in flight
    flights: dict[int, Flight] = {}
    lanes: dict[int, Lane] = {}  # by stateful group
    told: int = 0  # notices that are not answered yet
    turns: dict[str, int] = {}  # stages with every_s: in which interval they last ran
    finishing: int = -1  # the stateful group that is being told of the end
    open: bool = False  # and may be granted slots
    done: bool = False
    ending: Ending | None = None
    error: str = ""  # the class in errors.py
    message: str = ""
    admitted: int = 0
    poisoned: int = 0
    dropped: dict[str, int] = {}
    errors: int = 0  # of this epoch
    past_errors: int = 0  # of the epochs before
