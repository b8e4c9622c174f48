"""The processes that another one has started, as the kernel lists them."""

import contextlib
import os
from pathlib import Path

from shared_files import parent_in

LISTED = Path("/proc/thread-self/children").exists()  # where CONFIG_PROC_CHILDREN is set


def child_ids(parent: int) -> list[int]:
    """Return the ids of the children of a process, of those that have ended too until reaped."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has ended
        for thread in Path(f"/proc/{parent}/task").iterdir() if LISTED else ():
            with contextlib.suppress(OSError):
                found += map(int, (thread / "children").read_text().split())
    for path in () if LISTED else Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if parent_in(path.read_text()) == parent:
                found.append(int(path.parent.name))
    return found


def children(parent: int | None = None, word: str = "") -> dict[int, str]:
    """Return the command lines of children by id, of this process without `parent`.

    `word`: only of those whose command line has it.
    """
    found: dict[int, str] = {}
    for pid in child_ids(os.getpid() if parent is None else parent):
        with contextlib.suppress(OSError):  # gone meanwhile
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if word in command:
                found[pid] = command
    return found
