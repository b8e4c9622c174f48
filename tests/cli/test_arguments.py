"""No process of a run shows a password in its arguments; the run itself still has it."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import PATIENCE_S

LOGIN = "joe:ge%40heim@"


@pytest.fixture
def silent():
    """The port of a server that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def arguments(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def descendants(pid: int) -> list[int]:
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [one for child in map(int, below) for one in (child, *descendants(child))]


def shows_password(pid: int, file: str) -> bool:
    return b"heim" in Path(f"/proc/{pid}/{file}").read_bytes()


def wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            "--source=gate=rtsp://{login}{host}/a?token=geheim#read_s=60",
            "--source=gate=rtsp://{host}/a?",
        ),
        ("-srtsp://{host}/a#open_s=60&user=joe&password=ge%40heim", "-srtsp://{host}/a#open_s=60&"),
    ],
    ids=["address", "settings"],  # pytest puts them into the environment
)
def test_ps_shows_the_address_alone(tmp_path, silent, given, shown):
    host = f"127.0.0.1:{silent}"
    (tmp_path / "p").write_text("stages: [{name: camera, run: {kind: camera_motion}}]")
    command = [sys.executable, "-m", "streamvis", "run", given.format(login=LOGIN, host=host)]
    run = subprocess.Popen(
        [*command, "p", "--out", "out"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    try:
        wait_for(lambda: b"run" in arguments(run.pid) and not shows_password(run.pid, "cmdline"))
        now = arguments(run.pid)
        assert now[1:4] == [b"-m", b"streamvis", b"run"]
        assert now[4] == shown.format(host=host).encode()
        assert now[5:8] == [b"p", b"--out", b"out"]
        assert set(now[8:]) == {b""}
        wait_for(lambda: len(descendants(run.pid)) > 1)  # a worker and the decode process
        for pid in descendants(run.pid):
            assert not shows_password(pid, "cmdline")
            assert not shows_password(pid, "environ")
    finally:
        run.terminate()
        run.wait(PATIENCE_S)
    for path in (tmp_path / "out").iterdir():
        assert b"heim" not in path.read_bytes()
