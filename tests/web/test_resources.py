"""What the health page reads: metrics as of the run itself, faults, processes, the summary."""

import http.client
import os
import subprocess
import sys
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import msgspec
import pytest
from controlled_runs import camera, private_home, report, stage, under_way, view_of
from event_logs import WALK, logged
from status_samples import DISK, STATUS
from web_servers import PATIENCE_S, serving

from streamvis.events.log import FILE_NAME
from streamvis.runtime.faults import faults
from streamvis.runtime.metrics import Summary, write_summary
from streamvis.runtime.monitor import Monitor
from streamvis.runtime.resource_usage import Disk, usages_of


@pytest.fixture
def out(tmp_path):
    logged(tmp_path / FILE_NAME, "gate", WALK)
    return tmp_path


@contextmanager
def running(out, status):
    """A run with a worker process and this status, and the server of its directory."""
    command = [sys.executable, "-c", "input()"]
    with private_home(), under_way(camera("gate"), out=out) as run:
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        try:
            status = msgspec.structs.replace(status, processes={"detect.0": worker.pid})
            run.view = lambda: msgspec.structs.replace(view_of(camera("gate")), status=status)
            with serving(out) as client:
                yield client, status, worker
        finally:
            worker.communicate("\n")


def samples(text):
    """The names of the samples, each with its labels."""
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


def page_of(monitor):
    with closing(http.client.HTTPConnection(urlsplit(monitor.url).netloc, timeout=PATIENCE_S)) as c:
        c.request("GET", "/metrics")
        return c.getresponse().read().decode()


def test_the_metrics_are_those_of_the_run_itself(out):
    with running(out, STATUS) as (client, status, _), closing(Monitor("127.0.0.1:0", out)) as own:
        own.update(status)
        ours, theirs = samples(client.get("/metrics").body.decode()), samples(page_of(own))
        assert ours == theirs
        for process in ("hub", "detect.0"):
            for name in ("resident_memory_bytes", "open_fds", "threads", "cpu_seconds_total"):
                assert f'streamvis_process_{name}{{process="{process}"}}' in ours


def test_processes_are_those_of_the_run_alone(out):
    with running(out, STATUS) as (client, _, worker):
        found = {one["name"]: one for one in client.get("/api/resources").json["processes"]}
        assert found.keys() == {"hub", "detect.0"}
        assert found["hub"]["pid"] == os.getpid()
        assert found["detect.0"]["pid"] == worker.pid
        assert found["detect.0"]["resident_bytes"] > 1_000_000
    # numbers of another namespace of processes: what has them here is not the run
    assert usages_of({"detect.0": os.getpid()}, hub=1) == {}
    assert usages_of({"detect.0": 2**22 - 1}, hub=os.getpid()) == {}


def test_the_faults_are_those_of_the_command(out):
    with running(out, STATUS) as (client, status, _):
        found = client.get("/api/resources").json
    told = [fault.text for fault in faults(status)]
    assert [one["text"] for one in found["faults"]][-len(told) :] == told  # beside the disk's
    assert [one["weight"] for one in found["faults"]] == sorted(
        one["weight"] for one in found["faults"]
    )
    assert found["recorded_bytes"] == 5_000_000
    assert found["log_bytes"] >= (out / FILE_NAME).stat().st_size > 0
    assert found["disk"]["size_bytes"] >= found["disk"]["free_bytes"]


def test_each_fault_says_what_to_do_and_where_it_is_described(request):
    names = {"offline", "stalled", "connecting", "ended"}
    sources = [report(f"s-{state}", state=state, state_s=90.0, error="x") for state in names]
    bad = report("bad", state="online", decoded=9, dropped={"overload": 9}, suspect=1)
    stages = [stage("detect", restarts=2, last_exit="signal 9")]
    status = msgspec.structs.replace(STATUS, sources=[*sources, bad], stages=stages)
    found = faults(status, Disk(free_bytes=1, size_bytes=100))
    assert {fault.about for fault in found} >= {"disk", "feed", "detect", "bad"}
    assert "signal 9" in next(fault.text for fault in found if fault.about == "detect")
    for fault in found:
        assert fault.to_do
        file, _, section = fault.see.partition(", ")
        headings = (request.config.rootpath / file).read_text().splitlines()
        assert any(line.lstrip("#") == f" {section}" for line in headings if line[:1] == "#")
    assert "disk" not in {fault.about for fault in faults(status, DISK)}


def test_viewers_are_counted_while_they_watch(out):
    with serving(out) as client:
        assert client.get("/api/resources").json["viewers"] == {}
        with client.stream() as first, client.stream() as second:
            first.recv(timeout=PATIENCE_S)
            second.recv(timeout=PATIENCE_S)
            assert client.get("/api/resources").json["viewers"] == {"/ws/events": 2}


def test_the_summary_is_the_file_that_the_run_has_written(out):
    summary = Summary(wall_s=3.5, sources=[report("gate")], stages=[stage("detect", calls=7)])
    with serving(out) as client:
        assert client.get("/api/summary").status == 404
        write_summary(summary, out)
        found = client.get("/api/summary")
        assert msgspec.json.decode(found.body, type=Summary) == summary
        for broken in (b"", b"{", b"[]", b"\xff", b'{"wall_s": "x"}'):
            (out / "summary.json").write_bytes(broken)
            assert client.get("/api/summary").status == 404
        assert client.get("/api/resources").json["processes"] == []


def test_a_run_that_does_not_answer_has_no_faults_but_a_disk(out):
    with serving(out) as client:
        found = client.get("/api/resources").json
    assert (found["faults"], found["processes"]) == ([], [])
    assert found["disk"]["size_bytes"] > 0
