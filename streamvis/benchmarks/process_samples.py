"""CPU time and waits of the processes of a run, read from /proc while it goes on."""

import os
import resource
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from streamvis.runtime.metrics import Status
from streamvis.runtime.resource_usage import TICKS

SAMPLE_S = 0.2
HUB = "hub"


class Used(NamedTuple):
    """What a process has used since it began."""

    user_s: float
    system_s: float
    core_wait_s: float  # ready to run, without a core, summed over its threads; 0: not known
    switches: int  # how often one of its threads was given a core

    def since(self, before: "Used") -> "Used":
        return Used(
            self.user_s - before.user_s,
            self.system_s - before.system_s,
            self.core_wait_s - before.core_wait_s,
            self.switches - before.switches,
        )


class Sample(NamedTuple):
    """The processes of a run at one time."""

    at: float  # monotonic, s
    used: dict[str, Used]  # by name; HUB is this process without the thread that samples


class ProcessSampler:
    """Samples the processes of a run from a thread, as a context around it.

    The run's `on_status` is `note`, which says which processes there are.
    """

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.pids: dict[str, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="profile", daemon=True)

    def note(self, status: Status) -> None:
        self.pids = {**self.pids, **status.processes}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        own = threading.get_native_id()
        while not self._over.wait(SAMPLE_S):
            used = {}
            for name, pid in self.pids.items():
                if (found := used_by(pid)) is not None:
                    used[name] = found
            if (hub := used_by(os.getpid(), without=own)) is not None:
                thread = resource.getrusage(resource.RUSAGE_THREAD)
                used[HUB] = hub._replace(
                    user_s=hub.user_s - thread.ru_utime, system_s=hub.system_s - thread.ru_stime
                )
            self.samples.append(Sample(time.monotonic(), used))


def used_by(pid: int, without: int | None = None) -> Used | None:
    """Return what a process has used; None when it is gone. `without`: a thread to leave out."""
    home = Path(f"/proc/{pid}")
    try:
        times = (home / "stat").read_text().rpartition(")")[2].split()
        threads = [one for one in os.listdir(home / "task") if one != str(without)]
    except OSError:
        return None
    wait_ns, switches = _scheduled(home / "task" / one / "schedstat" for one in threads)
    user, system = (int(one) / TICKS for one in times[11:13])  # utime and stime of proc(5)
    return Used(user, system, wait_ns / 1e9, switches)


def window(samples: Sequence[Sample], begin_s: float, end_s: float) -> tuple[Sample, Sample] | None:
    """Return the first and last sample within these times that have the same processes, if any."""
    inside = [one for one in samples if begin_s <= one.at <= end_s]
    if not inside:
        return None
    first = inside[0]
    alive = [one for one in inside[1:] if one.used.keys() == first.used.keys()]
    return (first, alive[-1]) if alive else None


def _scheduled(paths: Iterable[Path]) -> tuple[int, int]:
    """Sum nanoseconds without a core, and turns on one, over threads; 0 where none are counted."""
    wait, switches = 0, 0
    for path in paths:
        with suppress(OSError, ValueError):  # the thread has ended, or the kernel has no statistics
            _, waited, turns = path.read_text().split()
            wait, switches = wait + int(waited), switches + int(turns)
    return wait, switches
