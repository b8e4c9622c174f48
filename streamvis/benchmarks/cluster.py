"""Benchmark of clusters in virtual time: what so many cameras get on so many GPUs.

measure()       each number of cameras on each number of GPUs
camera_limit()  the most cameras that one hub carries, with GPUs enough
lost_node()     what is left while a node is gone, and after it is back
compare()       simulated beside real, with workers that sleep, at sizes that one machine holds
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from streamvis.benchmarks import sleeping_run
from streamvis.benchmarks.simulated_cluster import (
    HUB,
    Cluster,
    Costs,
    Fault,
    Simulated,
    simulate,
)
from streamvis.errors import UsageError
from streamvis.messages import Array

SETTLE_S = 10.0  # until all processes have started
CARRIED = 0.99  # of the pictures have to be done for a number of cameras to be carried …
CARRIED_P99_S = 0.5  # … and this age of the oldest but one in a hundred is the most
REAL_S = 10.0  # that the real processes of `compare` run
SPARE = 1.5  # GPUs over those that the cameras need, where the hub is to be the limit


class ClusterLoad(msgspec.Struct, frozen=True, kw_only=True):
    """How so many cameras fared."""

    cameras: int
    gpus: int
    hubs: int
    done: float  # share of the pictures that were shown
    fps: float  # pictures per second that were done, of all cameras
    age_p50_ms: float  # from shown to its events
    age_p99_ms: float
    fairness: float  # fewest pictures of a camera over most
    hub: float  # shares of the time that these worked; of hubs, the busiest
    detect: float
    track: float
    publish: float
    core_us: float  # CPU time of the core for a message, measured


class LostNode(msgspec.Struct, frozen=True, kw_only=True):
    """What a node that is gone for a time costs."""

    cameras: int
    gpus: int
    hubs: int
    nodes: int
    seconds: float  # that it was gone
    share: dict[
        str, float
    ]  # of the pictures that were shown: before, while it was gone, after, all
    age_p99_ms: dict[str, float]
    back_s: float  # after its return, until 0.99 of the rate before was reached for a second
    second: list[int]  # of the time line
    fps: list[float]  # that were done
    p99_ms: list[float]  # age of those that were done in each second


class RealLoad(msgspec.Struct, frozen=True, kw_only=True):
    """The same cameras, real and simulated."""

    cameras: int
    done: float
    simulated_done: float
    age_p50_ms: float
    simulated_p50_ms: float
    age_p99_ms: float
    simulated_p99_ms: float


class ClusterReport(msgspec.Struct, kw_only=True):
    """What was simulated."""

    costs: Costs
    fps: float
    seconds: float
    loads: list[ClusterLoad]
    cameras_per_hub: int | None = None
    lost: LostNode | None = None
    real: list[RealLoad] = []


def measure(
    cameras: Sequence[int],
    gpus: Sequence[int],
    costs: Costs,
    *,
    hubs: int = 1,
    fps: float = 5.0,
    seconds: float = 20.0,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> list[ClusterLoad]:
    """Simulate each number of cameras on each number of GPUs, shared by so many hubs."""
    found = []
    for count in cameras:
        for each in gpus:
            check(count, each, hubs)
            say(f"simulating {count} cameras on {each} GPUs …")
            shards = [
                simulate(one, costs, seconds=seconds, settle_s=SETTLE_S, seed=seed + index)
                for index, one in enumerate(shards_of(count, each, hubs, fps))
            ]
            found.append(_load(count, each, shards, seconds))
    return found


def check(cameras: int, gpus: int, hubs: int) -> None:
    """Raise UsageError where a hub would have no camera or no GPU."""
    if min(cameras, gpus) < hubs:
        raise UsageError(
            f"{hubs} hubs, but {cameras} cameras and {gpus} GPUs: each hub needs one of both"
        )


def shards_of(cameras: int, gpus: int, hubs: int, fps: float) -> list[Cluster]:
    """Return what each hub has: about the same number of cameras and of GPUs."""
    return [
        Cluster(
            cameras=cameras * (index + 1) // hubs - cameras * index // hubs,
            gpus=gpus * (index + 1) // hubs - gpus * index // hubs,
            fps=fps,
        )
        for index in range(hubs)
    ]


def camera_limit(costs: Costs, *, fps: float, seed: int, seconds: float = 8.0) -> int:
    """Return the most cameras that one hub carries, with GPUs enough, to about 2 %.

    Carried: 0.99 of the pictures are done, and 0.99 of these within half a second.
    """
    low, high = 0, 1
    while _carries(high, costs, fps, seconds, seed):
        low, high = high, 2 * high
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        low, high = (middle, high) if _carries(middle, costs, fps, seconds, seed) else (low, middle)
    return low


def _carries(cameras: int, costs: Costs, fps: float, seconds: float, seed: int) -> bool:
    gpus = math.ceil(SPARE * cameras * fps * costs.detect_ms / 1e3)
    cluster = Cluster(cameras=cameras, gpus=gpus, fps=fps)
    found = simulate(cluster, costs, seconds=seconds, settle_s=SETTLE_S, seed=seed)
    late = not len(found.ages_s) or float(np.quantile(found.ages_s, 0.99)) > CARRIED_P99_S
    return not late and len(found.ages_s) >= CARRIED * found.shown


def lost_node(
    cameras: int,
    gpus: int,
    costs: Costs,
    *,
    lost_s: float,
    hubs: int = 1,
    fps: float = 5.0,
    around_s: float = 20.0,
    seed: int = 0,
) -> LostNode:
    """Simulate the loss of one node of the first hub, `around_s` after the begin.

    The other hubs are simulated for `around_s` alone: nothing happens to them.
    """
    check(cameras, gpus, hubs)
    first, *others = shards_of(cameras, gpus, hubs, fps)
    lost_at = SETTLE_S + around_s
    fault = Fault(kind="lost", node=0, at_s=lost_at, seconds=lost_s)
    hurt = simulate(
        msgspec.structs.replace(first, faults=(fault,)),
        costs,
        seconds=lost_s + 3 * around_s,
        settle_s=SETTLE_S,
        seed=seed,
    )
    whole = [
        simulate(one, costs, seconds=around_s, settle_s=SETTLE_S, seed=seed + 1 + index)
        for index, one in enumerate(others)
    ]
    elsewhere = sum(len(one.ages_s) for one in whole) / around_s
    spans = {
        "before": (SETTLE_S, lost_at),
        "gone": (lost_at, lost_at + lost_s),
        "after": (lost_at + lost_s, lost_at + lost_s + 2 * around_s),
    }
    spans["all"] = (SETTLE_S, spans["after"][1])
    shares, ages = {}, {}
    for name, (begin, end) in spans.items():
        inside = (hurt.done_at_s >= begin) & (hurt.done_at_s < end)
        rate = float(inside.sum()) / (end - begin) + elsewhere
        shares[name] = round(rate / (cameras * fps), 4)
        ages[name] = _ms(hurt.ages_s[inside], 0.99)
    seconds = np.arange(int(SETTLE_S), int(spans["after"][1]))
    of_second = np.floor(hurt.done_at_s).astype(int)
    rates = np.array([(of_second == second).sum() for second in seconds]) + elsewhere
    back = lost_at + lost_s
    reached = seconds[(seconds >= back) & (rates >= 0.99 * shares["before"] * cameras * fps)]
    return LostNode(
        cameras=cameras,
        gpus=gpus,
        hubs=hubs,
        nodes=sum(one.nodes for one in [first, *others]),
        seconds=lost_s,
        share=shares,
        age_p99_ms=ages,
        back_s=float(reached[0] - back) if len(reached) else math.inf,
        second=[int(second) for second in seconds],
        fps=[round(float(rate), 1) for rate in rates],
        p99_ms=[_ms(hurt.ages_s[of_second == second], 0.99) for second in seconds],
    )


def compare(
    counts: Sequence[int],
    *,
    fps: float,
    seed: int,
    say: Callable[[str], None],
) -> list[RealLoad]:
    """Run these numbers of cameras with workers that sleep, and simulate the same."""
    found = []
    for count in counts:
        say(f"running {count} cameras …")
        with tempfile.TemporaryDirectory() as folder:
            real = sleeping_run.run(count, fps, REAL_S, Path(folder), seed)
        cluster = Cluster(cameras=count, gpus=1, fps=fps, batch=sleeping_run.BATCH)
        costs = sleeping_run.COSTS
        model = simulate(cluster, costs, seconds=3 * REAL_S, settle_s=SETTLE_S, seed=seed)
        found.append(
            RealLoad(
                cameras=count,
                done=round(real.done, 3),
                simulated_done=round(len(model.ages_s) / model.shown, 3),
                age_p50_ms=_ms(real.ages_s, 0.5),
                simulated_p50_ms=_ms(model.ages_s, 0.5),
                age_p99_ms=_ms(real.ages_s, 0.99),
                simulated_p99_ms=_ms(model.ages_s, 0.99),
            )
        )
    return found


def _load(cameras: int, gpus: int, shards: Sequence[Simulated], seconds: float) -> ClusterLoad:
    ages = np.concatenate([one.ages_s for one in shards])
    done = np.concatenate([one.done for one in shards])
    busy = {name: max(one.busy[name] for one in shards) for name in shards[0].busy}
    return ClusterLoad(
        cameras=cameras,
        gpus=gpus,
        hubs=len(shards),
        done=round(len(ages) / sum(one.shown for one in shards), 4),
        fps=round(len(ages) / seconds, 1),
        age_p50_ms=_ms(ages, 0.5),
        age_p99_ms=_ms(ages, 0.99),
        fairness=round(float(done.min() / max(1, done.max())), 3),
        hub=round(busy[HUB], 3),
        detect=round(busy["detect"], 3),
        track=round(busy["track"], 3),
        publish=round(busy["publish"], 3),
        core_us=round(float(np.mean([one.core_us for one in shards])), 1),
    )


def _ms(ages_s: Array, quantile: float) -> float:
    return round(float(np.quantile(ages_s, quantile)) * 1e3, 1) if len(ages_s) else 0.0
