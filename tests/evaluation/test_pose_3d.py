"""Errors of 3D poses: what alignment undoes, and what it does not."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from streamvis.evaluation.pose_3d import aligned, mpjpe, pa_mpjpe, sized_mpjpe


def poses(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(4, 17, 3))


@given(st.integers(0, 99), st.floats(0.1, 10), st.floats(-5, 5))
def test_alignment_undoes_turns_sizes_and_places(seed, size, shift):
    true = poses(seed)
    turn = Rotation.random(random_state=seed).as_matrix()
    moved = size * true @ turn.T + shift
    np.testing.assert_allclose(pa_mpjpe(moved, true), 0, atol=1e-9)
    np.testing.assert_allclose(sized_mpjpe(size * true, true), 0, atol=1e-9)
    assert (pa_mpjpe(moved * [-1, 1, 1], true) > 0.1).all()  # a mirror image is another pose


@given(st.integers(0, 99))
def test_alignment_is_that_of_scipy_at_the_best_size(seed):
    true, found = poses(seed), poses(seed + 1000)
    ours = aligned(found, true)
    for a, b, mine in zip(found, true, ours, strict=True):
        x, y = a - a.mean(0), b - b.mean(0)
        turn, _ = Rotation.align_vectors(y, x)
        turned = turn.apply(x)
        size = (turned * y).sum() / (turned**2).sum()
        np.testing.assert_allclose(mine, size * turned + b.mean(0), atol=1e-6)


def test_distances_are_means_over_joints():
    true = np.zeros((1, 2, 3))
    assert mpjpe(np.array([[[3.0, 4, 0], [0, 0, 1]]]), true).tolist() == [3.0]
