"""Batches on simulated streams, which do what was launched in any order that their events allow."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamvis.models.inference import device as module
from streamvis.models.inference.device import DeviceBatches

Work = Callable[[], None]


class FakeEvent:
    """Happens when its stream comes to it."""

    def __init__(self, queues: "FakeQueues") -> None:
        self.queues, self.happened = queues, False

    def happen(self) -> None:
        self.happened = True

    def synchronize(self) -> None:
        while not self.happened:
            self.queues.step()

    def elapsed_time(self, other: "FakeEvent") -> float:
        assert self.happened
        assert other.happened
        return 1.0


class FakeQueues:
    """Two streams in host memory; which of them does its next step is left to chance."""

    def __init__(self, seed: int, refuses: bool = False) -> None:
        self.random, self.refuses = random.Random(seed), refuses
        self.queues: dict[str, list[Work | FakeEvent]] = {"copies": [], "computes": []}
        self.captured = self.replayed = 0
        self.memory = torch.zeros(4096)  # of all graphs, as one pool

    def streams(self) -> tuple[str, str]:
        return "copies", "computes"

    def launch(self, stream: str, work: Work) -> None:
        self.queues[stream].append(work)
        for _ in range(self.random.randrange(3)):  # the device goes on while the host prepares
            self.step()

    def mark(self, stream: str) -> FakeEvent:
        event = FakeEvent(self)
        self.queues[stream].append(event.happen)
        return event

    def wait(self, stream: str, event: FakeEvent) -> None:
        self.queues[stream].append(event)

    def step(self) -> None:
        ready = [
            queue
            for queue in self.queues.values()
            if queue and not (isinstance(queue[0], FakeEvent) and not queue[0].happened)
        ]
        if not ready:
            return
        first = self.random.choice(ready).pop(0)
        if not isinstance(first, FakeEvent):
            with torch.inference_mode():
                first()

    def buffers(self, size: int) -> tuple[Tensor, Tensor]:
        return torch.full((size,), 77, dtype=torch.uint8), torch.full((size,), 99).byte()

    def download(self, x: Tensor) -> Tensor:
        return x.clone()

    def capture(self, part: module.Part, pixels: Tensor) -> Callable[[], tuple[Tensor, ...]]:
        if self.refuses:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        self.captured += 1

        def replay() -> tuple[Tensor, ...]:
            self.replayed += 1
            outputs = part(pixels)
            sizes = [x.numel() for x in outputs]
            flat = self.memory[: sum(sizes)].copy_(torch.cat([x.flatten() for x in outputs]))
            parts = zip(flat.split(sizes), outputs, strict=True)
            return tuple(x.view(like.shape) for x, like in parts)

        return replay


def sums(pixels: Tensor) -> tuple[Tensor, ...]:
    numbers = pixels.float().flatten(1)
    return numbers.sum(1), numbers.amax(1, keepdim=True), numbers * 2


def simulated(seed: int, refuses: bool = False, downloads: int | None = None) -> DeviceBatches:
    run = DeviceBatches(lambda shape: sums, "cpu", downloads)
    run.gpu = FakeQueues(seed, refuses)  # type: ignore[assignment]
    return run


def batches(seed: int, sizes: list[tuple[int, int]]) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [
        [rng.integers(0, 256, (side, 3), dtype=np.uint8) for _ in range(count)]
        for count, side in sizes
    ]


def same(found: list[list[Tensor]], expected: list[list[np.ndarray]]) -> bool:
    alone = [sums(torch.from_numpy(np.stack(batch))) for batch in expected]
    return all(
        x.shape == y.shape and torch.equal(x, y)
        for one, other in zip(found, alone, strict=True)
        for x, y in zip(one, other, strict=True)
    )


sizes = st.lists(st.tuples(st.integers(1, 9), st.sampled_from([1, 2, 5])), max_size=12)


@settings(max_examples=60)
@given(sizes, st.integers(0, 10_000), st.sampled_from([None, 1]))
def test_outputs_are_those_of_the_part_in_any_order_of_the_streams(sizes, seed, downloads):
    run, given_ = simulated(seed, downloads=downloads), batches(seed, sizes)
    found = list(run(given_))  # all are kept, while later batches use the same memory
    assert same(found, given_)
    assert same(list(run(given_)), given_)


def test_the_simulation_notices_a_missing_wait(monkeypatch):
    monkeypatch.setattr(FakeQueues, "wait", lambda self, stream, event: None)
    given_ = batches(0, [(3, 4)] * 6)
    assert not all(same(list(simulated(seed)(given_)), given_) for seed in range(20))


def test_batches_that_nobody_takes_do_not_mix_with_later_ones():
    for seed in range(20):
        run, given_ = simulated(seed), batches(seed, [(2, 3)] * 5)
        next(iter(run(given_)))
        assert same(list(run(given_[3:])), given_[3:])


def test_the_next_batch_is_sent_before_the_first_is_taken():
    sent = []

    def numbered():
        for i, batch in enumerate(batches(0, [(1, 2)] * 4)):
            sent.append(i)
            yield batch

    taken = [len(sent) for _ in simulated(0)(numbered())]
    assert taken == [2, 3, 4, 4]


def test_a_shape_is_captured_when_it_comes_again():
    run = simulated(0)
    list(run(batches(0, [(3, 2), (4, 2), (4, 5), (1, 2), (3, 2)])))  # 3 rows take the shape of 4
    assert (run.gpu.captured, run.gpu.replayed) == (1, 2)
    assert len(run.plans.plans) == 3


def test_shapes_without_end_run_without_graphs(monkeypatch):
    monkeypatch.setattr(module, "MOST_PLANS", 3)
    run = simulated(0)
    for _ in range(3):
        given_ = batches(0, [(1, side) for side in range(1, 6)])
        assert same(list(run(given_)), given_)
    assert run.gpu.captured == 0
    assert len(run.plans.plans) == 3


def test_without_a_graph_the_network_runs_and_the_log_says_why_once(capfd):
    run, given_ = simulated(0, refuses=True), batches(0, [(2, 3), (5, 3)] * 4)
    assert same(list(run(given_)), given_)
    log = capfd.readouterr().err
    assert log.count("graph") == log.count("not permitted when stream is capturing") + 1 == 2
    assert "more" not in log


def test_times_are_added_up():
    run = simulated(0)
    list(run(batches(0, [(2, 3)] * 5)))
    assert (run.times.upload, run.times.compute, run.times.download) == (5, 5, 5)
    here = DeviceBatches(lambda shape: sums, "cpu")
    assert same(list(here(batches(0, [(2, 3)]))), batches(0, [(2, 3)]))
    assert here.times.compute > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU and a torch with CUDA")
def test_a_gpu_gives_the_same_with_graphs():
    run = DeviceBatches(lambda shape: sums, "cuda:0")
    given_ = batches(0, [(3, 4), (1, 4), (8, 4)] * 5)
    for _ in range(2):
        assert same(list(run(given_)), given_)
    assert all(plan.replay is not None for plan in run.plans.plans.values())
    kept = DeviceBatches(lambda shape: sums, "cuda:0", downloads=1)
    assert [x.device.type for x in next(kept(given_))] == ["cpu", "cuda", "cuda"]
