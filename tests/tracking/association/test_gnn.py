"""The one best joint event, against all of them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.tracking.association import gnn_assignment, gnn_marginals


def weight(log_miss, log_hit, event):
    return sum(log_miss[i] if j < 0 else log_hit[i, j] for i, j in enumerate(event))


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 4))
def test_no_joint_event_weighs_more(seed, n, m):
    rng = np.random.default_rng(seed)
    log_miss, log_hit = rng.normal(size=n), rng.normal(0, 3, (n, m))
    log_hit[rng.random((n, m)) < 0.3] = -np.inf
    chosen = gnn_assignment(log_miss, log_hit).tolist()
    used = [j for j in chosen if j >= 0]
    assert len(used) == len(set(used))
    events = [
        event
        for event in itertools.product(range(-1, m), repeat=n)
        if len({j for j in event if j >= 0}) == sum(j >= 0 for j in event)
    ]
    most = max(weight(log_miss, log_hit, event) for event in events)
    assert weight(log_miss, log_hit, chosen) == pytest.approx(most, abs=1e-9)


def test_the_best_event_is_not_each_tracks_best():
    """Both want the first detection; only one of them can do without."""
    log_hit = np.log([[0.9, 0.5], [0.8, 1e-3]])
    assert gnn_assignment(np.log([0.1, 0.1]), log_hit).tolist() == [1, 0]


def test_marginals_are_certain():
    log_hit = np.array([[2.0, -np.inf], [1.0, -np.inf], [-9.0, -9.0]])
    beta = gnn_marginals(np.zeros(3), log_hit)
    assert beta.tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_assign(n, m):
    beta = gnn_marginals(np.zeros(n), np.zeros((n, m)))
    assert beta.tolist() == [[1.0] + [0.0] * m] * n
