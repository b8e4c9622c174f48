"""Decoding of a recording: our source, and with it the copy into slots, beside FFmpeg's program.

    python -m streamvis.benchmarks.decode <path> <source or slots>

All decode to RGB and leave the number of the decoder's threads to FFmpeg, which takes as many as
there are cores. Our pictures count from the WARM_UP-th on; of the program, what it takes for the
first WARM_UP is subtracted.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Literal

import msgspec
import numpy as np

from streamvis.benchmarks.live_replay import make_clip
from streamvis.benchmarks.pipeline import one_recording
from streamvis.benchmarks.transport_peers import SLOTS
from streamvis.errors import DataError, RunError
from streamvis.messages import Array
from streamvis.runtime.processes import keep_memory
from streamvis.transport.slots import Segment, SlotWriter
from streamvis.transport.sockets import temporary_root

WARM_UP = 10  # pictures that do not count
LEAST = 50  # pictures after them
SHAPE, PICTURES = (1080, 1920, 3), 300  # of the clip that is decoded without another source
INSTALL = "apt-get install ffmpeg"


class DecodeCost(msgspec.Struct, frozen=True, kw_only=True):
    """What a decoded picture costs."""

    pictures_per_s: float
    core_ms: float  # CPU time of all threads


class DecodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """Rate and CPU time of decoding, median of all rounds."""

    width: int
    height: int
    pictures: int
    rounds: int
    source: DecodeCost  # our source alone
    into_slots: DecodeCost  # with the copy into shared memory, as a decode process does it
    ffmpeg: DecodeCost | None  # ffmpeg -i … -pix_fmt rgb24 -f null -
    rate_over_ffmpeg: float | None  # of our source
    cpu_time_over_ffmpeg: float | None
    left_out: str  # what is not installed, and how to install it


class _Took(msgspec.Struct, frozen=True):
    pictures: int
    seconds: float
    cpu_s: float


def measure(source: str | None = None, rounds: int = 3) -> DecodeReport:
    """Decode a recording, a clip of SHAPE for None, as often as there are rounds.

    Raises UsageError for a live source and for several, DataError for one that is too short.
    """
    with tempfile.TemporaryDirectory(dir=temporary_root()) as home:
        path = _recording(source, Path(home))
        program = shutil.which("ffmpeg")
        found: dict[str, list[_Took]] = {"source": [], "slots": [], "ffmpeg": []}
        for _ in range(rounds):
            found["source"].append(_ours(path, "source"))
            found["slots"].append(_ours(path, "slots"))
            if program is not None:
                count = found["source"][-1].pictures
                found["ffmpeg"].append(_ffmpeg(program, path, count))
        height, width = _first(path).shape[:2]
    mine, slots = _cost(found["source"]), _cost(found["slots"])
    other = _cost(found["ffmpeg"]) if program is not None else None
    return DecodeReport(
        width=width,
        height=height,
        pictures=found["source"][0].pictures,
        rounds=rounds,
        source=mine,
        into_slots=slots,
        ffmpeg=other,
        rate_over_ffmpeg=round(mine.pictures_per_s / other.pictures_per_s, 3) if other else None,
        cpu_time_over_ffmpeg=round(mine.core_ms / other.core_ms, 3) if other else None,
        left_out="" if program is not None else f"ffmpeg: {INSTALL}",
    )


def _recording(source: str | None, home: Path) -> Path:
    """Return the path of the recording; one that is not a file is encoded."""
    if source is None:
        path = home / "clip.mp4"
        make_clip(moving_noise(PICTURES), path, 25)
        return path
    spec, _ = one_recording(source)
    if spec.kind != "file" or not Path(spec.uri).is_file():
        raise DataError(f"source '{spec.label}' is not a video file; expected one")
    return Path(spec.uri)


def moving_noise(count: int) -> Iterator[Array]:
    """Yield pictures of SHAPE of a coarse random pattern that moves, as under a panning camera."""
    height, width, _ = SHAPE
    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 220, (height // 8, (width + 4 * count) // 8, 3), np.uint8)
    whole = coarse.repeat(8, axis=0).repeat(8, axis=1)
    for n in range(count):
        noise = rng.integers(0, 8, (height, width, 1), np.uint8)
        yield whole[:, 4 * n : 4 * n + width] + noise


def _ours(path: Path, what: str) -> _Took:
    arguments = [sys.executable, "-m", "streamvis.benchmarks.decode", str(path), what]
    done = subprocess.run(arguments, capture_output=True, check=False)
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no output"]
        raise RunError(f"decoding of {path} failed: {last[0]}")
    took = msgspec.json.decode(done.stdout, type=_Took)
    if took.pictures < LEAST:
        raise DataError(
            f"{path} has {took.pictures + WARM_UP} pictures; expected {WARM_UP + LEAST} or more"
        )
    return took


def _ffmpeg(program: str, path: Path, pictures: int) -> _Took:
    """Run the program on the first pictures, then on all; return what the difference took."""
    first = _run_ffmpeg(program, path, WARM_UP)
    whole = _run_ffmpeg(program, path, WARM_UP + pictures)
    return _Took(pictures, whole[0] - first[0], whole[1] - first[1])


def _run_ffmpeg(program: str, path: Path, pictures: int) -> tuple[float, float]:
    """Return the seconds and the CPU seconds that so many pictures take."""
    arguments = [program, "-v", "error", "-nostdin", "-i", str(path), "-map", "0:v:0"]
    arguments += ["-frames:v", str(pictures), "-pix_fmt", "rgb24", "-f", "null", "-"]
    began = time.monotonic()
    pid = os.posix_spawn(program, arguments, os.environ)
    _, status, used = os.wait4(pid, 0)
    if status != 0:
        raise RunError(f"{program} failed on {path}; run: {' '.join(arguments)}")
    return time.monotonic() - began, used.ru_utime + used.ru_stime


def _cost(rounds: Sequence[_Took]) -> DecodeCost:
    return DecodeCost(
        pictures_per_s=round(median(one.pictures / one.seconds for one in rounds), 1),
        core_ms=round(median(1e3 * one.cpu_s / one.pictures for one in rounds), 3),
    )


def _pictures(path: Path) -> Iterator[Array]:
    from streamvis.sources import open_source

    spec, _ = one_recording(str(path))
    with closing(open_source(spec)) as source:
        for picture in source:
            yield picture.pixels


def _first(path: Path) -> Array:
    return next(islice(_pictures(path), 1))


def main(path: str, what: Literal["source", "slots"]) -> None:
    """Decode all pictures, and print what those after the first took."""
    keep_memory()  # as decode processes do
    began, cpu, count = 0.0, 0.0, 0
    size = _first(Path(path)).nbytes
    segment = Segment(SLOTS, size, "the benchmark") if what == "slots" else None
    with closing(segment) if segment else nullcontext(), closing(SlotWriter()) as write:
        slots = cycle(segment.slots if segment else [])
        for pixels in _pictures(Path(path)):
            if segment:
                write(next(slots), pixels)
            count += 1
            if count == WARM_UP:
                began, cpu = time.monotonic(), time.process_time()
        took = _Took(count - WARM_UP, time.monotonic() - began, time.process_time() - cpu)
    sys.stdout.write(msgspec.json.encode(took).decode())


if __name__ == "__main__":
    main(sys.argv[1], "slots" if sys.argv[2] == "slots" else "source")
