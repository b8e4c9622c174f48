"""Tells which segments and socket directories belong to a process or to its descendants.

    python tests/shared_files.py PID DIRECTORY...

It prints each such name once, until its input ends. Who made a file can be seen only while the
maker runs: afterwards the process id in its name says nothing of its parents. It runs beside the
tests, not in a thread of theirs, since many of them count their own threads and descriptors.
"""

import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

EVERY_S = 0.05  # segments live longer
PREFIX = "streamvis-"


class SharedFiles:
    """The files, as a process beside this one finds them."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self.directories = directories
        self._names: set[str] = set()
        self._rest = b""
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", __file__, str(os.getpid()), *map(str, directories)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            process_group=0,  # Ctrl-C reaches only the tests
        )
        self._process.stdout.readline()  # it watches
        os.set_blocking(self._process.stdout.fileno(), False)

    def __call__(self) -> list[Path]:
        """List the files of this process and of its descendants, ended ones included."""
        if printed := self._process.stdout.read():
            *names, self._rest = (self._rest + printed).split(b"\n")
            self._names |= {name.decode() for name in names}
        return [
            home / name
            for home in self.directories
            for name in _names_in(home)
            if name in self._names or name.startswith(f"{PREFIX}{os.getpid()}-")
        ]

    def close(self) -> None:
        """End the process that watches."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def _names_in(home: Path | str) -> list[str]:
    return [name for name in os.listdir(home) if name.startswith(PREFIX)]


def _watch(pid: int, homes: Sequence[str]) -> None:
    seen = {name for home in homes for name in _names_in(home)}
    sys.stdout.write("watching\n")
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], EVERY_S)[0]:
        for name in {name for home in homes for name in _names_in(home)} - seen:
            seen.add(name)
            owner = name.removeprefix(PREFIX).partition("-")[0]
            if owner.isdigit() and pid in _line_of(int(owner)):
                sys.stdout.write(f"{name}\n")
                sys.stdout.flush()


def _line_of(pid: int) -> list[int]:
    """Return the process, its parent, its grandparent and so on."""
    line = []
    while pid > 0:
        line.append(pid)
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:  # it has ended
            break
        pid = parent_in(stat)
    return line


def parent_in(stat: str) -> int:
    """Return the id of the parent from the text of /proc/PID/stat."""
    return int(stat.rpartition(")")[2].split()[1])  # field 4; the name may hold spaces


if __name__ == "__main__":
    _watch(int(sys.argv[1]), sys.argv[2:])
