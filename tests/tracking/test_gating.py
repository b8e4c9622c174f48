"""Gates against the tables, against the exact distance, and clusters against plain search."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.tracking import gating


@pytest.mark.parametrize(
    ("p_gate", "dimensions", "expected"),
    [(0.9, 1, 2.706), (0.95, 2, 5.991), (0.99, 2, 9.210), (0.99, 3, 11.345), (0.999, 4, 18.467)],
)
def test_threshold_is_the_chi_square_quantile(p_gate, dimensions, expected):
    assert gating.threshold(p_gate, dimensions) == pytest.approx(expected, abs=1e-3)


def spread(rng, n):
    a = rng.normal(size=(n, 3, 3))
    return a @ a.mT + 0.1 * np.eye(3)


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(0, 6))
def test_no_pair_inside_the_gate_is_lost(seed, n, m):
    rng = np.random.default_rng(seed)
    z_hat, P, z, R = (
        rng.normal(size=(n, 3)),
        spread(rng, n),
        rng.normal(size=(m, 3)),
        spread(rng, m),
    )
    track, detection = gating.candidates(
        z_hat, np.diagonal(P, axis1=1, axis2=2), z, np.diagonal(R, axis1=1, axis2=2), gate=1.0
    )
    kept = set(zip(track.tolist(), detection.tolist(), strict=True))
    assert list(track) == sorted(track)
    for i in range(n):
        for j in range(m):
            nu = z[j] - z_hat[i]
            if nu @ np.linalg.solve(P[i] + R[j], nu) <= 1:
                assert (i, j) in kept


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(0, 8))
def test_clusters_are_the_connected_components(seed, n, m):
    gated = np.random.default_rng(seed).random((n, m)) < 0.2
    name = gating.clusters(*np.nonzero(gated), n)
    groups = [set(np.flatnonzero(name == one).tolist()) for one in np.unique(name)]
    assert sorted(i for group in groups for i in group) == list(range(n))
    for group in groups:
        reached, edge = {min(group)}, {min(group)}
        while edge:
            touched = gated[sorted(edge)].any(axis=0)
            edge = set(np.flatnonzero(gated[:, touched].any(axis=1)).tolist()) - reached
            reached |= edge
        assert group == reached
