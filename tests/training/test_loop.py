"""A training that was stopped ends where one that was not does."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from streamvis.errors import DataError, ModelError
from streamvis.training.loop import Schedule, fit, prefetched, read_log


def numbers(start: int) -> Iterator[Tensor]:
    step = start
    while True:
        yield torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        step += 1


def train(out, schedule: Schedule, stop: int | None = None) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)

    def data(start: int) -> Iterator[Tensor]:
        for step, batch in enumerate(numbers(start), start):
            if step == stop:
                return
            yield batch

    def losses(x: Tensor) -> dict[str, Tensor]:
        return {"fit": (model(x)[:, 0] - x.sum(1) - torch.rand(8) / 100).square().mean()}

    return fit(model, [(list(model.parameters()), 0.05)], data, losses, schedule, out)


@pytest.mark.parametrize("content", [b"", b"abc" * 100, b"PK\x03\x04", b"\x80\x02}q.", None])
def test_what_is_no_checkpoint_is_refused_in_a_line(content, tmp_path):
    if content is None:
        torch.save({"step": 1, "model": {}, "average": []}, tmp_path / "last.pt")
    else:
        (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(
        DataError, match=r"last.pt is not a checkpoint of this training: .*new"
    ) as e:
        train(tmp_path, Schedule(steps=2))
    assert "\n" not in str(e.value)


def test_stop_and_go_on_equals_going_through(tmp_path):
    schedule = Schedule(steps=60, warmup=5, save_every=7)
    through = train(tmp_path / "a", schedule)
    train(tmp_path / "b", schedule, stop=40)
    resumed = train(tmp_path / "b", schedule)
    for name in through:
        assert torch.equal(through[name], resumed[name])
    log = read_log(tmp_path / "b" / "log.jsonl")
    assert list(log) == list(range(60))
    assert log[59]["fit"] < 0.05 * log[0]["fit"]


def test_a_loss_that_is_not_finite_stops_with_its_terms(tmp_path):
    model = nn.Linear(3, 1)
    with pytest.raises(ModelError, match=r"step 0: the loss is not finite \(bad nan\)"):
        fit(
            model,
            [(list(model.parameters()), 1.0)],
            numbers,
            lambda x: {"bad": model(x).sum() * float("nan")},
            Schedule(steps=3),
            tmp_path,
        )


def test_the_rate_rises_and_falls():
    schedule = Schedule(steps=100, warmup=10)
    rates = [schedule.rate(step) for step in range(101)]
    assert max(rates) == rates[9] == 1
    assert rates[0] == pytest.approx(0.1)
    assert rates[100] == pytest.approx(0, abs=1e-9)
    assert all(b <= a for a, b in pairwise(rates[10:]))


def test_ahead_changes_no_order_and_ends():
    assert list(prefetched(iter(range(1, 20)))) == list(range(1, 20))
