"""`streamvis` in processes of its own, and what belongs to such a process."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from waiting import PATIENCE_S

STREAMVIS = (sys.executable, "-m", "streamvis")
CAMERA = "stages:\n  - {name: camera, run: {kind: camera_motion}}\n"  # a pipeline without networks


def streamvis(*arguments, prefix=(), **settings):
    """Run a command to its end."""
    return subprocess.run(
        [*prefix, *STREAMVIS, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **settings,
    )


def children(pid):
    """By process id: the command lines of the children of a process."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # gone meanwhile
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                command = (path.parent / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(path.parent.name)] = command.decode()
    return found


def until(condition, process=None):
    """Wait until it holds, and return what it gave; fail when a process ends before."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)
    return found


def kill_all(process):
    """Kill -9 a run: the hub and, at the same moment, every process that it has started."""
    pids = [process.pid, *children(process.pid)]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()
