"""A run with a camera that is there and one that is not, seen only from outside."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from status_samples import scraped
from waiting import PATIENCE_S

HERE = "synthetic:walkers?people=1&seconds=600&fps=5&size=64x48&live=true"


@pytest.fixture
def refused_port():
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def running(tmp_path, refused_port):
    """The process, and the address of its monitor as the log has it."""
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text("stages: [{name: camera, run: {kind: camera_motion}}]\n")
    away = f"yard=rtsp://joe:geheim@127.0.0.1:{refused_port}/live"
    words = ["run", str(pipeline), "--source", f"gate={HERE}", "--source", away]
    words += ["--metrics", "127.0.0.1:0", "--log-format", "json", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "streamvis", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            assert process.stderr is not None
            yield process, urlsplit(json.loads(process.stderr.readline())["address"]).netloc
        finally:
            process.kill()


def get(address, path):
    with closing(http.client.HTTPConnection(address, timeout=PATIENCE_S)) as client:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read().decode()


def metrics(address):
    text = get(address, "/metrics")[1]
    assert "geheim" not in text
    return scraped(text)


def until(found):
    """Wait until `found` returns something."""
    deadline = time.monotonic() + PATIENCE_S
    while not (result := found()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return result


def test_which_camera_is_away_and_why_is_seen_from_outside(running):
    process, address = running
    until(lambda: get(address, "/health/ready")[0] == 200)
    until(lambda: metrics(address).get(("source_connect_attempts", "yard"), 0) >= 2)
    until(lambda: metrics(address).get(("source_age_seconds_count", "gate"), 0) > 0)
    found = metrics(address)
    assert found["source_state", "gate", "online"] == 1
    assert found["source_state", "yard", "online"] == 0
    assert (
        found["source_state", "yard", "offline"] + found["source_state", "yard", "connecting"] == 1
    )
    assert found["source_frames_admitted_total", "gate"] > 0
    assert found["source_frames_admitted_total", "yard"] == 0
    assert found["source_clock", "gate", "arrival"] == 1
    assert found["stage_ready_workers", "camera"] == 1
    assert found["process_threads", "decode-gate"] >= 1
    assert get(address, "/health/live")[0] == 200
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "geheim" not in out + err
    entries = [json.loads(line) for line in err.splitlines()]
    offline = [one for one in entries if one["event"] == "source offline"]
    assert {one["source"] for one in offline} == {"yard"}
    assert "refused the connection" in offline[0]["reason"]
