"""Processes from both sides: the hub starts, hears and ends them; they die with the hub."""

import contextlib
import ctypes
import importlib
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import zmq

from streamvis.errors import ConfigError
from streamvis.installation import imports_of_packages
from streamvis.transport.sockets import Client

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)

BEAT_S = 1.0
BEAT_SUFFIX = b"~"  # the identity of a process's second socket, which only beats
PR_SET_PDEATHSIG = 1
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


class Child:
    """One process of the run, as the hub holds it."""

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
        self.identity = f"{name}#{incarnation}".encode()  # a successor has another one
        self.tail: deque[str] = deque(maxlen=20)
        self._partial = b""
        self.output, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.output, False)
        arguments = [endpoint, self.identity.decode(), str(os.getpid())]
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments],  # -P: not from the cwd
                stdin=subprocess.DEVNULL,
                stdout=write,  # ours is for data
                stderr=write,
                env=_environment(threads),
                process_group=0,  # Ctrl-C reaches the hub alone, which decides
            )
        except BaseException:
            os.close(self.output)
            raise
        finally:
            os.close(write)
        self.exit = os.pidfd_open(self.process.pid)
        if cores:
            with contextlib.suppress(ProcessLookupError):  # it is dead already
                os.sched_setaffinity(self.process.pid, cores)

    def read(self) -> str | None:
        """What it has printed since, in whole lines; None when no more can come."""
        data = _read(self.output)
        return None if data == b"" else self._lines(data or b"")

    def end(self) -> str:
        """Kill it if it runs, and wait until it is gone; the rest of what it printed."""
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
        """How it ended, for people; empty when all was well."""
        code = self.process.returncode
        if code == 0:
            return ""
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        words = " | ".join(list(self.tail)[-3:])
        return f"{how}; its last words: {words}" if words else how


class Heartbeats:
    """Tells the hub from a thread that this process lives; ends it when the hub does not."""

    def __init__(self, client: Client, endpoint: str, identity: bytes, hub: int) -> None:
        self._client = Client(endpoint, identity + BEAT_SUFFIX, first=client)
        self._hub = hub
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beats", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        while not self._over.wait(BEAT_S):
            if os.getppid() != self._hub:
                os._exit(1)
            try:
                self._client.send([b""])
            except zmq.ContextTerminated:  # the process ends while a thread is stuck in it
                self._client.close()
                return


def serve(work: Callable[[Client], None]) -> None:
    """The main function of a process: `<endpoint> <identity> <pid of the hub>`."""
    endpoint, name, hub = sys.argv[1:]
    _exit_with(int(hub))
    keep_memory()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the hub decides
        signal.signal(number, signal.SIG_IGN)
    sys.excepthook = _print_and_exit
    client = Client(endpoint, name.encode())
    beats = Heartbeats(client, endpoint, name.encode(), int(hub))
    try:
        work(client)
    finally:
        beats.close()
        client.close()


def _print_and_exit(
    kind: type[BaseException], error: BaseException, where: TracebackType | None
) -> None:
    """Print the traceback and go, whatever threads a stage may have left running."""
    traceback.print_exception(kind, error, where)
    sys.stderr.flush()
    os._exit(1)


def load(reference: str) -> Any:
    """What "module:function" names."""
    module, _, name = reference.partition(":")
    try:
        with imports_of_packages(module.partition(".")[0]):
            return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{reference!r} is not a module:function here: {error}") from error


def _exit_with(hub: int) -> None:
    """Have the kernel end this process when the hub ends, however that happens."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != hub:  # it ended before the line above
        os._exit(1)


def _read(fd: int) -> bytes | None:
    """What there is; None when there is nothing yet, empty at the end."""
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
    """Which of standard output and standard error are terminals."""
    return [fd for fd in (1, 2) if os.isatty(fd)]


def discard_closed(terminals: Sequence[int]) -> None:
    """Discard what is written from now on to those terminals that have been closed."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    for fd in terminals:
        if not os.isatty(fd):
            os.dup2(nowhere, fd)
    os.close(nowhere)


def keep_memory() -> None:
    """Do not give freed blocks back to the system.

    Maps and pictures are made anew for each frame. By default glibc returns such blocks and takes
    them again, zeroed page by page, which costs a third of a detector's time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, 1 << 30)
