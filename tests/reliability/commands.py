"""`streamvis` in processes of its own, and what belongs to such a process."""

import contextlib
import os
import signal
import subprocess
import sys
import time

from process_tree import child_ids
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
    pids = [process.pid, *child_ids(process.pid)]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()
