"""The filters against the golden numbers, filterpy, each other, and what must not matter."""

import doctest
from functools import partial

import numpy as np
import pytest
from association_policy import log_weights
from filterpy.kalman import KalmanFilter
from hypothesis import given, settings
from hypothesis import strategies as st
from joint_events import marginals

from streamvis.tracking import filters, kalman
from streamvis.tracking.association import gnn_marginals, lbp_marginals

SENSOR = {"p_detect": 0.9, "p_gate": 0.99, "clutter": 0.012}
WITHOUT_R = [filters.pda, filters.jpda, filters.gnn]
WITH_R = [filters.ipda, filters.jipda]
B = {"x": np.array([[0.0, 0], [1, 1]]), "z": np.array([[0.0, 0], [1, 0], [-1, 2]])}
seeds = st.integers(0, 2**32 - 1)


def covariance(rng, n, size):
    a = rng.normal(size=(n, size, size))
    return a @ a.mT + 0.2 * np.eye(size)


def crowd(seed, n=4, m=5, side=5.0):
    """x, P, z, R, H and r: positions near each other, every R its own."""
    rng = np.random.default_rng(seed)
    x, z = rng.uniform(0, side, (n, 4)), rng.uniform(0, side, (m, 2))
    return x, covariance(rng, n, 4), z, covariance(rng, m, 2), np.eye(2, 4), rng.uniform(0, 1, n)


def run(estimate, x, P, z, R, H, r, **changes):
    own = (x, P, r, z, R, H) if estimate in WITH_R else (x, P, z, R, H)
    return estimate(*own, **{**SENSOR, **changes})


def arrays(after):
    return after.x, after.P, after.r, after.beta, after.gated


def every(method):
    return pytest.mark.parametrize("method", method, ids=lambda m: m.__name__)


def golden_b(method, r=None):
    eye = np.eye(2)
    return run(method, B["x"], np.stack([eye, eye]), B["z"], eye, eye, r)


def test_golden_b():
    pda = [
        [0.0087653098, 0.4799457764, 0.3737821465, 0.1375067672],
        [0.0108059477, 0.3588727813, 0.4608017725, 0.1695194986],
    ]
    np.testing.assert_allclose(golden_b(filters.pda).beta, pda, atol=1e-9)
    jpda = [
        [0.013864533, 0.486714586, 0.3187902145, 0.1806306665],
        [0.0170923128, 0.295207319, 0.4564335488, 0.2312668194],
    ]
    after = golden_b(filters.jpda)
    np.testing.assert_allclose(after.beta, jpda, atol=1e-9)
    gain = 0.5  # P = R = I
    np.testing.assert_allclose(
        after.x, B["x"] + gain * (after.beta[:, 1:] @ B["z"] - B["x"] * (1 - after.beta[:, :1]))
    )


@given(seeds)
def test_further_evidence_of_a_pair_multiplies_its_density(seed):
    """A negative log ratio is evidence for clutter and new people, also if it is the best one."""
    x, P, z, R, H, r = crowd(seed)
    ratio = np.random.default_rng(seed).uniform(-4, 2, (len(x), len(z)))
    sensor = {"p_detect": 0.9, "p_gate": 0.99, "log_clutter": np.log(0.012)}
    plain = filters.associate(x, P, r, z, R, H, **sensor)
    after = filters.associate(x, P, r, z, R, H, **sensor, log_ratio=lambda i, j: ratio[i, j])
    S = H @ P[:, None] @ H.T + R  # (N, M, 2, 2)
    nu = z - (x @ H.T)[:, None]
    distance2 = np.einsum("nmi,nmij,nmj->nm", nu, np.linalg.inv(S), nu)
    log_density = -0.5 * (distance2 + np.log(np.linalg.det(2 * np.pi * S))) + ratio
    log_density[~plain.gated] = -np.inf
    weights = log_weights(
        r, np.full(len(x), 0.9), 0.99, log_density, np.full(len(z), np.log(0.012))
    )
    np.testing.assert_allclose(after.beta, marginals(*weights), atol=1e-9)


@given(seeds)
def test_evidence_may_be_asked_for_after_the_association_without_it(seed):
    x, P, z, R, H, r = crowd(seed)
    ratio = np.random.default_rng(seed).uniform(-4, 2, (len(x), len(z)))
    sensor = {"p_detect": 0.9, "p_gate": 0.99, "log_clutter": np.log(0.012)}
    for there in (False, True):
        seen = []

        def ask(pairs, belief, there=there, seen=seen):
            seen.append((pairs, belief))
            return there

        after = filters.associate(
            x, P, r, z, R, H, **sensor, log_ratio=lambda i, j: ratio[i, j], ask=ask
        )
        plain = filters.associate(x, P, r, z, R, H, **sensor)
        full = filters.associate(x, P, r, z, R, H, **sensor, log_ratio=lambda i, j: ratio[i, j])
        np.testing.assert_array_equal(after.beta, (full if there else plain).beta)
        [(pairs, belief)] = seen
        np.testing.assert_array_equal(pairs.dense(), plain.beta)
        np.testing.assert_allclose(belief * plain.r[pairs.track], pairs.hit)


def test_a_detection_that_surely_shows_somebody_else_is_refused():
    one = (
        np.zeros((1, 2)),
        np.eye(2)[None],
        np.array([0.9]),
        np.zeros((1, 2)),
        np.eye(2),
        np.eye(2),
    )
    sensor = {"p_detect": 0.9, "p_gate": 0.99, "log_clutter": np.log(0.012)}
    hits = [
        filters.associate(*one, **sensor, log_ratio=lambda i, j, said=said: np.full(len(i), said))
        for said in (0.0, -4.0)
    ]
    assert hits[0].beta[0, 1] > 0.9
    assert hits[1].beta[0, 1] < 0.4
    assert hits[1].r[0] < hits[0].r[0]


def test_golden_b_with_existence():
    after = golden_b(filters.jipda, np.array([0.9, 0.4]))
    np.testing.assert_allclose(after.r, [0.9870272665, 0.8103663968], atol=1e-9)
    beta = [
        [0.0256989851, 0.4791283411, 0.3249905996, 0.1701820742],
        [0.203413645, 0.2399450876, 0.3699277422, 0.1867135251],
    ]
    np.testing.assert_allclose(after.beta, beta, atol=1e-9)
    given_exists = np.array(
        [
            [0.0128935157, 0.4854256386, 0.3292620281, 0.1724188176],
            [0.0170047054, 0.2960945673, 0.4564944248, 0.2304063025],
        ]
    )
    mean = given_exists[:, 1:] @ B["z"]  # the update is given existence, not given β
    expected = B["x"] + 0.5 * (mean - B["x"] * given_exists[:, 1:].sum(axis=1, keepdims=True))
    np.testing.assert_allclose(after.x, expected, atol=1e-9)


def test_golden_ipda():
    eye = np.eye(2)
    after = run(filters.ipda, B["x"][:1], eye[None], B["z"], eye, eye, np.array([0.5]))
    np.testing.assert_allclose(after.r, 0.9255696787, atol=1e-10)
    after = run(filters.ipda, B["x"][:1], eye[None], B["z"][:0], eye, eye, np.array([0.5]))
    np.testing.assert_allclose(after.r, 0.0982867448, atol=1e-10)


def test_golden_c():
    F = np.array([[1.0, 1], [0, 1]])
    Q = 0.005 * np.array([[1 / 3, 1 / 2], [1 / 2, 1]])
    P = np.array([[[0.41123, 0.0013], [0.0013, 0.0365]]])
    x, P = kalman.predict(np.array([[-6.45, 0.7]]), P, F, Q)
    z, R, H = np.array([[-6.0], [-5.0]]), np.array([[0.04]]), np.eye(1, 2)
    after = run(filters.pda, x, P, z, R, H, None, p_gate=0.95)
    np.testing.assert_allclose(after.beta, [[0.0022564351, 0.6229599793, 0.3747835855]], atol=1e-9)
    np.testing.assert_allclose(after.x, [[-5.6348432442, 0.7102673705]], atol=1e-9)
    np.testing.assert_allclose(
        after.P[0], [[0.2352152892, 0.0209717833], [0.0209717833, 0.0397766972]], atol=1e-9
    )


@settings(max_examples=40)
@given(seeds, st.integers(0, 4), st.integers(0, 5))
def test_marginals_sum_to_one_and_covariances_stay_positive(seed, n, m):
    scene = crowd(seed, n, m)
    for method in WITHOUT_R + WITH_R:
        after = run(method, *scene)
        np.testing.assert_allclose(after.beta.sum(axis=1), 1, atol=1e-9)
        assert (after.beta[:, 1:][~after.gated] == 0).all()
        assert (np.linalg.eigvalsh(after.P) > 0).all()
        np.testing.assert_array_equal(after.P, after.P.mT)
        assert ((after.r >= 0) & (after.r <= 1 + 1e-12)).all()


@settings(max_examples=40)
@given(seeds)
def test_order_does_not_matter(seed):
    x, P, z, R, H, r = crowd(seed)
    rng = np.random.default_rng(seed)
    i, j = rng.permutation(len(x)), rng.permutation(len(z))
    for method in WITHOUT_R + WITH_R:
        after = run(method, x, P, z, R, H, r)
        shuffled = run(method, x[i], P[i], z[j], R[j], H, r[i])
        np.testing.assert_allclose(shuffled.x, after.x[i], atol=1e-9)
        np.testing.assert_allclose(shuffled.P, after.P[i], atol=1e-9)
        np.testing.assert_allclose(shuffled.r, after.r[i], atol=1e-9)
        np.testing.assert_allclose(shuffled.beta, after.beta[i][:, [0, *(j + 1)]], atol=1e-9)


@settings(max_examples=40)
@given(seeds, st.floats(-1e3, 1e3))
def test_where_the_origin_is_does_not_matter(seed, by):
    x, P, z, R, H, r = crowd(seed)
    shift = np.array([by, by, 0, 0])
    for method in WITHOUT_R + WITH_R:
        after = run(method, x, P, z, R, H, r)
        moved = run(method, x + shift, P, z + by, R, H, r)
        np.testing.assert_allclose(moved.beta, after.beta, atol=1e-8)
        np.testing.assert_allclose(moved.x - shift, after.x, atol=1e-8)
        np.testing.assert_allclose(moved.P, after.P, atol=1e-8)


@given(seeds, st.floats(0.01, 100))
def test_units_do_not_matter(seed, scale):
    """λ is per unit of measurement volume, so it is measured in the same units as z and R."""
    x, P, z, R, H, r = crowd(seed)
    after = run(filters.jipda, x, P, z, R, H, r)
    changed = (x * scale, P * scale**2, z * scale, R * scale**2, H, r)
    scaled = run(filters.jipda, *changed, clutter=SENSOR["clutter"] / scale**2)
    np.testing.assert_allclose(scaled.beta, after.beta, atol=1e-8)
    np.testing.assert_allclose(scaled.r, after.r, atol=1e-8)


@given(seeds)
def test_with_certain_existence_the_integrated_filters_are_the_others(seed):
    x, P, z, R, H, _ = crowd(seed)
    for plain, integrated in ((filters.pda, filters.ipda), (filters.jpda, filters.jipda)):
        expected = run(plain, x, P, z, R, H, None)
        after = run(integrated, x, P, z, R, H, np.ones(len(x)))
        for one, other in zip(arrays(after), arrays(expected), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-9)


@settings(max_examples=40)
@given(seeds)
def test_targets_far_apart_do_not_compete(seed):
    x, P, z, R, H, r = crowd(seed)
    x[:, :2] += 1000 * np.arange(len(x))[:, None]
    z[: len(x)] += 1000 * np.arange(len(x))[:, None]
    for alone, joint in ((filters.pda, filters.jpda), (filters.ipda, filters.jipda)):
        each, all_ = (arrays(run(method, x, P, z, R, H, r)) for method in (alone, joint))
        for one, other in zip(each, all_, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-9)


@every(WITHOUT_R + WITH_R)
def test_one_target_without_clutter_is_a_kalman_filter(method):
    x, P, z, R, H, _ = crowd(3, n=1, m=1, side=1.0)
    oracle = KalmanFilter(dim_x=4, dim_z=2)
    oracle.x, oracle.P, oracle.H, oracle.R = x[0], P[0], H, R[0]
    oracle.update(z[0])
    after = run(method, x, P, z, R, H, np.array([0.3]), p_gate=1, clutter=0)
    np.testing.assert_allclose(after.x[0], oracle.x, atol=1e-9)
    np.testing.assert_allclose(after.P[0], oracle.P, atol=1e-9)
    np.testing.assert_allclose(after.r, 1, atol=1e-9)


@every(WITHOUT_R + WITH_R)
def test_without_detections_the_prediction_stands(method):
    x, P, z, R, H, r = crowd(0, m=0)
    after = run(method, x, P, z, R, H, r)
    np.testing.assert_allclose(after.x, x, atol=1e-12)
    np.testing.assert_allclose(after.P, P, atol=1e-12)
    if method in WITH_R:
        assert (after.r < r).all()


@every(WITHOUT_R + WITH_R)
def test_without_targets_there_is_nothing_to_do(method):
    x, P, z, R, H, r = crowd(0, n=0)
    after = run(method, x, P, z, R, H, r)
    assert [a.shape for a in arrays(after)] == [(0, 4), (0, 4, 4), (0,), (0, 6), (0, 5)]


@every(WITHOUT_R + WITH_R)
def test_sure_detection_and_impossible_existence_divide_by_nothing(method):
    x, P, z, R, H, r = crowd(0)
    after = run(method, x, P, z, R, H, 0 * r, p_detect=1.0, p_gate=1)
    assert all(np.isfinite(field).all() for field in arrays(after))


def test_one_noise_for_all_is_the_noise_of_each():
    x, P, z, R, H, r = crowd(1)
    for method in WITHOUT_R + WITH_R:
        one = run(method, x, P, z, R[0], H, r)
        each = run(method, x, P, z, np.stack([R[0]] * len(z)), H, r)
        np.testing.assert_array_equal(one.x, each.x)


def test_detection_and_clutter_may_differ_from_target_to_target_and_place_to_place():
    x, P, z, R, H, r = crowd(2, side=2.0)
    p_detect, clutter = np.array([0.9, 0.9, 0.9, 0.1]), np.full(5, 0.012)
    hidden = run(filters.jipda, x, P, z, R, H, r, p_detect=p_detect)
    seen = run(filters.jipda, x, P, z, R, H, r)
    assert hidden.beta[3, 0] > seen.beta[3, 0]
    clutter[0] = 12.0
    assert (run(filters.jpda, x, P, z, R, H, r, clutter=clutter).beta[:, 1] < 0.1).all()


def test_two_who_walk_close_coalesce_in_jpda_and_not_in_gnn():
    """Each is drawn towards both detections: the known price of soft association."""
    x, P = np.array([[-0.5, 0], [0.5, 0]]), np.stack([np.eye(2)] * 2)
    z, R, H = np.array([[-0.5, 0], [0.5, 0]]), 0.5 * np.eye(2), np.eye(2)

    def apart(method):
        after = run(method, x, P, z, R, H, None)
        return after.x[1, 0] - after.x[0, 0]

    assert apart(filters.jpda) < 0.7
    assert apart(filters.gnn) == pytest.approx(1.0)


def test_a_doubtful_target_takes_less_from_a_sure_one_than_an_equal():
    x, P = np.zeros((2, 2)), np.stack([np.eye(2)] * 2)
    z, R, H = np.zeros((1, 2)), np.eye(2), np.eye(2)
    doubtful = run(filters.jipda, x, P, z, R, H, np.array([1, 0.05])).beta[0, 1]
    equal = run(filters.jpda, x, P, z, R, H, None).beta[0, 1]
    assert equal < 0.5 < 0.8 < doubtful


@settings(max_examples=40)
@given(seeds)
def test_the_way_of_summing_is_a_choice(seed):
    scene = crowd(seed)
    exact = run(filters.jipda, *scene, method=partial(marginals, max_states=10**9))
    np.testing.assert_allclose(run(filters.jipda, *scene).x, exact.x, atol=1e-9)
    certain = run(filters.jpda, *scene, method=gnn_marginals)
    np.testing.assert_array_equal(certain.beta, run(filters.gnn, *scene).beta)
    loopy = run(filters.jpda, *scene, method=lbp_marginals)
    np.testing.assert_allclose(loopy.beta.sum(axis=1), 1)


def test_the_example_runs():
    failed, tried = doctest.testmod(filters)
    assert (failed, tried > 0) == (0, True)
