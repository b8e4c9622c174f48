"""What the processes of a run hold over time, by /proc: memory, descriptors and threads."""

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

IDENTITY = re.compile(r"^(.+)#(\d+)$")  # of a process of a run: its slot and its incarnation
HUB = "hub"
DECODE = "decode"  # all decode processes: one follows the other


class Usage(NamedTuple):
    """What one process holds."""

    rss_mb: float
    pss_mb: float  # its share of memory that several processes map
    descriptors: int
    threads: int


class Sample(NamedTuple):
    """One look at a run."""

    at_s: float
    started: int  # processes that the hub has started so far
    usage: dict[str, Usage]  # by process slot: the hub, each worker, the largest decode process


def usage_of(pid: int) -> Usage:
    """Read what a process holds; OSError or ValueError when it is gone."""
    home = Path(f"/proc/{pid}")
    memory = dict(re.findall(r"^(\w+): +(\d+) kB$", (home / "smaps_rollup").read_text(), re.M))
    descriptors = sum(1 for _ in (home / "fd").iterdir())
    threads = re.search(r"^Threads:\t(\d+)$", (home / "status").read_text(), re.M)
    if threads is None or "Rss" not in memory:
        raise ValueError(f"process {pid} is gone")
    return Usage(int(memory["Rss"]) / 1e3, int(memory["Pss"]) / 1e3, descriptors, int(threads[1]))


def processes_of(hub: int) -> Iterator[tuple[str, int, int]]:
    """The living processes of a run: slot, incarnation, process id."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) != hub:
                continue
            words = (path.parent / "cmdline").read_bytes().decode().split("\0")
            for match in filter(None, map(IDENTITY.match, words)):
                yield match[1], int(match[2]), int(path.parent.name)


def sample(hub: int, began_s: float) -> Sample:
    """Look at a run now."""
    usage, newest = {HUB: usage_of(hub)}, 0
    for slot, incarnation, pid in processes_of(hub):
        newest = max(newest, incarnation)
        name = DECODE if slot.startswith("decode-") else slot
        with contextlib.suppress(OSError, ValueError):
            found = usage_of(pid)
            if name not in usage or found.rss_mb > usage[name].rss_mb:
                usage[name] = found
    return Sample(time.monotonic() - began_s, newest, usage)


class Trend(NamedTuple):
    """How one process fared, after the warm-up."""

    begin_mb: float  # median of the first tenth after the warm-up
    end_mb: float  # median of the last tenth
    peak_mb: float  # of all samples
    mb_per_hour: float  # slope of a straight line through the samples
    mb_per_reconnect: float  # of all or of the second half, the lesser: a leak is in both
    descriptors: "Count"
    threads: "Count"


class Count(NamedTuple):
    """How many there were: they come and go with the decode processes that live at the moment."""

    begin: int  # median of the first tenth after the warm-up
    end: int  # median of the last tenth
    per_reconnect: float  # by which the least number rises, from the first third to the last


def trend(samples: list[Sample], name: str, warm_up: float = 0.3) -> Trend:
    """Fit straight lines through the memory of one process; the first share is left out."""
    known = [s for s in samples if name in s.usage]
    kept = known[int(warm_up * len(known)) :]
    rss = np.array([s.usage[name].rss_mb for s in kept])
    tenth = max(1, len(kept) // 10)
    started = [s.started for s in kept]
    half = len(kept) // 2
    return Trend(
        begin_mb=float(np.median(rss[:tenth])),
        end_mb=float(np.median(rss[-tenth:])),
        peak_mb=max(s.usage[name].rss_mb for s in known),
        mb_per_hour=slope([s.at_s / 3600 for s in kept], rss),
        mb_per_reconnect=min(slope(started, rss), slope(started[half:], rss[half:])),
        descriptors=count([s.usage[name].descriptors for s in kept], started, tenth),
        threads=count([s.usage[name].threads for s in kept], started, tenth),
    )


def count(values: list[int], started: list[int], tenth: int) -> Count:
    """Compare the first tenth with the last, the least of the first third with that of the last.

    What is left behind stays: it raises the least number. The others rise and fall with the decode
    processes that live when a sample is taken, and a line through them has a slope by chance.
    """
    begin, end = (int(np.median(part)) for part in (values[:tenth], values[-tenth:]))
    third = max(1, len(values) // 3)
    reconnects = float(np.mean(started[-third:]) - np.mean(started[:third]))
    left = min(values[-third:]) - min(values[:third])
    return Count(begin, end, left / reconnects if reconnects > 0 else 0.0)


def slope(x: Sequence[float], y: np.ndarray) -> float:
    """The slope of the least-squares line; 0 where x does not change."""
    centred = np.array(x, float) - np.mean(x)
    spread = float(centred @ centred)
    return float(centred @ (y - y.mean())) / spread if spread > 0 else 0.0
