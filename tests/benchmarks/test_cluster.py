"""Clusters in virtual time: what must come out whatever the model's chance is."""

import json

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from streamvis.benchmarks import cluster, cluster_tables, sleeping_run
from streamvis.benchmarks.simulated_cluster import Cluster, Costs, Fault, simulate
from streamvis.cli.main import app
from streamvis.errors import UsageError

COSTS = Costs()
FULL_FPS = 8e3 / (COSTS.call_ms + 8 * COSTS.detect_ms)  # of a GPU, in full batches


def run(seconds=5.0, seed=0, costs=COSTS, **settings):
    return simulate(Cluster(**settings), costs, seconds=seconds, settle_s=8.0, seed=seed)


def test_the_same_seed_gives_the_same_result_and_another_one_does_not():
    first, again, other = (run(cameras=20, gpus=1, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.ages_s, again.ages_s)
    assert first.busy == again.busy
    assert not np.array_equal(first.ages_s, other.ages_s)


@pytest.mark.parametrize(("cameras", "gpus"), [(1, 1), (30, 1), (60, 8)])
def test_every_picture_is_done_where_there_is_room(cameras, gpus):
    found = run(cameras=cameras, gpus=gpus)
    assert found.done.sum() == found.shown == cameras * 25
    assert found.done.min() == found.done.max()
    assert found.ages_s.min() > (COSTS.detect_ms + COSTS.track_ms + COSTS.publish_ms) / 2e3


def test_a_full_gpu_is_never_idle_and_serves_all_cameras_alike():
    found = run(cameras=120, gpus=1)
    assert found.done.sum() / 5.0 == pytest.approx(FULL_FPS, rel=0.03)
    assert found.busy["detect"] > 0.98
    assert found.done.min() / found.done.max() > 0.8
    assert np.quantile(found.ages_s, 0.99) < 1.0


def test_a_full_hub_is_the_limit_where_it_is_slow():
    found = run(cameras=60, gpus=8, costs=Costs(hop_us=2000.0))
    assert found.busy["hub"] > 0.98
    assert found.done.sum() / 5.0 == pytest.approx(1e6 / (4 * 2000.0), rel=0.05)  # four hops


def test_a_lost_node_takes_its_own_cameras_and_gives_them_back():
    fault = Fault(kind="lost", node=0, at_s=12.0, seconds=20.0)
    found = run(cameras=16, gpus=8, faults=(fault,), seconds=50.0)
    theirs, others = (
        found.done[[0, 1, 2, 3, 8, 9, 10, 11]],
        found.done[[4, 5, 6, 7, 12, 13, 14, 15]],
    )
    assert (others == 250).all()
    gone = 250 - theirs  # for 20 s, and until the hub knows and processes have started
    assert ((gone >= 100) & (gone <= 100 + 5 * 15)).all()


@pytest.mark.parametrize(("seconds", "most"), [(5.0, 30), (20.0, 100 + 5 * 15)])
def test_a_node_that_is_cut_off_goes_on_or_counts_as_lost(seconds, most):
    """Below 10 s nobody notices: the cameras lose what they have shown meanwhile, and no more."""
    fault = Fault(kind="cut", node=0, at_s=12.0, seconds=seconds)
    found = run(cameras=16, gpus=8, faults=(fault,), seconds=50.0)
    on_node = np.arange(16) % 8 < 4
    gone = 250 - found.done[on_node]
    assert ((gone >= 5 * seconds - 5) & (gone <= most)).all()
    others = found.done[~on_node]  # a tracker of theirs may be on that node
    assert np.median(others) == 250
    assert (others >= 250 - 5 * min(seconds, 15.0) - 5).all()


def test_a_slow_node_holds_back_its_own_cameras_alone():
    fault = Fault(kind="slow", node=0, at_s=9.0, seconds=100.0, factor=30.0)
    found = run(cameras=40, gpus=8, faults=(fault,), seconds=10.0)
    slow = np.arange(40) % 8 < 4
    assert (found.done[slow] < 45).all()
    assert np.mean(found.done[~slow] == 50) >= 0.8  # the others have their tracker on that node


def test_the_limit_of_a_hub_is_that_of_its_slowest_part():
    costs = Costs(publish_ms=20.0)
    found = cluster.camera_limit(costs, fps=5.0, seed=0, seconds=4.0)
    assert 0.8 * 10 <= found <= 10  # 50 pictures a second


def test_the_share_that_is_done_while_a_node_is_gone():
    lost = cluster.lost_node(16, 16, COSTS, lost_s=20.0, hubs=2, fps=2.0, around_s=10.0)
    assert lost.nodes == 4
    assert lost.share["before"] == pytest.approx(1.0, abs=0.02)
    # a quarter of the cameras, and others whose tracker was there, until it has started anew
    assert 0.6 < lost.share["gone"] <= 0.76
    assert lost.back_s < 20.0
    assert len(lost.fps) == len(lost.second) == len(lost.p99_ms)


def test_hubs_share_all_cameras_and_gpus():
    shards = cluster.shards_of(10, 7, 3, 5.0)
    assert [one.cameras for one in shards] == [3, 3, 4]
    assert [one.gpus for one in shards] == [2, 2, 3]
    with pytest.raises(UsageError, match="3 hubs, but 2 cameras and 9 GPUs"):
        cluster.check(2, 9, 3)


@pytest.mark.parametrize("text", ["", "0", "1,x", "-3", "123456", "10001"])
def test_numbers_are_checked(text):
    with pytest.raises(UsageError, match="--gpus"):
        cluster_tables.counts_of(text, "--gpus")


def test_what_is_wrong_is_said_before_the_simulation(monkeypatch):
    monkeypatch.setattr(cluster, "measure", lambda *_, **__: pytest.fail("it was simulated"))
    result = CliRunner().invoke(app, ["bench", "cluster", "--real", "2,many"])
    assert result.exit_code == 2
    assert "--real 2,many: expected numbers from 1 to 10000" in result.stderr


def test_the_command_prints_and_draws(tmp_path):
    pytest.importorskip("matplotlib", reason="charts need matplotlib: pip install matplotlib")
    words = "bench cluster --cameras 2,4 --gpus 1,2 --seconds 1 --lost-s 2 --limit --json"
    words += f" --hop-us 5000 --charts {tmp_path}"
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)["cluster"]
    assert [(one["cameras"], one["gpus"]) for one in report["loads"]] == [
        (2, 1),
        (2, 2),
        (4, 1),
        (4, 2),
    ]
    assert 7 <= report["cameras_per_hub"] <= 10  # four hops of 5 ms for each of 5 pictures
    for name in ("cluster.png", "lost-node.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    shown = list(cluster_tables.tables(msgspec.convert(report, cluster.ClusterReport)))
    assert len(shown) == 4


def test_real_cameras_with_workers_that_sleep(tmp_path):
    found = sleeping_run.run(2, 20.0, 1.0, tmp_path)
    assert 0 < found.done <= 1
    assert found.ages_s.min() > 0.018  # no call is shorter than its sleep
