"""`run --web`: the server begins and ends with the run, and what becomes of it is no matter."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing, contextmanager

import pytest
from event_logs import WALK, logged
from process_tree import children
from structlog.testing import capture_logs
from typer.testing import CliRunner
from web_servers import PATIENCE_S, wait_for

from streamvis.cli.main import app
from streamvis.errors import RunError, UsageError
from streamvis.events.log import FILE_NAME
from streamvis.transport import server_process
from streamvis.web.beside import WebProcess
from streamvis.web.settings import WebSettings

PIPELINE = "stages: [{name: camera, run: {kind: camera_motion}}]\n"
SCENE = "gate=synthetic:walkers?people=1&seconds=600&fps=5&size=64x48&live=1"


@pytest.fixture
def out(tmp_path):
    logged(tmp_path / FILE_NAME, "cam1", WALK)
    return tmp_path


def port_of(url):
    return int(re.search(r":(\d+)/", url)[1])


def asked(port, path, **headers):
    """The status and the JSON of an answer; nothing while there is none."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    with closing(line):
        try:
            line.request("GET", path, headers=headers)
            answer = line.getresponse()
            return answer.status, answer.read()
        except OSError:
            return None
        except http.client.HTTPException:
            return None


def is_free(port):
    with closing(socket.socket()) as line:
        return line.connect_ex(("127.0.0.1", port)) != 0


def child_of(pid):
    """The process of the web server that another one has started; None while there is none."""
    return next(iter(children(pid, "streamvis.web.beside")), None)


def test_it_serves_until_it_is_closed(out):
    with closing(WebProcess(WebSettings(out=out, address="127.0.0.1:0"))) as web:
        port = port_of(web.url)
        web.start()
        web.start()
        status, body = asked(port, "/api/status")
        assert status == 200
        assert [one["id"] for one in json.loads(body)["log"]] == ["cam1"]
    assert is_free(port)


def test_one_that_was_never_started_leaves_nothing(out):
    with closing(WebProcess(WebSettings(out=out, address="127.0.0.1:0"))) as web:
        port = port_of(web.url)
    assert is_free(port)


def test_it_is_started_again_when_it_dies(out, monkeypatch):
    monkeypatch.setattr(server_process, "PAUSES_S", (0.01, 0.02))
    with (
        capture_logs() as entries,
        closing(WebProcess(WebSettings(out=out, address="127.0.0.1:0"))) as web,
    ):
        web.start()
        for deaths in range(1, 4):
            assert asked(port_of(web.url), "/api/status")[0] == 200
            os.kill(child_of(os.getpid()), signal.SIGKILL)
            wait_for(lambda count=deaths: len(entries) == count)
        assert asked(port_of(web.url), "/api/status")[0] == 200
    assert {(one["event"], one["exit_code"]) for one in entries} == {("web server died", -9)}
    assert [one["again_in_s"] for one in entries] == [0.01, 0.02, 0.02]


def test_a_server_that_cannot_begin_is_tried_again_and_ends_with_the_run(out, monkeypatch):
    monkeypatch.setattr(server_process, "PAUSES_S", (0.01,))
    token = out / "token"
    settings = WebSettings(out=out, address="127.0.0.1:0", token_file=token)
    with capture_logs() as entries, closing(WebProcess(settings)) as web:
        token.chmod(0o644)  # it is refused from now on
        web.start()
        wait_for(lambda: len(entries) >= 2)
        token.chmod(0o600)
        assert asked(port_of(web.url), "/api/status")[0] == 401
        key = f"Bearer {token.read_text().strip()}"
        assert asked(port_of(web.url), "/api/status", Authorization=key)[0] == 200


def test_it_ends_although_somebody_stays_connected(out):
    with (
        closing(WebProcess(WebSettings(out=out, address="127.0.0.1:0"))) as web,
        closing(socket.create_connection(("127.0.0.1", port_of(web.url)), PATIENCE_S)) as line,
    ):
        web.start()
        line.sendall(b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 200")
        ending = threading.Thread(target=web.close)
        ending.start()
        ending.join(PATIENCE_S)
        assert not ending.is_alive()


def test_addresses_that_are_refused(out):
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(RunError) as told:
            WebProcess(WebSettings(out=out, address=address))
        assert address in str(told.value)
    with pytest.raises(UsageError) as told:
        WebProcess(WebSettings(out=out, address="0.0.0.0:0"))
    assert "--web-token-file" in str(told.value)


@contextmanager
def run(tmp_path, *options):
    """A run in a process of its own, and the lines that it writes on stderr."""
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    command = [sys.executable, "-m", "streamvis", "run", str(tmp_path / "pipeline.yaml")]
    command += ["--source", SCENE, "--out", str(tmp_path / "out"), *map(str, options)]
    lines = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        reading = threading.Thread(target=lambda: lines.extend(iter(process.stderr.readline, "")))
        reading.start()
        try:
            yield process, lines
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(PATIENCE_S)
            reading.join()


def said(lines, words):
    wait_for(lambda: any(words in line for line in lines))
    return next(line for line in lines if words in line)


def test_a_run_is_served_and_survives_its_server(tmp_path):
    token = tmp_path / "token"
    with run(tmp_path, "--web", "0.0.0.0:0", "--web-token-file", token) as (process, lines):
        port = port_of(said(lines, "serves the run"))
        said(lines, f"clients need the token in {token}")
        key = {"Authorization": f"Bearer {token.read_text().strip()}"}
        assert asked(port, "/api/status")[0] == 401
        online = '"state":"online"'

        def is_online():
            answer = asked(port, "/api/status", **key)
            return answer is not None and online in answer[1].decode().replace(" ", "")

        wait_for(is_online)
        wait_for(lambda: asked(port, "/api/picture/gate?media_us=400000", **key)[0] == 200)
        os.kill(child_of(process.pid), signal.SIGKILL)
        said(lines, "web server died")
        wait_for(is_online)
        assert process.poll() is None
    assert process.returncode == 130
    assert is_free(port)
    assert (tmp_path / "out" / "summary.json").exists()


SCRIPT = """
import sys, time
from pathlib import Path
from streamvis.web.beside import WebProcess
from streamvis.web.settings import WebSettings
web = WebProcess(WebSettings(out=Path(sys.argv[1]), address="127.0.0.1:0"))
print(web.url, flush=True)
web.start()
time.sleep(600)
"""


def test_the_server_dies_with_a_process_that_is_killed(out):
    command = [sys.executable, "-c", SCRIPT, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = port_of(process.stdout.readline())
            assert asked(port, "/api/status")[0] == 200
        finally:
            process.kill()
    wait_for(lambda: is_free(port))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--web", "127.0.0.1:0"], "--web 127.0.0.1:0 needs --out"),
        (["--web-token-file", "t"], "--web-token-file t is for --web"),
        (["--web", "0.0.0.0:0", "--out", "o"], "give it --web-token-file FILE"),
        (["--web", "8080", "--out", "o"], "127.0.0.1:8080"),
    ],
)
def test_options_that_are_refused(tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    done = CliRunner().invoke(app, ["run", "pipeline.yaml", "--source", SCENE, *options])
    assert done.exit_code == 2
    assert words in done.stderr
    assert not (tmp_path / "o").exists()
