"""The dynamic programme of `exact` on arrays, for clusters of many states.

A set of used detections is a 64-bit mask. A detection is given a bit from the first to the last
track that has it in its gate.
"""

from typing import NamedTuple

import numpy as np

from streamvis.messages import Array

BITS = 62
Step = tuple[Array, Array, int]  # a track's bits (O,), log weights (O,), and the mask kept after it


class _Layer(NamedTuple):
    """The transitions from the S sets before a track to those after it, by its O options."""

    weight: Array  # (S,) log weight of each set
    step: Array  # (S, O) log weight of the option, −inf if its detection is used
    after: Array  # (S, O) row of the next set; 0 for impossible options


def layered(
    options: list[list[tuple[int, int, float]]], ahead: list[int], max_states: int
) -> list[Array] | None:
    """Return the log mass (O,) of each track's options, None if a limit is exceeded."""
    steps = _steps(options, ahead)
    layers = None if steps is None else _forward(steps, max_states)
    if layers is None:
        return None
    masses: list[Array] = []
    below = np.zeros(1)
    for layer in reversed(layers):
        rest = layer.step + below[layer.after]  # (S, O)
        masses.append(_log_sum(layer.weight[:, None] + rest, axis=0))
        below = _log_sum(rest, axis=1)
    return masses[::-1]


def _steps(options: list[list[tuple[int, int, float]]], ahead: list[int]) -> list[Step] | None:
    free = [1 << k for k in range(BITS)]
    taken: dict[int, int] = {0: 0}  # bit of the detection -> bit in this programme
    steps: list[Step] = []
    for own, later in zip(options, ahead, strict=True):
        for _, bit, _ in own:
            if bit not in taken:
                if not free:
                    return None
                taken[bit] = free.pop()
        bits = np.array([taken[bit] for _, bit, _ in own])
        done = [bit for bit in taken if bit and not bit & later]
        free += [taken.pop(bit) for bit in done]
        steps.append((bits, np.array([w for _, _, w in own]), sum(taken.values())))
    return steps


def _forward(steps: list[Step], max_states: int) -> list[_Layer] | None:
    used, weight = np.zeros(1, dtype=np.int64), np.zeros(1)
    layers: list[_Layer] = []
    count = 0
    for bits, log_w, kept in steps:
        count += len(used)
        if count > max_states:
            return None
        able = (used[:, None] & bits) == 0  # (S, O)
        step = np.where(able, log_w, -np.inf)
        led = (weight[:, None] + step)[able]  # (E,)
        then, row = np.unique(((used[:, None] | bits) & kept)[able], return_inverse=True)
        after = np.zeros(able.shape, dtype=np.int64)
        after[able] = row
        layers.append(_Layer(weight, step, after))
        order = np.argsort(row, kind="stable")
        used, weight = then, _log_sum_runs(led[order], row[order])
    return layers


def _log_sum(log_a: Array, axis: int) -> Array:
    top = np.maximum(log_a.max(axis=axis, keepdims=True), -1e300)  # not −inf
    with np.errstate(divide="ignore"):
        return np.log(np.exp(log_a - top).sum(axis=axis)) + top.squeeze(axis)


def _log_sum_runs(log_a: Array, run: Array) -> Array:
    """Return log sums over runs 0, 1, … of consecutive entries, none of them empty."""
    start = np.flatnonzero(np.diff(run, prepend=-1))
    top = np.maximum.reduceat(log_a, start)
    return np.log(np.add.reduceat(np.exp(log_a - top[run]), start)) + top
