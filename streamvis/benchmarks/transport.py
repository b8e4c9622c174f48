"""Pictures of 1920×1080 from one process to another: our slots beside other ways, in one run.

Ours is a whole run: a decode process writes each picture into a slot, the hub sends its header to
a worker, whose stage reads the picture where it lies, and the slot is granted again. The others
are two processes, which do nothing else. All send the same picture, and read a value from each
page of memory of what they receive.
"""

import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from streamvis.benchmarks import transport_peers
from streamvis.benchmarks.process_samples import ProcessSampler, window
from streamvis.benchmarks.transport_peers import SHAPE, SLOTS, WARM_UP, WAYS, Passed
from streamvis.config import MaskRcnn, Pipeline, Placement, StageSpec, WorkerSpec
from streamvis.errors import RunError
from streamvis.messages import Detections, Packet, Part, SourceInfo
from streamvis.runtime import launch
from streamvis.sources.picture import Ended, Picture, Waiting
from streamvis.sources.spec import SourceSpec
from streamvis.stages.protocol import Site
from streamvis.transport.slots import DIRECTORY
from streamvis.transport.sockets import temporary_root

OURS = "streamvis"
ARRIVALS = "arrivals.npy"
PATIENCE_S = 60.0  # for a way to start and to end
LOOK_S = 0.05  # between two looks at whether its processes have ended
NOBODY = Detections.of(np.zeros((0, 4)), np.zeros(0))


class HopCost(msgspec.Struct, frozen=True, kw_only=True):
    """What a picture costs, median of all rounds."""

    pictures_per_s: float
    core_ms: float  # CPU time of all processes


class TransportReport(msgspec.Struct, frozen=True, kw_only=True):
    """Each way of bringing a picture to another process, and ours over the others."""

    width: int
    height: int
    rounds: int
    ways: dict[str, HopCost]
    times_as_fast: dict[str, float]  # ours over each other way, in pictures per second
    cpu_time: dict[str, float]  # of ours, relative to each other way's
    left_out: dict[str, str]  # ways that are not installed, and how to install them


def measure(seconds: float = 4.0, rounds: int = 3) -> TransportReport:
    """Measure each way for so many seconds in each round; the ways alternate."""
    here = [name for name, way in WAYS.items() if not way.module or _installed(way.module)]
    found: dict[str, list[Passed]] = {name: [] for name in (OURS, *here)}
    for _ in range(rounds):
        for name, passed in found.items():
            passed.append(ours(seconds) if name == OURS else other(name, seconds))
    ways = {name: cost_of(passed) for name, passed in found.items()}
    mine = ways[OURS]
    return TransportReport(
        width=SHAPE[1],
        height=SHAPE[0],
        rounds=rounds,
        ways=ways,
        times_as_fast={
            name: round(mine.pictures_per_s / ways[name].pictures_per_s, 2) for name in here
        },
        cpu_time={name: round(mine.core_ms / ways[name].core_ms, 2) for name in here},
        left_out={name: way.install for name, way in WAYS.items() if name not in here},
    )


def cost_of(rounds: Sequence[Passed]) -> HopCost:
    """Return the median of the rounds."""
    return HopCost(
        pictures_per_s=round(median(one.pictures / one.seconds for one in rounds), 1),
        core_ms=round(median(1e3 * one.cpu_s / one.pictures for one in rounds), 3),
    )


def other(name: str, seconds: float) -> Passed:
    """Run the two processes of a way; RunError when one of them fails."""
    with tempfile.TemporaryDirectory(dir=temporary_root()) as home:
        if not WAYS[name].in_memory:
            with socket.create_server(("127.0.0.1", 0)) as free:
                address = f"127.0.0.1:{free.getsockname()[1]}"
            return _both_sides(name, address, seconds, Path(home))
        address = str(DIRECTORY / f"streamvis-bench-{os.getpid()}")
        try:
            transport_peers.make_files(address)
            return _both_sides(name, address, seconds, Path(home))
        finally:
            transport_peers.remove_files(address)


def _both_sides(name: str, address: str, seconds: float, home: Path) -> Passed:
    """Run both processes to their end, or until one has failed: the other would wait for it."""
    module = transport_peers.__name__
    with ExitStack() as stack:
        sides = {}
        for role in ("receive", "send"):
            said, errors = (stack.enter_context((home / f"{role}.{n}").open("wb")) for n in (1, 2))
            sides[role] = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", module, name, role, address, str(seconds)],
                    stdout=said,
                    stderr=errors,
                    cwd=home,
                )
            )
            stack.callback(sides[role].kill)
        deadline = time.monotonic() + PATIENCE_S + seconds
        while None in (ends := {role: side.poll() for role, side in sides.items()}).values():
            if time.monotonic() > deadline:
                raise RunError(f"{name} did not end within {PATIENCE_S + seconds:g} s")
            if any(ends.values()):
                break
            time.sleep(LOOK_S)
    for role, code in ends.items():
        if code:
            lines = (home / f"{role}.2").read_text(errors="replace").strip().splitlines()
            raise RunError(f"{name} failed to {role}: {lines[-1] if lines else 'no output'}")
    received, sent = (_passed((home / f"{role}.1").read_bytes()) for role in sides)
    return Passed(received.pictures, received.seconds, received.cpu_s + sent.cpu_s)


def _passed(text: bytes) -> Passed:
    return msgspec.json.decode(text[text.rfind(b"{") :], type=Passed)


def ours(seconds: float) -> Passed:
    """Run pictures through decode process, hub and worker."""
    pipeline = Pipeline(stages=[StageSpec("look", MaskRcnn())])
    placement = Placement(workers=[WorkerSpec(["look"])], slots=SLOTS)
    options = {"seconds": str(seconds)}
    spec = SourceSpec(id="pictures", uri="pictures", kind="synthetic", options=options)
    with tempfile.TemporaryDirectory(dir=temporary_root()) as out, ProcessSampler() as sampler:
        launch.run(
            *(pipeline, placement, [spec]),
            build=f"{__name__}:build",
            open_source=f"{__name__}:RepeatedPicture",
            out=Path(out),
            on_status=sampler.note,
        )
        times = np.load(Path(out) / ARRIVALS)[WARM_UP:]
    found = window(sampler.samples, times[0], times[-1])
    if found is None:
        raise RunError(f"{len(times)} pictures came in too short a time; measure for more seconds")
    first, last = found
    inside = int(((times > first.at) & (times <= last.at)).sum())
    used = [last.used[name].since(before) for name, before in first.used.items()]
    cpu_s = sum(one.user_s + one.system_s for one in used)
    return Passed(inside, last.at - first.at, cpu_s)


class RepeatedPicture:
    """A source of one picture of SHAPE, again and again."""

    def __init__(self, spec: SourceSpec, epoch: int = 1, waiting: Waiting | None = None) -> None:
        self._seconds = float(spec.options["seconds"])
        self.errors = 0
        self.ended: Ended | None = None
        self.info = SourceInfo(
            id=spec.id,
            label=spec.uri,
            width=SHAPE[1],
            height=SHAPE[0],
            fps=0,
            live=False,
            epoch=epoch,
        )

    def __iter__(self) -> Iterator[Picture]:
        for n, pixels in enumerate(transport_peers.pictures(self._seconds)):
            yield Picture(pixels=pixels, n=n, media_us=n * 1000)

    def close(self) -> None:
        pass


class Look:
    """A stage that reads from each page of memory of a picture, and notes when it came."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._arrivals: list[float] = []

    def __call__(self, packets: Sequence[Packet]) -> Iterator[Part]:
        for packet in packets:
            transport_peers.touch(self._site.pixels(packet.frame))
            self._arrivals.append(time.monotonic())
            yield NOBODY

    def close(self) -> None:
        assert self._site.out is not None
        np.save(self._site.out / ARRIVALS, self._arrivals)


def build(spec: StageSpec, site: Site) -> Look:
    """Build the stage; called in the worker."""
    return Look(site)


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
