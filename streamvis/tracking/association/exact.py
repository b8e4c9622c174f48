"""Exact marginals of one cluster, by dynamic programming over sets of used detections.

Tracks are processed in turn. Of the detections that earlier tracks use, only those matter that a
later track has in its gate, so most joint events merge into few states (EHM, Maskell, Briers and
Wright 2004). A set is a bit mask, every weight a logarithm.
"""

from collections.abc import Sequence
from math import exp, inf, log1p

import numpy as np

from streamvis.messages import Array
from streamvis.tracking.association.layers import layered

MOST_PAIRS = 10_000  # to find out how many states they have takes 0.1 s
FEW_STATES = 300  # beyond, arrays are faster than dictionaries
Option = tuple[int, int, float]  # column of β, bit of the detection (0: none), log weight
States = dict[int, float]  # set of used detections -> log of the summed weight


def exact_marginals(log_miss: Array, log_hit: Array, max_states: int) -> Array | None:
    """Return β (N, M + 1), or None for more than `max_states` states or MOST_PAIRS gated pairs."""
    if np.count_nonzero(log_hit > -inf) > MOST_PAIRS:
        return None
    gates = [[j for j, w in enumerate(row) if w > -inf] for row in log_hit.tolist()]
    order = _order([sum(1 << j for j in gate) for gate in gates])
    misses, hits = log_miss.tolist(), log_hit.tolist()
    options = [[(0, 0, misses[i]), *((j + 1, 1 << j, hits[i][j]) for j in gates[i])] for i in order]
    ahead = _ahead(options)
    masses: Sequence[list[float] | Array] | None
    masses = _masses(options, ahead, min(max_states, FEW_STATES))
    if masses is None and max_states > FEW_STATES:
        masses = layered(options, ahead, max_states)
    if masses is None:
        return None
    log_beta = np.full((len(log_miss), log_hit.shape[1] + 1), -inf)
    for i, own, mass in zip(order, options, masses, strict=True):
        log_beta[i, [column for column, _, _ in own]] = mass
    beta = np.exp(log_beta - log_beta.max(axis=1, keepdims=True))
    return beta / beta.sum(axis=1, keepdims=True)


def _masses(
    options: list[list[Option]], ahead: list[int], max_states: int
) -> list[list[float]] | None:
    """Return for each option of each track the log weight of all joint events with it."""
    forward = _forward(options, ahead, max_states)
    if forward is None:
        return None
    masses: list[list[float]] = []
    below: States = {0: 0.0}
    for before, own, keep in zip(forward[::-1], options[::-1], ahead[::-1], strict=True):
        below, mass = _backward(before, own, keep, below)
        masses.append([mass.get(column, -inf) for column, _, _ in own])
    return masses[::-1]


def _order(gates: list[int]) -> list[int]:
    """Order tracks greedily, by the fewest new detections, to keep the number of states low."""
    left = list(range(len(gates)))
    order: list[int] = []
    known = 0
    while left:
        i = min(left, key=lambda k: (gates[k] & ~known).bit_count())
        left.remove(i)
        order.append(i)
        known |= gates[i]
    return order


def _ahead(options: list[list[Option]]) -> list[int]:
    """Return for each track the set of detections in the gates of later tracks."""
    ahead = [0]
    for own in reversed(options[1:]):
        ahead.append(ahead[-1] | sum(bit for _, bit, _ in own))
    return ahead[::-1]


def _forward(options: list[list[Option]], ahead: list[int], max_states: int) -> list[States] | None:
    """Return before each track the log weight of each set of used detections."""
    layers: list[States] = [{0: 0.0}]
    count = 1
    for own, keep in zip(options[:-1], ahead, strict=False):
        after: States = {}
        for used, weight in layers[-1].items():
            for _, bit, w in own:
                if not used & bit:
                    state = (used | bit) & keep
                    known = after.get(state)
                    after[state] = weight + w if known is None else _add(known, weight + w)
        count += len(after)
        if count > max_states:
            return None
        layers.append(after)
    return layers


def _backward(before: States, own: list[Option], keep: int, below: States) -> tuple[States, States]:
    """Return the log weight of all continuations of each state, and of each option of the track."""
    here: States = {}
    mass: States = {}
    for used, weight in before.items():
        total = -inf
        for column, bit, w in own:
            if not used & bit:
                rest = w + below[(used | bit) & keep]
                total = _add(total, rest)
                known = mass.get(column)
                mass[column] = weight + rest if known is None else _add(known, weight + rest)
        here[used] = total
    return here, mass


def _add(a: float, b: float) -> float:
    """Return log(exp a + exp b)."""
    return a + log1p(exp(b - a)) if a > b else b + log1p(exp(a - b))
