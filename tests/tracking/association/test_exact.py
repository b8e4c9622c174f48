"""Exact marginals against the enumeration of all joint events."""

import numpy as np
from association_policy import crowd
from hypothesis import given
from joint_events import brute_force, scenes

from streamvis.tracking.association import exact, exact_marginals


@given(scenes())
def test_dynamic_programming_equals_brute_force(scene):
    beta = exact_marginals(*scene, max_states=10_000)
    np.testing.assert_allclose(beta, brute_force(*scene), atol=1e-9)


def test_dictionaries_and_arrays_agree_on_a_large_cluster(monkeypatch):
    scene = crowd(seed=1, tracks=16, density=0.1)
    on_arrays = exact_marginals(*scene, max_states=10**5)
    monkeypatch.setattr(exact, "FEW_STATES", 10**5)
    np.testing.assert_allclose(exact_marginals(*scene, max_states=10**5), on_arrays, atol=1e-9)


def test_more_detections_at_once_than_a_mask_has_bits_is_too_much():
    assert exact_marginals(np.zeros(2), np.zeros((2, 70)), max_states=100) is not None
    assert exact_marginals(np.zeros(3), np.zeros((3, 70)), max_states=10**9) is None


@given(scenes(most=5))
def test_fewer_states_than_the_limit_change_nothing(scene):
    enough = exact_marginals(*scene, max_states=10_000)
    for limit in (1, 5, 20):
        beta = exact_marginals(*scene, max_states=limit)
        assert beta is None or np.array_equal(beta, enough)
