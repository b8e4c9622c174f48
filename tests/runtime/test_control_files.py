"""Where the control socket of a run is found, and by whom."""

import os
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from controlled_runs import private_home

from streamvis.errors import RunError, UsageError
from streamvis.runtime import control
from streamvis.runtime.control import GetStatus, Remove
from streamvis.runtime.control_client import ask, find_run
from streamvis.runtime.control_files import living_runs, make_directory, read, registered
from streamvis.runtime.control_socket import Control
from streamvis.runtime.metrics import Status


@pytest.fixture
def home():
    with private_home() as home:
        yield home


VIEW = control.View(at=0.0, status=Status(wall_s=3.0, sources=[], stages=[]), specs={})


def serve(run, over):
    """Answer requests as a run does, until `over` is set."""
    with closing(Control(f"ipc://{run.socket}")) as served:
        while not over.is_set():
            if served.socket.poll(20):
                for _ in served.decisions(lambda: VIEW):
                    pass


@pytest.fixture
def run(home, tmp_path):
    over = threading.Event()
    with registered(tmp_path, "people", tmp_path / "site.yaml") as run:
        thread = threading.Thread(target=serve, args=(run, over))
        thread.start()
        yield run
        over.set()
        thread.join()


def test_a_run_is_found_by_its_process_its_directory_or_alone(run, home, tmp_path):
    assert find_run() == find_run(str(os.getpid())) == find_run(str(tmp_path)) == run
    assert run.out == str(tmp_path)
    assert run.sources == str(tmp_path / "site.yaml")
    assert ask(run, GetStatus()).status.wall_s == 3.0
    with pytest.raises(UsageError, match="no source 'gate'"):
        ask(run, Remove("gate"))


def test_only_the_owner_can_reach_the_socket(run, home, tmp_path):
    ask(run, GetStatus())
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert home.stat().st_uid == os.getuid()
    assert stat.S_ISSOCK(Path(run.socket).stat().st_mode)
    assert Path(run.socket).parent == home
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o600


def test_nothing_is_left_when_the_run_has_ended(home, tmp_path):
    with registered(tmp_path):
        assert (tmp_path / "control.json").exists()
    assert list(home.iterdir()) == list(tmp_path.iterdir()) == []
    with pytest.raises(RunError, match="no run of this user is under way"):
        find_run()
    with pytest.raises(RunError, match="no run is under way there"):
        find_run(str(tmp_path))


def test_of_several_runs_one_has_to_be_chosen(home, tmp_path):
    """They may be of one process, and none hides another."""
    with ExitStack() as stack:
        runs = [stack.enter_context(registered(tmp_path / name)) for name in "ab"]
        assert sorted(run.socket for run in living_runs()) == sorted(run.socket for run in runs)
        with pytest.raises(UsageError, match=f"(?s)2 runs .*--run PID.*{tmp_path}/a"):
            find_run()
        with pytest.raises(RunError, match=r"--run 1: .*Under way: process"):
            find_run("1")


def test_a_run_that_was_killed_is_no_run_and_the_next_one_removes_its_files(home, tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from streamvis.runtime import control_files; "
        "control_files.directories = lambda: [Path(sys.argv[1])]; "
        "manager = control_files.registered(Path(sys.argv[2])); run = manager.__enter__(); "
        "open(run.socket, 'w').close(); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", code, str(home), str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == -9
    assert len(list(home.iterdir())) == 2
    (home / "notes.txt").write_text("mine")
    dead = read(tmp_path / "control.json")
    assert dead is not None
    assert living_runs() == []
    with pytest.raises(RunError, match="no run is under way there"):
        find_run(str(tmp_path))
    with pytest.raises(RunError, match=f"the run has ended .process {dead.pid}"):
        ask(dead, GetStatus())
    with registered() as run:
        assert sorted(home.iterdir()) == sorted([run.path, home / "notes.txt"])


def test_a_run_that_does_not_answer_is_told_from_one_that_has_ended(home):
    with registered() as run, pytest.raises(RunError, match=r"did not answer within 0.05 s"):
        ask(run, GetStatus(), timeout_s=0.05)


@pytest.mark.parametrize("mode", [0o701, 0o770, 0o755])
def test_a_directory_that_others_can_enter_is_refused(home, mode):
    home.mkdir()
    home.chmod(mode)
    with pytest.raises(RunError, match=r"can be entered by other users .*chmod 700"):
        make_directory()


def test_a_link_in_the_place_of_the_directory_is_refused(home, tmp_path):
    tmp_path.chmod(0o700)
    home.symlink_to(tmp_path)
    with pytest.raises(RunError, match="is no directory"):
        make_directory()


def test_a_directory_of_another_user_is_refused_by_runs_and_clients(run, home, monkeypatch):
    other = os.getuid() + 1
    monkeypatch.setattr("os.getuid", lambda: other)
    with pytest.raises(RunError, match=f"not to you, user {other}"):
        make_directory()
    with pytest.raises(RunError, match="belongs to user"):
        ask(run, GetStatus())
    assert living_runs() == []


def test_a_runtime_directory_of_another_user_is_not_used(monkeypatch):
    """As after `sudo -E`: what root creates there would lock its owner out."""
    from streamvis.runtime.control_files import directories

    uid = os.getuid()
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        assert directories()[0] == Path(short) / "streamvis"
        monkeypatch.setattr("os.getuid", lambda: uid + 1)
        assert Path(short) / "streamvis" not in directories()


def test_a_long_runtime_directory_is_not_used_since_sockets_need_short_names(monkeypatch):
    from streamvis.runtime.control_files import directories

    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        long = Path(short) / ("x" * 100)
        long.mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
        monkeypatch.setattr("tempfile.tempdir", str(long))
        assert long / "streamvis" not in directories()
        assert Path(f"/tmp/streamvis-{os.getuid()}") in directories()


def test_root_may_ask_the_run_of_another_user(run, monkeypatch):
    home = Path(run.socket).parent
    found = home.lstat()
    if found.st_uid == 0:
        os.chown(home, 12345, -1)
    monkeypatch.setattr("os.getuid", lambda: 0)
    try:
        assert ask(run, GetStatus()).status.wall_s == 3.0
        with pytest.raises(RunError, match="not to you, user 0"):
            make_directory()
    finally:
        if found.st_uid == 0:
            os.chown(home, 0, -1)
