"""The processes of a run, seen by the hub that starts and ends them, and from inside."""

import contextlib
import ctypes
import errno
import importlib
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from resource import RLIMIT_NOFILE, RLIMIT_NPROC, getrlimit
from types import TracebackType
from typing import Any

import zmq

from streamvis.errors import ConfigError
from streamvis.installation import imports_of_packages
from streamvis.transport.parent import exit_with_parent
from streamvis.transport.sockets import Client

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)

BEAT_S = 1.0
BEAT_SUFFIX = b"~"  # identity of a process's second socket, which sends heartbeats only
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


class Child:
    """A process of the run, as the hub sees it."""

    def __init__(
        self,
        name: str,
        incarnation: int,
        module: str,
        endpoint: str,
        threads: int | None = None,
        cores: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.identity = f"{name}#{incarnation}".encode()  # unique: a successor gets another one
        self.tail: deque[str] = deque(maxlen=20)
        self._partial = b""
        self.output, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.output, False)
        arguments = [endpoint, self.identity.decode(), str(os.getpid())]
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments],  # -P: not from the cwd
                stdin=subprocess.DEVNULL,
                stdout=write,  # the hub's own is for data
                stderr=write,
                env=_environment(threads),
                process_group=0,  # Ctrl-C reaches the hub alone
            )
            self.exit = _exit_of(self.process)
        except BaseException:
            os.close(self.output)
            raise
        finally:
            os.close(write)
        if cores:
            with contextlib.suppress(ProcessLookupError):  # it has exited already
                os.sched_setaffinity(self.process.pid, cores)

    @property
    def pid(self) -> int | None:
        """Its process id; None for a process on another machine."""
        return self.process.pid

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that become readable when there is something to `read`, or at its end."""
        return self.exit, self.output

    def read(self) -> str | None:
        """Return the lines printed since the last call; None at the end of the output."""
        data = _read(self.output)
        return None if data == b"" else self._lines(data or b"")

    def end(self) -> str:
        """Kill the process if it runs, wait until it is gone, and return the rest of its output."""
        self.process.kill()
        self.process.wait()
        text = ""
        while data := _read(self.output):
            text += self._lines(data)
        os.close(self.output)
        os.close(self.exit)
        return text + self._lines(b"\n" if self._partial else b"")

    def _lines(self, data: bytes) -> str:
        *lines, self._partial = (self._partial + data).split(b"\n")
        text = [line.decode(errors="replace") for line in lines]
        self.tail.extend(line for line in text if line.strip())
        return "".join(f"{line}\n" for line in text)

    def reason(self) -> str:
        """Describe how it ended, with its last output; empty when it exited in good order."""
        code = self.process.returncode
        if code == 0:
            return ""
        how = f"killed by {signal_name(-code)}" if code < 0 else f"exit code {code}"
        last = " | ".join(list(self.tail)[-3:])
        return f"{how}; last output: {last}" if last else how


def why_refused(error: OSError) -> str:
    """Return why the system has refused a process or a file, and which limit to raise."""
    limits = {errno.EMFILE: ("n", RLIMIT_NOFILE), errno.EAGAIN: ("u", RLIMIT_NPROC)}
    reason = error.strerror or str(error)
    if error.errno not in limits:
        return reason
    option, limit = limits[error.errno]
    return f"{reason}: raise the limit, which is {getrlimit(limit)[0]} (ulimit -{option})"


def signal_name(number: int) -> str:
    """Return the name of a signal; most real-time signals have none but their number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Heartbeats:
    """Sends heartbeats to the hub from a thread, and exits this process when the hub is gone.

    While the process sends messages with `client`, which show as much, there are no heartbeats.
    `hub`: its process id, if it is the parent of this process.
    """

    def __init__(
        self, client: Client, endpoint: str, identity: bytes, hub: int | None = None
    ) -> None:
        self._client = Client(endpoint, identity + BEAT_SUFFIX, first=client)
        self._messages = client
        self._hub = hub
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        sent = self._messages.sent
        while not self._over.wait(BEAT_S):
            if self._hub is not None and os.getppid() != self._hub:
                os._exit(1)
            before, sent = sent, self._messages.sent
            if sent != before:
                continue
            try:
                self._client.send([b""])
            except zmq.ContextTerminated:  # the process ends while this thread is sending
                self._client.close()
                return


def serve(work: Callable[[Client], None]) -> None:
    """Run `work` as the main function of a process: `<endpoint> <identity> <pid of the hub>`."""
    endpoint, name, hub = sys.argv[1:]
    exit_with_parent(int(hub))
    keep_memory()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the hub handles them
        signal.signal(number, signal.SIG_IGN)
    sys.excepthook = _print_and_exit
    client = Client(endpoint, name.encode())
    beats = Heartbeats(client, endpoint, name.encode(), int(hub))
    try:
        work(client)
    finally:
        beats.close()
        client.close()
    # the teardown of the interpreter sends no heartbeats: on a busy machine it passes for a hang
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _print_and_exit(
    kind: type[BaseException], error: BaseException, where: TracebackType | None
) -> None:
    """Print the traceback and exit, even while threads of a stage are running."""
    traceback.print_exception(kind, error, where)
    sys.stderr.flush()
    os._exit(1)


def load(reference: str) -> Any:
    """Import the object that "module:function" names."""
    module, _, name = reference.partition(":")
    try:
        with imports_of_packages(module.partition(".")[0]):
            return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{reference!r} cannot be imported as module:function: {error}"
        ) from error


def _exit_of(process: "subprocess.Popen[bytes]") -> int:
    """Return a descriptor that is readable at the end of the process; without one, end it."""
    try:
        return os.pidfd_open(process.pid)
    except OSError:  # such as no free descriptor
        process.kill()
        process.wait()
        raise


def _read(fd: int) -> bytes | None:
    """Read the available bytes; None when there are none yet, empty at the end."""
    try:
        return os.read(fd, 2**16)
    except BlockingIOError:
        return None


def _environment(threads: int | None) -> dict[str, str]:
    environment = dict(os.environ)
    if threads is not None:
        environment |= dict.fromkeys(THREADS, str(threads))
    return environment


def open_terminals() -> list[int]:
    """Return which of standard output and standard error are terminals."""
    return [fd for fd in (1, 2) if os.isatty(fd)]


def discard_closed(terminals: Sequence[int]) -> None:
    """Redirect those of the terminals that have been closed to /dev/null."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    for fd in terminals:
        if not os.isatty(fd):
            os.dup2(nowhere, fd)
    os.close(nowhere)


def keep_memory() -> None:
    """Have glibc keep freed blocks instead of returning them to the system.

    Feature maps and pictures are allocated anew for each frame. By default glibc returns such
    blocks and maps them again, zeroed page by page: a third of a detector's time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, 1 << 30)
