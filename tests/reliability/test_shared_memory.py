"""Runs with 16 MB of /dev/shm, in a mount namespace of their own."""

import json
import os
import subprocess
import sys

import pytest
from commands import CAMERA, STREAMVIS, kill_all, streamvis, until

MOUNT = 'mount -t tmpfs -o size=16m tmpfs /dev/shm && exec "$@"'


@pytest.fixture(scope="module")
def small():
    """The words before a command that give it 16 MB of /dev/shm."""
    who = [] if os.getuid() == 0 else ["--map-root-user"]
    prefix = ["unshare", "--mount", *who, "sh", "-c", MOUNT, "sh"]
    done = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no mount namespace here (it takes root): {done.stderr.strip()}")
    return prefix


@pytest.fixture
def pipeline(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(CAMERA)
    return path


def used():
    """The bytes of /dev/shm that are in use."""
    stat = os.statvfs("/dev/shm")
    return (stat.f_blocks - stat.f_bfree) * stat.f_frsize


def test_large_pictures_are_refused_with_the_size_that_they_need(small, pipeline, tmp_path):
    out = tmp_path / "out"
    scene = "cam1=synthetic:walkers?people=1&seconds=1&fps=5&size=1920x1080"
    done = streamvis("run", pipeline, "--source", scene, "--out", out, prefix=small)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()[:1]
    assert line.startswith(
        "streamvis: /dev/shm: source 'cam1' (1920×1080) needs 8 slots of 6.2 MB = 49.8 MB"
    )
    assert "16.8 MB of 16.8 MB are free" in line
    assert "--shm-size=48m" in line
    assert "`slots: 2` in the placement" in line
    assert "needs 8 slots" in json.loads((out / "summary.json").read_bytes())["error"]


def test_as_many_slots_as_the_message_names_do_fit(small, pipeline, tmp_path):
    placement = tmp_path / "placement.yaml"
    placement.write_text("slots: 2\nworkers: [{stages: [camera]}]\n")
    scene = "synthetic:walkers?people=1&seconds=1&fps=5&size=1920x1080"
    done = streamvis("run", pipeline, "--on", placement, "--source", scene, prefix=small)
    assert done.returncode == 0, done.stderr


KILL = f"""
import subprocess, sys
sys.path += {sys.path!r}
from test_shared_memory import kill_and_start_again
kill_and_start_again(*sys.argv[1:])
"""


def kill_and_start_again(pipeline):
    """In a namespace of 16 MB: 9.8 MB of slots are free again, and used again."""
    long = "synthetic:walkers?people=1&seconds=9999&fps=30&size=640x640"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*STREAMVIS, "run", pipeline, "--source", long], **pipes)
    until(lambda: used() > 9e6, process)
    kill_all(process)
    until(lambda: used() == 0)  # the kernel takes a moment
    assert os.listdir("/dev/shm") == []
    short = long.replace("9999&fps=30", "1&fps=5")
    done = streamvis("run", pipeline, "--source", short)
    assert done.returncode == 0, done.stderr
    until(lambda: used() == 0)


def test_after_kill_9_of_everything_no_memory_is_in_use(small, pipeline):
    command = [*small, sys.executable, "-c", KILL, str(pipeline)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
