"""Gates against the tables, against the exact distance, and clusters against plain search."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis import geometry
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


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 6),
    st.integers(0, 6),
    st.sampled_from([0, geometry.FEW]),
)
def test_no_pair_inside_the_gate_is_lost(seed, n, m, few):
    rng = np.random.default_rng(seed)
    z_hat, P, z, R = (
        rng.normal(size=(n, 3)),
        spread(rng, n),
        rng.normal(size=(m, 3)),
        spread(rng, m),
    )
    variance, noise = (np.diagonal(of, axis1=1, axis2=2) for of in (P, R))
    with mock.patch.object(geometry, "FEW", few):
        track, detection = gating.candidates(z_hat, variance, z, noise, gate=1.0)
    pairs = list(zip(track.tolist(), detection.tolist(), strict=True))
    kept = set(pairs)
    assert pairs == sorted(kept)
    for i in range(n):
        for j in range(m):
            nu = z[j] - z_hat[i]
            if nu @ np.linalg.solve(P[i] + R[j], nu) <= 1:
                assert (i, j) in kept


def test_without_a_gate_all_are_candidates_however_sure_their_places():
    z_hat, z = np.array([[0.0], [1e6]]), np.array([[-5.0], [0.0], [7.0]])
    track, detection = gating.candidates(z_hat, np.array([[0], [1]]), z, np.ones((3, 1)), np.inf)
    assert track.tolist() == [0, 0, 0, 1, 1, 1]
    assert detection.tolist() == [0, 1, 2, 0, 1, 2]


@given(st.lists(st.integers(0, 3), max_size=9).map(lambda of: np.array(of, dtype=np.int64)))
def test_groups_keep_the_order_of_their_members(group):
    order, start, rank = gating.grouped(group, 4)
    for k in range(4):
        members = np.flatnonzero(group == k)
        assert order[start[k] : start[k + 1]].tolist() == members.tolist()
        assert rank[members].tolist() == list(range(len(members)))


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
