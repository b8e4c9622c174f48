"""Runs over two Ray nodes, each in a network namespace, whose packets are dropped in between."""

import importlib.util
import time

import pytest
import ray_cluster
from network_link import Link
from test_launch import logs, runs
from test_ray import HERE, SLOW, disturbed, lines, local, placement
from waiting import until

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed: pip install ray",
)
HUB, FAR, LATE = "10.0.0.2", "10.0.0.3", "10.0.0.4"


@pytest.fixture
def link():
    try:
        made = Link(HUB, FAR, LATE)
    except (RuntimeError, FileNotFoundError) as error:
        pytest.skip(f"no network namespaces here (root, or user namespaces): {error}")
    yield made
    made.close()


@pytest.fixture
def nodes(link):
    enter = {HUB: link.near, FAR: link.far, LATE: link.near}
    with ray_cluster.cluster(HERE, HERE.parent, HERE.parent.parent, enter=enter) as started:
        started.start(HUB, hub=1)
        started.start(FAR, far=1)
        yield started


def test_lost_packets_a_cut_and_a_node_that_answers_after_it_was_replaced_change_nothing(
    link, nodes, tmp_path
):
    """In the end both sides live: what the one that was given up says is refused, and it ends."""
    out = tmp_path / "two"
    given_up = []

    def more(count):
        before = lines(out)
        until(lambda: lines(out) >= before + count)

    def disturb():
        link.drop(1)
        time.sleep(1)  # less than after which Ray gives a node up
        link.drop(0.05)
        more(20)
        given_up.extend(nodes.pids(FAR, "ray::Seat"))
        link.drop(1)
        nodes.start(LATE, far=1)
        more(20)  # from the other node
        assert all(map(runs, given_up))
        link.drop(0)
        until(lambda: not any(map(runs, given_up)))

    link.drop(0.05)
    done = disturbed(placement(nodes), out, disturb, link.near)
    assert done["error"] == ""
    assert logs(out) == local(SLOW, tmp_path / "one")
    assert [report["restarts"] for report in done["summary"]["sources"]] == [1, 1]
    assert len(given_up) == 4  # two sources, and two workers
    assert not any(map(runs, given_up))
