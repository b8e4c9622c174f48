"""A training loop that can be stopped at any step and resumed with the same result."""

import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import torch
from msgspec import Meta
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn

from streamvis.errors import DataError, ModelError
from streamvis.files import drafted
from streamvis.models.checkpoint_io import UNREADABLE, reason
from streamvis.training.recipes import Amount, Positive

B = TypeVar("B")
Groups = list[tuple[list[nn.Parameter], float]]  # parameters and their peak learning rate


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The number of steps, the learning rate over them, and the optimiser's constants."""

    steps: Annotated[int, Meta(ge=1)]
    warmup: Annotated[int, Meta(ge=0)] = 100  # steps of linear rise; a cosine falls to 0 after
    weight_decay: Amount = 0.02
    clip: Positive = 5.0  # largest norm of the gradient
    average: Annotated[float, Meta(ge=0, lt=1)] = 0.998  # decay of the averages, the result
    save_every: Annotated[int, Meta(ge=1)] = 100

    def rate(self, step: int) -> float:
        """Return the share of the peak learning rate at a step."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1)))


def fit(
    model: nn.Module,
    groups: Groups,
    data: Callable[[int], Iterator[B]],  # batches from a step on
    losses: Callable[[B], dict[str, Tensor]],
    schedule: Schedule,
    out: Path,
) -> dict[str, Tensor]:
    """Train, from `out/last.pt` on where it exists, and return the averaged state."""
    optimizer = torch.optim.AdamW(
        [{"params": params, "lr": rate, "peak": rate} for params, rate in groups],
        weight_decay=schedule.weight_decay,
    )
    out.mkdir(parents=True, exist_ok=True)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    start = _resume(out / "last.pt", model, optimizer, average)
    with _bar() as bar, (out / "log.jsonl").open("a") as log:
        task = bar.add_task("training", total=schedule.steps, completed=start, loss="")
        for step, batch in zip(range(start, schedule.steps), prefetched(data(start)), strict=False):
            began = time.perf_counter()
            torch.manual_seed(step)  # samples of anchors and proposals repeat after a resume
            terms = losses(batch)
            _descend(model, optimizer, terms, schedule, step)
            _blend(average, model, min(schedule.average, (1 + step) / (10 + step)))
            row = {name: round(float(term.detach()), 5) for name, term in terms.items()}
            row |= {"step": step, "seconds": round(time.perf_counter() - began, 3)}
            log.write(json.dumps(row) + "\n")
            bar.update(task, advance=1, loss=f"loss {sum(row[n] for n in terms):.3f}")
            if (step + 1) % schedule.save_every == 0 or step + 1 == schedule.steps:
                log.flush()
                _save(out / "last.pt", step + 1, model, optimizer, average)
    return average


def _descend(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    terms: dict[str, Tensor],
    schedule: Schedule,
    step: int,
) -> None:
    loss = torch.stack(list(terms.values())).sum()
    if not torch.isfinite(loss):
        found = ", ".join(f"{name} {float(term.detach()):.3g}" for name, term in terms.items())
        raise ModelError(f"step {step}: the loss is not finite ({found}); lower the learning rate")
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * schedule.rate(step)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], schedule.clip)
    optimizer.step()


@torch.no_grad()
def _blend(average: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)


def prefetched(items: Iterator[B]) -> Iterator[B]:
    """Yield the same items, while a thread prepares the next one."""
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(next, items, None)
        while (item := upcoming.result()) is not None:
            upcoming = pool.submit(next, items, None)
            yield item


def _save(
    path: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
) -> None:
    state = {"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    with drafted(path) as draft:
        torch.save(state | {"average": average}, draft)


def _resume(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]
) -> int:
    if not path.exists():
        return 0
    try:
        with warnings.catch_warnings(action="ignore"):  # what cannot be read is an error
            state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        for name, value in state["average"].items():
            average[name].copy_(value)
        return int(state["step"])
    except UNREADABLE as error:
        raise DataError(
            f"{path} is not a checkpoint of this training: {reason(error)}. Start anew with "
            "--overwrite"
        ) from None


def read_log(path: Path) -> dict[int, dict[str, float]]:
    """Read the rows of `log.jsonl` by step; of a step that was repeated, the last row counts.

    A line that kill -9 cut short is passed over, since its step was repeated.
    """
    rows = []
    for line in path.read_text().splitlines():
        with suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return {row["step"]: row for row in sorted(rows, key=lambda row: row["step"])}


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
