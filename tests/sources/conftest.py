"""Videos for the tests of sources, encoded by the tests; and a watch over what they leave open.

Makes `films` and `looking` importable here and in the processes that tests start.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamvis.messages import Array

Encode = Callable[..., Path]
HERE = str(Path(__file__).parent)
sys.path.append(HERE)


@pytest.fixture(autouse=True)
def _helpers_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", HERE, prepend=os.pathsep)


def grey(n: int, size: tuple[int, int]) -> Array:
    """Picture n: its grey level tells its number, and a red corner which way is up."""
    width, height = size
    picture = np.full((height, width, 3), 30 + 8 * (n % 25), np.uint8)
    picture[: height // 3, : width // 3] = (220, 30, 30)
    return picture


@pytest.fixture
def encode(tmp_path: Path) -> Encode:
    """encode("a.mp4", frames=10, …): a small video; picture n is `grey(n)` unless given."""

    def write(
        name: str,
        *,
        frames: int = 10,
        size: tuple[int, int] = (64, 48),
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        fps: int = 25,
        format: str | None = None,
        pts: Sequence[int] | None = None,  # in 1/1000 s
        turn: tuple[float, bool, bool] | None = None,  # degrees, hflip, vflip
        pictures: Sequence[Array] | None = None,
        colour: tuple[int, int] | None = None,  # FFmpeg's numbers of matrix and range
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        metadata: dict[str, str] | None = None,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w", format=format, options=container_options or {}) as container:
            container.metadata.update(metadata or {})
            stream = container.add_stream(codec, rate=fps, options=options or {})
            stream.width, stream.height = size
            stream.pix_fmt = pix_fmt
            if pts is not None:
                stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
            if turn is not None:
                stream.set_display_rotation(turn[0], hflip=turn[1], vflip=turn[2])
            if colour is not None:
                stream.colorspace, stream.color_range = colour
            for n in range(frames if pictures is None else len(pictures)):
                rgb = grey(n, size) if pictures is None else pictures[n]
                frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
                if colour is not None:
                    frame = frame.reformat(
                        format=pix_fmt,
                        dst_colorspace={1: 1, 6: 5}[colour[0]],
                        dst_color_range=colour[1],
                    )
                if pts is not None:
                    frame.pts, frame.time_base = pts[n], Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    """No test of a source leaves a file, socket or Python thread behind."""
    files, threads = _open_files(), set(threading.enumerate())
    yield
    assert _open_files() == files
    assert set(threading.enumerate()) <= threads  # one of an earlier test may end meanwhile


def _open_files() -> set[str]:
    opened = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            opened.add(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
        except OSError:
            continue  # the listing's own
    return opened


@pytest.fixture
def real_data() -> Path:
    """The folder of real sequences, or a skip."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("STREAMVIS_DATA", beside))
    if not (folder / "mot").is_dir():
        pytest.skip("no real data: set STREAMVIS_DATA to its folder")
    return folder
