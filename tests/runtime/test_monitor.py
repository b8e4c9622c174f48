"""The monitor is asked over HTTP, by clients that behave, and by those that do not."""

import http.client
import json
import os
import random
import select
import socket
import threading
import time
from contextlib import ExitStack, closing, suppress
from urllib.parse import urlsplit

import pytest
from status_samples import STATUS, YARD, scraped
from waiting import PATIENCE_S

from streamvis.config import MaskRcnn, Pipeline, Placement, StageSpec, WorkerSpec
from streamvis.errors import RunError, UsageError
from streamvis.runtime import health, launch, page_server
from streamvis.runtime.metrics import Status
from streamvis.runtime.monitor import Monitor, each_of, monitored
from streamvis.sources.spec import SourceSpec

HERE = "127.0.0.1:0"


@pytest.fixture
def serving(tmp_path):
    with closing(Monitor(HERE, tmp_path)) as running:
        yield running


def get(running, path, method="GET"):
    """Status, headers and body of the answer."""
    with closing(
        http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=PATIENCE_S)
    ) as client:
        client.request(method, path)
        answer = client.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def connected(running):
    address = urlsplit(running.url)
    return socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S)


def test_metrics_are_those_of_the_latest_status(serving):
    assert get(serving, "/metrics")[0] == 503
    serving.update(Status(wall_s=1.0, sources=[], stages=[]))
    serving.update(STATUS)
    status, headers, body = get(serving, "/metrics?from=prometheus")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = scraped(body.decode())
    assert found["source_frames_admitted_total", "gate"] == 100
    assert found["process_threads", "hub"] >= 2  # this one
    assert found["out_free_bytes",] > 0


def test_processes_of_the_run_are_measured(serving):
    serving.update(Status(wall_s=1.0, sources=[], stages=[], processes={"gone": 2**22 - 1}))
    body = get(serving, "/metrics")[2].decode()
    assert 'streamvis_process_open_fds{process="hub"}' in body
    assert "gone" not in body


def test_ready_says_why_not(serving):
    status, headers, body = get(serving, "/health/ready")
    assert (status, json.loads(body)["reasons"]) == (503, ["the run is starting"])
    assert headers["Content-Type"] == "application/json"
    serving.update(Status(wall_s=1.0, sources=[YARD], stages=[]))
    status, _, body = get(serving, "/health/ready")
    assert status == 503
    assert json.loads(body) == {
        "ready": False,
        "reasons": ["source 'yard' is offline for 12 s: connection refused"],
    }
    serving.update(STATUS)
    status, _, body = get(serving, "/health/ready")
    assert (status, json.loads(body)) == (200, {"ready": True, "reasons": []})


def test_a_hub_that_hangs_is_neither_live_nor_ready(serving, monkeypatch):
    serving.update(STATUS)
    assert get(serving, "/health/live")[0] == 200
    monkeypatch.setattr(health, "LIVE_S", 0.01)
    time.sleep(0.02)
    status, _, body = get(serving, "/health/live")
    assert (status, json.loads(body)["live"]) == (503, False)
    assert "has not reported" in json.loads(get(serving, "/health/ready")[2])["reasons"][0]


def test_head_has_the_same_headers_and_no_body(serving):
    serving.update(STATUS)
    status, headers, body = get(serving, "/health/live", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 0


@pytest.mark.parametrize("path", ["/", "/metric", "/health", "/../etc/passwd", "/%2e%2e/metrics"])
def test_other_paths_are_not_found(serving, path):
    assert get(serving, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_other_methods_are_refused_in_a_line(serving, method):
    status, _, body = get(serving, "/metrics", method)
    assert status == 501
    assert body.count(b"\n") == 1
    assert b"<" not in body


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET " + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 500 + b"\r\n",
        b"GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        bytes(range(256)) * 4,
    ],
)
def test_a_malformed_request_harms_nobody(serving, request_bytes):
    serving.update(STATUS)
    with connected(serving) as client:
        client.sendall(request_bytes)
        client.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):  # it did not read all that was sent
            while client.recv(65536):
                pass
    assert get(serving, "/metrics")[0] == 200


def test_random_requests_harm_nobody(serving, capsys):
    serving.update(STATUS)
    rng = random.Random(3)
    good = b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n"
    for _ in range(100):
        data = bytearray(good)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with connected(serving) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
    assert get(serving, "/metrics")[0] == 200
    assert "Traceback" not in capsys.readouterr().err


def test_a_client_that_leaves_early_is_no_error(serving, capsys):
    serving.update(STATUS)
    for _ in range(20):
        client = connected(serving)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        client.close()
    assert get(serving, "/metrics")[0] == 200
    assert capsys.readouterr().err == ""


def test_clients_that_send_nothing_are_limited_and_delay_neither_others_nor_the_end():
    running = Monitor(HERE)
    threads = threading.active_count()
    with ExitStack() as stack:
        try:
            silent = [stack.enter_context(connected(running)) for _ in range(40)]
            while (
                len(closed := select.select(silent, [], [], 10)[0]) < 40 - page_server.CONNECTIONS
            ):
                assert closed, "no more are closed"
            assert len(closed) == 40 - page_server.CONNECTIONS
            assert get(running, "/health/live")[0] == 200  # they are no obstacle to others
            while threading.active_count() - threads > page_server.CONNECTIONS:
                time.sleep(0.01)  # those of connections that were closed end at once
        finally:
            at = time.monotonic()
            running.close()
        assert time.monotonic() - at < page_server.TIMEOUT_S


def test_a_fault_in_an_answer_is_logged_and_the_next_one_is_given(serving, monkeypatch, capsys):
    serving.update(STATUS)
    with monkeypatch.context() as patched:
        patched.setattr(serving, "_metrics", lambda *_: 1 / 0)
        with pytest.raises(http.client.RemoteDisconnected):
            get(serving, "/metrics")
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert get(serving, "/metrics")[0] == 200


@pytest.mark.parametrize(
    "address",
    ["", "9100", ":9100", "*:9100", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000",
     "127.0.0.1:-1", "camera:9100", "http://127.0.0.1:9100", "::1:9100", "[127.0.0.1]:9100",
     "[]:9100", "300.0.0.1:9100", "[::1:9100", "127.0.0.1:\u0661"],
)  # fmt: skip
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageError, match="expected ADDRESS:PORT") as caught:
        Monitor(address)
    assert f"--metrics {address}" in str(caught.value)


def test_an_address_in_use_is_one_line(serving):
    address = urlsplit(serving.url).netloc
    with pytest.raises(RunError, match=f"--metrics {address}: Address already in use"):
        Monitor(address)


def test_an_address_of_another_machine_is_one_line():
    with pytest.raises(RunError, match=r"--metrics 192\.0\.2\.1:9100: Cannot assign"):
        Monitor("192.0.2.1:9100")


def test_the_address_is_free_again_at_once():
    with closing(Monitor(HERE)) as first:
        address = urlsplit(first.url).netloc
        get(first, "/health/live")
    with closing(Monitor(address)) as second:
        assert urlsplit(second.url).netloc == address


@pytest.mark.skipif(not os.path.exists("/proc/net/if_inet6"), reason="no IPv6 on this machine")
def test_it_serves_ipv6():
    try:
        running = Monitor("[::1]:0")
    except RunError as error:
        pytest.skip(f"no IPv6 loopback: {error}")
    with closing(running):
        assert running.url.startswith("http://[::1]:")
        assert get(running, "/health/live")[0] == 200


def test_without_an_address_nothing_is_served():
    with monitored(None, None) as taker:
        assert taker is None


def test_where_it_is_served_is_logged(capsys):
    with monitored("localhost:0", None) as taker:
        assert taker is not None
        assert "address=http://127.0.0.1:" in capsys.readouterr().err


def test_a_status_is_given_to_each_that_wants_it():
    first, second = [], []
    assert each_of(None, None) is None
    each_of(first.append, None, second.append)(STATUS)
    assert first == second == [STATUS]


def test_a_run_is_measured_with_all_its_processes():
    pipeline = Pipeline(stages=[StageSpec("detect", MaskRcnn())])
    placement = Placement(workers=[WorkerSpec(stages=["detect"])], slots=4)
    source = SourceSpec(
        id="a", uri="toy:40", kind="file", options={"password": "geheim", "pause": "0.05"}
    )
    bodies = []
    with closing(Monitor(HERE)) as running:

        def report(status):
            running.update(status)
            bodies.append(get(running, "/metrics")[2].decode())

        launch.run(
            pipeline,
            placement,
            [source],
            build="toys:build",
            open_source="toys:open_toy",
            on_status=report,
        )
    found = "".join(bodies)
    for process in ("hub", "decode-a", "detect.0"):
        assert f'streamvis_process_open_fds{{process="{process}"}}' in found
    assert 'streamvis_stage_ready_workers{stage="detect"} 1.0' in found
    assert 'streamvis_source_frames_admitted_total{source="a"}' in found
    assert "geheim" not in found
