"""Runs over real Ray nodes give what one process gives, whatever dies."""

import importlib.util
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import ray_cluster
import toys
from msgspec.structs import replace
from run_on_ray import run, started
from test_launch import chain, logs, runs, source, undisturbed
from test_resume import PIPELINE, count, inline_run, rows
from waiting import until

from streamvis.config import Placement, RaySpec, SourcesSpec, WorkerSpec
from streamvis.errors import UsageError
from streamvis.runtime import launch
from streamvis.transport.sockets import private_directory

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed: pip install ray",
)
HERE = Path(__file__).parent
HUB, FAR, LATE = "127.0.0.2", "127.0.0.3", "127.0.0.4"
SOURCES = [source("a", 60, jump=7, pause=0.05), source("b", 40, fail=30), source("c", 50, grow=20)]
SLOW = [source("a", 120, jump=7, pause=0.02), source("b", 80, pause=0.03, grow=40)]


@pytest.fixture(scope="module")
def nodes():
    with ray_cluster.cluster(HERE, HERE.parent, HERE.parent.parent) as started:
        started.start(HUB, hub=1)
        started.start(FAR, far=1)
        yield started


def placement(nodes, *, needs="far", sources_need="", start_s=60.0):
    """Detection near `needs`; sources with it, unless they need something else."""
    detect = WorkerSpec(["detect"], batch=2, needs={needs: 0.01})
    apart = SourcesSpec(together=False, needs={sources_need: 0.01})
    return Placement(
        workers=[detect, WorkerSpec(["track"]), WorkerSpec(["publish"])],
        slots=4,
        engine=RaySpec(address=nodes.address, node_ip=nodes.head, start_s=start_s),
        sources=apart if sources_need else SourcesSpec(),
    )


def lines(out):
    return sum(path.read_text().count("\n") for path in out.glob("*.log"))


def hasty(sources):
    """Return the sources without their pauses, which change no event."""
    options = [{k: v for k, v in one.options.items() if k != "pause"} for one in sources]
    return [replace(one, options=of) for one, of in zip(sources, options, strict=True)]


def local(sources, out):
    """Return the logs of a run in this process, which waits for nothing."""
    return undisturbed(chain(), hasty(sources), out)


def disturbed(given, out, disturb, enter=()):
    """Run SLOW, and call `disturb` when the logs have some lines."""
    over = threading.Event()

    def watch():
        until(lambda: over.is_set() or lines(out) >= 30)
        if not over.is_set():
            disturb()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return run(chain(), given, SLOW, out, enter=enter)
    finally:
        over.set()
        watcher.join()


def test_two_nodes_give_what_one_process_gives(nodes, tmp_path):
    done = run(chain(), placement(nodes), SOURCES, tmp_path / "two")
    assert logs(tmp_path / "two") == local(SOURCES, tmp_path / "one")
    assert [report["admitted"] for report in done["summary"]["sources"]] == [59, 30, 50]
    assert done["summary"]["refused_messages"] == 0
    seen = [node for status in done["nodes"] for node in status]
    homes = {process: node["name"] for node in seen for process in node["processes"]}
    assert homes["publish.0"].startswith(f"{HUB}-")
    assert homes["detect.0"].startswith(f"{FAR}-")
    assert homes["decode-a"] == homes["track.0"] == homes["detect.0"]
    assert all(node["bytes_in"] == 0 for node in seen)


def test_pixels_cross_nodes_where_the_placement_says_so(nodes, tmp_path):
    sources = [source("a", 60, pause=0.05)]
    done = run(chain(), placement(nodes, sources_need="hub"), sources, tmp_path / "a")
    assert logs(tmp_path / "a") == local(sources, tmp_path / "one")
    (far,) = [node for node in done["nodes"][-1] if node["name"].startswith(FAR)]
    assert far["bytes_in"] == far["frames_in"] * toys.WIDTH * toys.HEIGHT * 3 > 0


@pytest.mark.parametrize("together", [True, False])
def test_processes_that_are_killed_on_another_node_change_nothing(together, nodes, tmp_path):
    def kill():
        for pid in nodes.pids(FAR, "ray::Seat"):
            os.kill(pid, signal.SIGKILL)

    given = placement(nodes) if together else placement(nodes, needs="hub", sources_need="far")
    done = disturbed(given, tmp_path / "two", kill)
    assert done["error"] == ""
    assert logs(tmp_path / "two") == local(SLOW, tmp_path / "one")
    assert all(report["restarts"] for report in done["summary"]["sources"])


def test_a_node_that_stands_still_for_a_moment_is_waited_for(nodes, tmp_path):
    def stand_still():
        nodes.signal(FAR, signal.SIGSTOP)
        time.sleep(0.7)  # less than after which Ray gives a node up
        nodes.signal(FAR, signal.SIGCONT)

    done = disturbed(placement(nodes), tmp_path / "two", stand_still)
    assert done["error"] == ""
    assert logs(tmp_path / "two") == local(SLOW, tmp_path / "one")
    assert not any(report["restarts"] for report in done["summary"]["sources"])


def test_a_hub_that_is_killed_leaves_no_process_and_the_next_start_goes_on(nodes, tmp_path):
    given = PIPELINE, placement(nodes), SLOW, tmp_path / "two"
    with started(*given, build="toys:build_logged") as hub:
        until(lambda: count(tmp_path / "two") >= 60)
        processes = [pid for node in (HUB, FAR) for pid in nodes.pids(node, "ray::Seat")]
        assert len(processes) == 5
        hub.kill()
    with private_directory():  # removes the socket, as any start does
        pass
    until(lambda: not any(map(runs, processes)))
    done = run(*given, build="toys:build_logged", on_used="resume")
    assert done["error"] == ""
    inline_run(hasty(SLOW), tmp_path / "one")
    assert rows(tmp_path / "two") == rows(tmp_path / "one")


def test_resources_that_no_node_has_are_named(nodes, tmp_path):
    given = placement(nodes, needs="gpu_node", start_s=0.5)
    error = run(chain(), given, SOURCES, tmp_path / "out")["error"]
    assert error.startswith("RunError: detect, track (1 of 1) needs CPU 1.2, gpu_node 0.01 on one ")
    assert "and no node has gpu_node 0.01. The nodes have: CPU 4, " in error


def test_a_node_that_is_killed_and_one_that_joins_late_change_nothing(nodes, tmp_path):
    """It is the last with these nodes, of which one is gone then."""

    def replace():
        nodes.kill(FAR)
        nodes.start(LATE, far=1)

    try:
        done = disturbed(placement(nodes), tmp_path / "two", replace)
    finally:
        nodes.kill(LATE)
    assert done["error"] == ""
    assert logs(tmp_path / "two") == local(SLOW, tmp_path / "one")


def test_a_cluster_that_anybody_may_use_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    given = Placement(workers=[WorkerSpec(["detect", "track", "publish"])], engine=RaySpec())
    with pytest.raises(UsageError, match="RAY_AUTH_MODE=token"):
        launch.run(chain(), given, SOURCES, out=tmp_path / "out")
