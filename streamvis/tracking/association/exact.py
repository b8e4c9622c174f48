"""Exact marginals of one cluster, by dynamic programming over sets of used detections.

Tracks are taken in turn. Of what the earlier ones have taken only that matters which a later one
could also claim, so most joint events fall together in few states (the state merging of EHM,
Maskell, Briers and Wright 2004). A set is a bit mask, every weight a logarithm.
"""

from math import exp, inf, log1p

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee

from streamvis.messages import Array

Option = tuple[int, int, float]  # column of β, bit of the detection (0: none), log weight
States = dict[int, float]  # set of used detections -> log of the summed weight


def exact_marginals(log_miss: Array, log_hit: Array, max_states: int) -> Array | None:
    """β (N, M + 1), or None when more than `max_states` states would be needed."""
    order = _order(log_hit)
    options = [_options(log_miss[i], log_hit[i]) for i in order]
    ahead = _ahead(options)
    forward = _forward(options, ahead, max_states)
    if forward is None:
        return None
    log_beta = np.full((len(log_miss), log_hit.shape[1] + 1), -inf)
    below: States = {0: 0.0}
    for k in range(len(order) - 1, -1, -1):
        below, mass = _backward(forward[k], options[k], ahead[k], below)
        log_beta[order[k], list(mass)] = list(mass.values())
    beta = np.exp(log_beta - log_beta.max(axis=1, keepdims=True))
    return beta / beta.sum(axis=1, keepdims=True)


def _order(log_hit: Array) -> list[int]:
    """Tracks such that those that share detections come close together: fewer states."""
    if len(log_hit) < 4:
        return list(range(len(log_hit)))
    gated = (log_hit > -inf).astype(np.int32)
    return [int(i) for i in reverse_cuthill_mckee(csr_array(gated @ gated.T), True)]


def _options(log_miss: float, log_hit: Array) -> list[Option]:
    hits = np.flatnonzero(log_hit > -inf).tolist()
    return [(0, 0, float(log_miss)), *((j + 1, 1 << j, float(log_hit[j])) for j in hits)]


def _ahead(options: list[list[Option]]) -> list[int]:
    """For each track, the set of detections that a later one could claim."""
    ahead = [0]
    for own in reversed(options[1:]):
        ahead.append(ahead[-1] | sum(bit for _, bit, _ in own))
    return ahead[::-1]


def _forward(options: list[list[Option]], ahead: list[int], max_states: int) -> list[States] | None:
    """Before each track: how much weight has led to each set of used detections."""
    layers: list[States] = [{0: 0.0}]
    count = 1
    for own, keep in zip(options[:-1], ahead, strict=False):
        after: States = {}
        for used, weight in layers[-1].items():
            for _, bit, w in own:
                if not used & bit:
                    state = (used | bit) & keep
                    after[state] = _add(after.get(state, -inf), weight + w)
        count += len(after)
        if count > max_states:
            return None
        layers.append(after)
    return layers


def _backward(before: States, own: list[Option], keep: int, below: States) -> tuple[States, States]:
    """The weight of all that can follow each state, and the mass of each of the track's options."""
    here: States = {}
    mass: States = {}
    for used, weight in before.items():
        total = -inf
        for column, bit, w in own:
            if not used & bit:
                rest = w + below[(used | bit) & keep]
                total = _add(total, rest)
                mass[column] = _add(mass.get(column, -inf), weight + rest)
        here[used] = total
    return here, mass


def _add(a: float, b: float) -> float:
    """log(exp a + exp b)"""
    if a < b:
        a, b = b, a
    return a if b == -inf else a + log1p(exp(b - a))
