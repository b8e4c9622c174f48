import os
import socket

import pytest
from status_samples import GATE, YARD, stage
from waiting import PATIENCE_S

from streamvis.runtime import systemd
from streamvis.runtime.metrics import Status

STARTING = Status(wall_s=0.0, sources=[YARD], stages=[stage("detect", ready=0)])
READY = Status(wall_s=1.0, sources=[YARD, GATE], stages=[stage("detect")])


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """What systemd does: a datagram socket whose address the service finds in its environment."""
    address = str(tmp_path / "notify") if request.param == "path" else f"\0streamvis-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.settimeout(PATIENCE_S)
        monkeypatch.setenv(systemd.SOCKET, address.replace("\0", "@"))
        yield lambda: receiver.recv(4096).decode().splitlines()


def test_a_service_is_ready_when_its_workers_are_and_reports_on(manager):
    with systemd.notified() as report:
        report(STARTING)
        assert manager() == [
            "WATCHDOG=1",
            "STATUS=0 of 1 sources online (yard offline); stage 'detect': 0 of 1 workers are ready",
        ]
        report(READY)
        told = manager()
        assert told[-1] == "READY=1"
        assert "STATUS=1 of 2 sources online (yard offline)" in told
        report(STARTING)  # a worker has died: the service is still the same
        assert "READY=1" not in manager()
    assert manager() == ["STOPPING=1"]


def test_outside_of_a_service_nothing_is_sent(monkeypatch):
    monkeypatch.delenv(systemd.SOCKET, raising=False)
    with systemd.notified() as report:
        assert report is None


def test_a_service_manager_that_is_gone_stops_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv(systemd.SOCKET, str(tmp_path / "gone"))
    with systemd.notified() as report:
        report(READY)
