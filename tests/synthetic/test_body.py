"""Bodies keep their proportions and stand on the ground."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.synthetic.body import FOREARM, SHIN, THIGH, UPPER_ARM, pose
from streamvis.synthetic.scene import dress


@settings(max_examples=50)
@given(st.integers(0, 1000), st.floats(-7, 7), st.floats(0, 700), st.floats(0, 2), st.floats(-9, 9))
def test_a_sole_is_on_the_ground_and_none_below(seed, heading, phase, speed, x):
    person = dress(np.random.default_rng(seed), 1)
    body = pose(person, np.array([x, 8.0, heading, phase, speed]))
    lowest = min(
        min(limb.a[2] - limb.radius_a, limb.b[2] - limb.radius_b)
        for limb in body.limbs
        if limb.cloth == "shoes"
    )
    assert lowest == pytest.approx(0, abs=1e-9)
    assert body.head[2] == pytest.approx(0.92 * person.height, rel=0.06)


poses = st.tuples(
    st.integers(0, 1000),
    st.floats(-7, 7),
    st.floats(0, 7),
    st.floats(0, 2),
)


@settings(max_examples=50)
@given(poses)
def test_limbs_keep_their_lengths_in_every_phase(drawn):
    seed, heading, phase, speed = drawn
    person = dress(np.random.default_rng(seed), 1)
    body = pose(person, np.array([2.0, 8.0, heading, phase, speed]))
    legs, arms = body.limbs[:6], body.limbs[6:]
    lengths = [np.linalg.norm(limb.b - limb.a) / person.height for limb in legs]
    assert lengths[1::3] == pytest.approx([SHIN] * 2)
    assert lengths[2::3] == pytest.approx([THIGH] * 2)
    lengths = [np.linalg.norm(limb.b - limb.a) / person.height for limb in arms]
    assert lengths[1::3] == pytest.approx([FOREARM] * 2)
    assert lengths[2::3] == pytest.approx([UPPER_ARM] * 2)


@settings(max_examples=50)
@given(poses)
def test_a_turned_person_is_the_same_body_turned(drawn):
    seed, heading, phase, speed = drawn
    person = dress(np.random.default_rng(seed), 1)
    ahead = pose(person, np.array([0.0, 0.0, 0.0, phase, speed]))
    turned = pose(person, np.array([3.0, -2.0, heading, phase, speed]))
    c, s = np.cos(heading), np.sin(heading)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    for one, other in zip(ahead.limbs, turned.limbs, strict=True):
        np.testing.assert_allclose(other.a, turn @ one.a + [3, -2, 0], atol=1e-9)
        np.testing.assert_allclose(other.b, turn @ one.b + [3, -2, 0], atol=1e-9)
    np.testing.assert_allclose(turned.forward, [c, s, 0])
    np.testing.assert_allclose(turned.head, turn @ ahead.head + [3, -2, 0], atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_half_a_cycle_later_left_and_right_are_swapped(seed):
    person = dress(np.random.default_rng(seed), 1)
    now, later = (pose(person, np.array([0, 0, 0, p, 1.2])) for p in (0.7, 0.7 + np.pi))
    mirror = np.array([1, -1, 1])
    for left, right in ((0, 3), (1, 4), (2, 5), (6, 9), (8, 11)):
        np.testing.assert_allclose(now.limbs[left].a * mirror, later.limbs[right].a, atol=1e-9)


def test_clothes_cover_the_limbs_that_they_are_made_for():
    for seed in range(30):
        person = dress(np.random.default_rng(seed), 1)
        body = pose(person, np.array([0.0, 8.0, 0.0, 1.0, 1.0]))
        cloths = [limb.cloth for limb in body.limbs]
        shin = "trousers" if person.legs == "long" else "skin"
        lower_arm = "shirt" if person.sleeves == "long" else "skin"
        assert cloths[:3] == cloths[3:6] == ["shoes", shin, "trousers"]
        assert cloths[6:9] == cloths[9:] == ["skin", lower_arm, "shirt"]
