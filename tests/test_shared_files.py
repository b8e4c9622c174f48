"""Whose files the check looks at that finds what tests leave behind."""

import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from shared_files import SharedFiles

MAKE = """
import os, sys
from pathlib import Path
from streamvis.transport.owner import owned_name
parent = os.getpid()
if "orphan" in sys.argv:
    if os.fork():
        os._exit(0)
    while os.getppid() == parent:
        pass
path = Path(sys.argv[1], owned_name())
path.touch()
print(path, flush=True)
sys.stdin.read()
"""
GRANDCHILD = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]])"


@pytest.fixture
def files(tmp_path):
    with closing(SharedFiles([tmp_path])) as files:
        yield files


@contextmanager
def maker(home, *words, before=()):
    """Start a process that makes a file and stays; yield the path."""
    with subprocess.Popen(
        [sys.executable, *before, "-c", MAKE, str(home), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Path(process.stdout.readline().strip())


def until_listed(files, path):
    while path not in files():
        time.sleep(0.01)


@pytest.mark.parametrize("before", [(), ("-c", GRANDCHILD)])
def test_files_of_descendants_are_listed_also_after_their_end(files, tmp_path, before):
    with maker(tmp_path, before=before) as path:
        until_listed(files, path)
    assert files() == [path]
    path.unlink()
    assert files() == []


def test_files_of_other_processes_are_not(files, tmp_path):
    (tmp_path / "streamvis-1").touch()  # no process is named
    with ExitStack() as running:
        running.enter_context(maker(tmp_path, "orphan"))
        for _ in range(2):  # the first may be seen at once with that of the orphan
            path = running.enter_context(maker(tmp_path))
            until_listed(files, path)
        assert path in (ours := files())
    assert len(ours) == 2
