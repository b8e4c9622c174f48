"""Jitter: none of even motion, that of an acceleration, in any unit and over several people."""

import numpy as np
import pytest

from streamvis.evaluation.pose_jitter import NO_JITTER, jitter

TIMES = np.arange(20) * 200_000
KNOWN = np.ones((20, 17), bool)
SIZES = np.full(20, 100.0)


def path(acceleration=(0.0, 0.0), noise=0.0) -> np.ndarray:
    seconds = TIMES[:, None, None] / 1e6
    even = np.arange(17)[:, None] + seconds * [30.0, -10.0]
    wild = np.random.default_rng(0).normal(0, 1, (20, 17, 2))
    return even + 0.5 * np.array(acceleration) * seconds**2 + noise * wild


def test_even_motion_has_none_and_an_acceleration_is_measured():
    assert jitter(TIMES, path(), KNOWN, SIZES).mean == pytest.approx(0, abs=1e-9)
    found = jitter(TIMES, path((30, 40)), KNOWN, SIZES)
    assert found.mean == pytest.approx(0.5)  # 50 px/s² of 100 px
    np.testing.assert_allclose(found.by_keypoint, 0.5)
    assert found.samples.tolist() == [18] * 17


def test_the_scale_of_the_picture_does_not_matter():
    one = jitter(TIMES, path(noise=2), KNOWN, SIZES)
    other = jitter(TIMES, 3 * path(noise=2), KNOWN, 3 * SIZES)
    assert one.mean == pytest.approx(other.mean)
    # the second difference of white noise of 2 px has a mean length of 2 √6 √(π/2)
    assert one.mean == pytest.approx(2 * np.sqrt(6 * np.pi / 2) / 0.04 / 100, rel=0.1)


def test_only_known_keypoints_in_even_steps_count():
    known = KNOWN.copy()
    known[10, 3] = False
    points = path()
    points[10, 3] += 50
    found = jitter(TIMES, points, known, SIZES)
    assert found.mean == pytest.approx(0, abs=1e-9)
    assert found.samples[[2, 3]].tolist() == [18, 15]
    gap = TIMES + 400_000 * (np.arange(20) >= 10)
    assert jitter(gap, path(), KNOWN, SIZES).samples[0] == 16


def test_people_are_added_by_their_samples():
    long, short = jitter(TIMES, path((30, 40)), KNOWN, SIZES), NO_JITTER
    short = short.plus(jitter(TIMES[:3], path()[:3], KNOWN[:3], SIZES[:3]))
    assert long.plus(short).mean == pytest.approx(0.5 * 18 / 19)
    assert np.isnan(NO_JITTER.mean)
    assert jitter(TIMES[:2], path()[:2], KNOWN[:2], SIZES[:2]).samples.sum() == 0
