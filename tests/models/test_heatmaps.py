"""Decoding of heatmaps: exact on Gaussians, and honest about wide ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.models.heatmaps import LEAST_SPREAD, decode

HEIGHT, WIDTH = 48, 32


def gaussian(x: float, y: float, covariance: np.ndarray, height: float = 1.0) -> np.ndarray:
    """One map with a Gaussian at (x, y) in cells."""
    grid = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), 2) - [x, y]
    return height * np.exp(
        -0.5 * np.einsum("hwi,ij,hwj->hw", grid, np.linalg.inv(covariance), grid)
    )


@settings(max_examples=40)
@given(
    x=st.floats(8, WIDTH - 9),
    y=st.floats(8, HEIGHT - 9),
    sigma=st.sampled_from([1.5, 2.0]),
    height=st.floats(0.1, 1),
)
def test_a_trained_gaussian_is_found_to_a_hundredth_of_a_cell(x, y, sigma, height):
    decoded = decode(gaussian(x, y, sigma**2 * np.eye(2), height)[None, None], sigma)
    np.testing.assert_allclose(decoded.points[0, 0], [x, y], atol=0.01)
    assert decoded.scores[0, 0] == pytest.approx(height, rel=0.02)
    spread = (LEAST_SPREAD * sigma) ** 2 / decoded.scores[0, 0]  # the least, as nothing is in doubt
    np.testing.assert_allclose(decoded.covariances[0, 0], spread * np.eye(2), rtol=0.05, atol=0.02)


@settings(max_examples=20)
@given(
    variances=st.tuples(st.floats(2, 6), st.floats(2, 6)),
    angle=st.floats(0, np.pi),
)
def test_a_wider_peak_gives_the_covariance_that_it_has_beyond_the_trained_one(variances, angle):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    doubt = turn @ np.diag(variances) @ turn.T
    whole = gaussian(15.3, 24.8, doubt + 1.5**2 * np.eye(2))
    decoded = decode(whole[None, None], 1.5)
    np.testing.assert_allclose(
        decoded.covariances[0, 0] * decoded.scores[0, 0], doubt, rtol=0.1, atol=0.05
    )


def test_a_flat_map_or_one_whose_peak_is_at_the_border_gives_finite_numbers():
    flat, corner = np.zeros((HEIGHT, WIDTH)), gaussian(0, 0, 4 * np.eye(2))
    decoded = decode(np.stack([flat, corner])[None], 2.0)
    np.testing.assert_array_equal(decoded.points[0, 0], [0, 0])
    assert np.abs(decoded.points[0, 1]).max() < 1.5
    assert decoded.scores[0, 0] == 0
    assert 0.2 < decoded.scores[0, 1] < 0.5  # three quarters of it are outside
    assert np.linalg.eigvalsh(decoded.covariances).min() > 0
    assert decoded.covariances[0, 0, 0, 0] > 20 * decoded.covariances[0, 1, 0, 0]


@pytest.mark.parametrize("people", [0, 3])
def test_each_map_is_decoded_alone(people):
    maps = np.random.default_rng(0).random((people, 5, HEIGHT, WIDTH))
    decoded = decode(maps, 2.0)
    assert decoded.points.shape == (people, 5, 2)
    assert decoded.covariances.shape == (people, 5, 2, 2)
    for i in range(people):
        alone = decode(maps[i : i + 1, 2:3], 2.0)
        np.testing.assert_allclose(alone.points[0, 0], decoded.points[i, 2])
        np.testing.assert_allclose(alone.covariances[0, 0], decoded.covariances[i, 2])
