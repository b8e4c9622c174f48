"""The k most probable joint events by Murty's algorithm (Murty 1968; Cox and Hingorani 1996)."""

import heapq
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from streamvis.messages import Array


class Events(NamedTuple):
    """E joint events, the most probable first."""

    option: Array  # (E, N) column of β of each track; 0 is the miss
    log_weight: Array  # (E,)


class _Node(NamedTuple):
    """The best event of a subset of events.

    In the subset, tracks before `depth` choose as in `column`, and track `depth` chooses none of
    `barred`.
    """

    cost: float
    number: int  # breaks ties
    column: Array  # (N,) of the cost matrix
    depth: int
    barred: list[int]


def k_best(log_miss: Array, log_hit: Array, k: int, span: float = np.inf) -> Events:
    """Return the k joint events of the greatest weight, at most `span` nats below the best.

    log_miss (N,) finite, log_hit (N, M). Each event costs at most N assignment problems.
    """
    n, m = log_hit.shape
    cost = np.full((n, m + n), np.inf)  # a miss is a column of each track's own
    cost[:, :m] = -log_hit
    cost[np.arange(n), m + np.arange(n)] = -log_miss
    first = _solve(cost, np.zeros(n, dtype=np.int64), 0, [], 0)
    assert first is not None  # all missed is always possible
    heap = [first]
    found: list[_Node] = []
    limit, count = first.cost + span, 1
    while heap and len(found) < k:
        node = heapq.heappop(heap)
        found.append(node)
        for depth in range(node.depth, n):
            barred = [*(node.barred if depth == node.depth else []), int(node.column[depth])]
            child = _solve(cost, node.column, depth, barred, count)
            if child is not None and child.cost <= limit:
                heapq.heappush(heap, child)
                count += 1
    column = np.array([node.column for node in found])
    return Events(np.where(column < m, column + 1, 0), -np.array([node.cost for node in found]))


def kbest_marginals(log_miss: Array, log_hit: Array, k: int = 100, span: float = 7.0) -> Array:
    """Return β (N, M + 1) over the k best events and the one in which all tracks are missed.

    If these events hold a share s of the total weight, the error of β is at most 1 − s; s is high
    only if few events dominate.
    """
    option, log_weight = k_best(log_miss, log_hit, k, span)
    if option.any(axis=1).all():
        option = np.concatenate([option, np.zeros_like(option[:1])])
        log_weight = np.append(log_weight, log_miss.sum())
    weight = np.exp(log_weight - log_weight.max())  # (E,)
    n, m = log_hit.shape
    beta = np.zeros((n, m + 1))
    np.add.at(beta, (np.arange(n), option), weight[:, None])
    return beta / weight.sum()


def _solve(cost: Array, column: Array, depth: int, barred: list[int], number: int) -> _Node | None:
    """Return the best event that begins as `column` and excludes `barred` at `depth`, if any."""
    rest = cost[depth:].copy()
    rest[:, column[:depth]] = np.inf
    rest[:1, barred] = np.inf
    if depth < len(cost) and not (rest[0] < np.inf).any():
        return None  # later tracks can always be missed
    chosen = linear_sum_assignment(rest)[1]
    column = np.concatenate([column[:depth], chosen])
    return _Node(cost[np.arange(len(cost)), column].sum(), number, column, depth, barred)
