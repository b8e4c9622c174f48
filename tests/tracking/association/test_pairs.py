"""Belief propagation corrected for pairs: exact for two tracks, closer in crowds."""

import numpy as np
from hypothesis import given
from joint_events import dense_errors, scenes

from streamvis.tracking.association import exact_marginals, paired_marginals


@given(scenes(most=2))
def test_corrected_for_pairs_it_is_exact_for_two_tracks(scene):
    exact = exact_marginals(*scene, max_states=10_000)
    np.testing.assert_allclose(paired_marginals(*scene), exact, atol=1e-5)


@given(scenes(most=8))
def test_corrected_for_pairs_marginals_sum_to_one(scene):
    beta = paired_marginals(*scene)
    np.testing.assert_allclose(beta.sum(axis=1), 1, atol=1e-9)
    assert (beta[:, 1:][scene[1] == -np.inf] == 0).all()


def test_corrected_for_pairs_it_is_twice_as_good():
    error = dense_errors(paired_marginals)
    assert np.mean(error) < 0.008
    assert np.quantile(error, 0.99) < 0.05
    assert np.max(error) < 0.12
