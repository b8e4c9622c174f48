"""What every test has: the data when it is there, and a check that nothing is left behind."""

import os

# With more threads, a busy machine waits for the slowest of them at every layer of a network.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import contextlib
import gc
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
import typer.testing
from hypothesis import settings

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent / "oracles")]

from compiled_networks import share_compiled
from process_tree import child_ids
from shared_files import SharedFiles
from unflushed_disk import flush_nothing
from waiting import PATIENCE_S

from streamvis.config import Machine, placement
from streamvis.transport.owner import is_abandoned

# Without compiled modules each of the processes that tests start compiles a hundred of them, and
# every run of pytest rewrites the asserts of all tests: 15 s of CPU.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
gc.disable()  # until the end of the collection: what is made before stays
settings.register_profile("no clock", deadline=None)  # timings are benchmarks, not tests
settings.load_profile("no clock")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script
    signal.signal(signal.SIGINT, signal.default_int_handler)  # processes of tests are interrupted
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

Write = Callable[[Path, Sequence[np.ndarray], int], None]
Golden = Callable[[Path, str], None]
GOLDEN_LIMIT_BYTES = 50_000
NOT_OURS = ("/dev/null", "/dev/urandom", "/dev/nvidia", "/proc/", "/sys/")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--accept", action="store_true", help="write the golden files instead of comparing them"
    )
    parser.addoption("--full", action="store_true", help="run compressed tests in full length")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Keep modules and tests, which stay, out of every later collection: it takes 0.3 s less."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable():
    """Escape what has no UTF-8: a failure with half of a surrogate pair would end all workers."""
    return _encodable((yield))


def _encodable(value):
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(one) for key, one in value.items()}
    return type(value)(map(_encodable, value)) if type(value) in (list, tuple) else value


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Golden:
    """`golden(path, text)` compares a text with the file, or writes it under `--accept`."""

    def check(path: Path, text: str) -> None:
        content = text.encode()
        assert len(content) <= GOLDEN_LIMIT_BYTES, (
            f"{path.name}: {len(content)} bytes; 50 kB at most"
        )
        if request.config.getoption("--accept"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        assert path.is_file(), f"{path} is not there; `pytest --accept` writes it"
        assert path.read_text(encoding="utf-8") == text, f"{path}: `pytest --accept` writes it anew"

    return check


@pytest.fixture(scope="session")
def data() -> Path:
    """The root of the data: STREAMVIS_DATA, or shared/data beside the project."""
    root = Path(os.environ.get("STREAMVIS_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no data at {root}; set STREAMVIS_DATA")
    return root


@pytest.fixture(scope="module")
def one_thread():
    """For torch: with more, a busy machine waits for the slowest of them at every layer."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def of_session() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="session", autouse=True)
def one_core(of_session):
    """Runs of this process are placed as on one core, whatever the machine has.

    More processes of a network pay for hours of video, and cost a handful of frames their start.
    """
    of_session.setattr(placement, "this_machine", lambda: Machine(cores=1))


@pytest.fixture(autouse=True)
def compiled_once(of_session):
    """A module of tests may be the first to import OpenVINO."""
    share_compiled(of_session)


@pytest.fixture(autouse=True)
def still_frozen(of_session):
    """A run in this process would look for garbage in all modules, and unfreeze them at its end."""
    launch = sys.modules.get("streamvis.runtime.launch")
    if launch is not None and launch._fewer_to_collect is not contextlib.nullcontext:
        of_session.setattr(launch, "_fewer_to_collect", contextlib.nullcontext)


@pytest.fixture(scope="session", autouse=True)
def unflushed(of_session):
    flush_nothing(of_session)


@pytest.fixture(scope="session", autouse=True)
def one_command_line(of_session):
    """To make the commands anew for each call takes 20 ms."""
    of_session.setattr(typer.testing, "_get_command", cache(typer.testing._get_command))


@pytest.fixture(autouse=True)
def structlog_as_it_comes():
    """Undo what a test has configured: `capture_logs` leaves it configured, too."""
    yield
    if (structlog := sys.modules.get("structlog")) is not None:
        structlog.reset_defaults()


@pytest.fixture(scope="session")
def shared_files() -> Iterator[SharedFiles]:
    """The segments and socket directories of this process and of those that descend from it."""
    files = SharedFiles([Path("/dev/shm"), Path(tempfile.gettempdir())])
    yield files
    files.close()


@pytest.fixture(autouse=True)
def nothing_left_behind(shared_files):
    """Fail the test that leaves a process, thread, descriptor, socket or shared memory behind."""
    before = _resources(shared_files)
    yield
    deadline = time.monotonic() + PATIENCE_S
    while left := _resources(shared_files) - before:
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {sorted(map(_named, left))}")
        gc.collect()  # on a busy machine it may take longer than our patience
        time.sleep(0.02)


def _resources(shared_files: SharedFiles) -> set[str]:
    return {
        *(f"process {pid}" for pid in child_ids(os.getpid())),  # a name changes after the start
        *(f"thread {t.name} {t.ident}" for t in threading.enumerate()),
        *(f"descriptor {fd}: {target}" for fd, target in _descriptors()),
        *(f"file {path}" for path in shared_files() if _is_left(path)),
    }


def _named(left: str) -> str:
    kind, _, pid = left.partition(" ")
    with contextlib.suppress(OSError):
        if kind == "process":
            return f"{left}: {Path(f'/proc/{pid}/comm').read_text().strip()}"
    return left


def _descriptors():
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:  # the one that listed them
            continue
        if not target.startswith(NOT_OURS) and "/mpl-data/" not in target:  # a cache of fonts
            yield fd, target


def _is_left(path: Path) -> bool:
    return path.name.startswith(f"streamvis-{os.getpid()}-") or is_abandoned(path)


@pytest.fixture(scope="session")
def filmed() -> Write:
    """Write pictures (H, W, 3) uint8 RGB as a video of so many a second."""

    def write(path: Path, pictures: Sequence[np.ndarray], fps: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=fps, options={"crf": "10"})
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            for pixels in pictures:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))

    return write
