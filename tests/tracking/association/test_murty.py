"""The k best joint events against all of them in order, and what leaving out the rest costs."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.tracking.association import exact_marginals, gnn_assignment, k_best, kbest_marginals

ALL = 10**6


def random_scene(seed, n, m):
    rng = np.random.default_rng(seed)
    log_hit = rng.normal(0, 3, (n, m))
    log_hit[rng.random((n, m)) < 0.3] = -np.inf
    return np.log(rng.uniform(1e-3, 1, n)), log_hit


def every_event(log_miss, log_hit):
    """All joint events, the most probable first: weights and what each track chooses."""
    n, m = log_hit.shape
    log_w = np.column_stack([log_miss, log_hit])
    events = []
    for event in itertools.product(range(m + 1), repeat=n):
        used = [j for j in event if j]
        log_weight = sum(log_w[i, j] for i, j in enumerate(event))
        if len(used) == len(set(used)) and log_weight > -np.inf:
            events.append((log_weight, event))
    return sorted(events, reverse=True)


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(0, 4), st.integers(1, 30))
def test_events_come_in_the_order_of_their_weight(seed, n, m, k):
    scene = random_scene(seed, n, m)
    found = k_best(*scene, k)
    expected = every_event(*scene)[:k]
    np.testing.assert_allclose(found.log_weight, [w for w, _ in expected], atol=1e-9)
    assert found.option.tolist() == [list(event) for _, event in expected]


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(0, 5))
def test_the_first_event_is_that_of_the_nearest_neighbour(seed, n, m):
    scene = random_scene(seed, n, m)
    assert (k_best(*scene, 1).option[0] - 1).tolist() == gnn_assignment(*scene).tolist()


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 4))
def test_all_events_give_the_exact_marginals(seed, n, m):
    scene = random_scene(seed, n, m)
    beta = kbest_marginals(*scene, k=ALL, span=np.inf)
    np.testing.assert_allclose(beta, exact_marginals(*scene, max_states=ALL), atol=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_no_marginal_is_off_by_more_than_the_share_left_out(seed, k):
    scene = random_scene(seed, 4, 4)
    everything = np.exp([w for w, _ in every_event(*scene)])
    kept = np.exp(k_best(*scene, k, span=np.inf).log_weight).sum()
    error = np.abs(kbest_marginals(*scene, k, np.inf) - exact_marginals(*scene, ALL))
    assert error.max() <= 1 - kept / everything.sum() + 1e-9


def test_far_less_probable_events_are_left_out():
    log_hit = np.array([[10.0, 9.0, 2.0]])
    assert k_best(np.zeros(1), log_hit, 100, span=7.0).option[:, 0].tolist() == [1, 2]
    beta = kbest_marginals(np.zeros(1), log_hit, span=7.0)  # but that in which all are missed
    np.testing.assert_allclose(beta[0], np.exp([0, 10, 9, -np.inf]) / np.exp([0, 10, 9]).sum())


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_choose(n, m):
    beta = kbest_marginals(np.full(n, -1.0), np.zeros((n, m)))
    assert beta.tolist() == [[1.0] + [0.0] * m] * n
