import mmap
import os
import subprocess
import sys
import threading

import pytest

from streamvis.runtime.resource_usage import disk_of, usage_of

TAKEN = 50_000_000  # bytes


def test_what_this_process_uses_grows_with_what_it_takes(tmp_path):
    before = usage_of(os.getpid())
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        with (tmp_path / "a").open("w"), (tmp_path / "b").open("w"), mmap.mmap(-1, TAKEN) as pages:
            for at in range(0, TAKEN, mmap.PAGESIZE):  # malloc may hand out pages used before
                pages[at] = 1
            after = usage_of(os.getpid())
    finally:
        over.set()
        thread.join()
    assert after.open_fds - before.open_fds == 2
    assert after.threads - before.threads == 1
    assert after.resident_bytes - before.resident_bytes > 0.9 * TAKEN
    assert after.cpu_s >= before.cpu_s > 0


def test_a_child_is_known_until_it_is_gone():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert usage_of(child.pid).threads == 1
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie
        assert usage_of(child.pid) is None
    assert usage_of(child.pid) is None


def test_a_process_that_is_no_child_of_this_one_is_not_counted():
    assert usage_of(os.getppid()) is None


def test_the_disk_is_that_of_the_directory(tmp_path):
    disk = disk_of(tmp_path)
    assert 0 < disk.free_bytes <= disk.size_bytes
    assert disk.size_bytes == pytest.approx(os.statvfs(tmp_path).f_blocks * 4096, rel=0.99)
    assert disk_of(tmp_path / "not there") is None
