"""The dynamic programme on arrays against the enumeration, and its limits."""

import numpy as np
import pytest
from hypothesis import given
from joint_events import brute_force, scenes

from streamvis.tracking.association import exact, exact_marginals
from streamvis.tracking.association.layers import layered


@given(scenes())
def test_dynamic_programming_on_arrays_equals_brute_force(scene):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "FEW_STATES", 0)  # whatever the size
        beta = exact_marginals(*scene, max_states=10_000)
    np.testing.assert_allclose(beta, brute_force(*scene), atol=1e-9)


def test_a_chain_of_more_detections_than_a_mask_has_bits():
    """Bits are given back along the way, so it takes few states however long it is."""
    log_hit = np.full((100, 101), -np.inf)
    for i in range(100):
        log_hit[i, [i, i + 1]] = 0.0
    small = np.exp(exact_marginals(np.zeros(100), log_hit, max_states=250))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "FEW_STATES", 0)
        np.testing.assert_allclose(
            np.exp(exact_marginals(np.zeros(100), log_hit, max_states=250)), small, atol=1e-12
        )


def test_more_detections_in_use_than_a_mask_has_bits_give_nothing():
    """Two tracks share 70 detections: the second needs to know all that the first may use."""
    options = [[(j, 1 << j, 0.0) for j in range(70)]] * 2
    assert layered(options, [(1 << 70) - 1, 0], max_states=10**6) is None


def test_more_states_than_the_limit_give_nothing():
    options = [[(0, 0, 0.0), (1, 1, 0.0)]] * 3
    assert layered(options, [1, 1, 0], max_states=4) is None
    assert layered(options, [1, 1, 0], max_states=5) is not None
