"""Windows along tracks: no frame rate, little trembling, few people."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.tracking.tubelets import SETTLE_S, Tubelet, watched


def walk(times, speed=30.0):
    """A tubelet of somebody who walks to the right from rest at 0 s and grows."""
    made = None
    for at in times:
        box = np.array([100 + speed * at, 50, 140 + speed * at, 150 + 5 * at])
        if made is None:
            made = Tubelet(box, 0)
        else:
            made.follow(box, round(at * 1e6))
    return made


@given(st.lists(st.floats(0.01, 0.9), min_size=1, max_size=20))
def test_a_straight_walk_gives_one_window_at_any_frame_rate(steps):
    times = np.cumsum([0.0, *steps])
    some, many = walk(times), walk(np.linspace(0, times[-1], 200))
    np.testing.assert_allclose(some.smooth, many.smooth, atol=1e-3)


def test_it_lags_by_its_time_constant():
    made = walk(np.arange(0, 5, 0.1))
    assert made.seen[0] - made.smooth[0] == pytest.approx(30 * SETTLE_S[0], rel=1e-3)


def test_trembling_is_damped():
    rng = np.random.default_rng(0)
    made, centres, heights = Tubelet(np.array([0, 0, 40, 100]), 0), [], []
    for k in range(1, 300):
        shift = rng.normal(0, 3, 4)
        made.follow(np.array([0, 0, 40, 100]) + shift, k * 33_333)
        centres.append(made.smooth[0])
        heights.append(made.smooth[3])
    assert np.std(centres) < 0.4 * 3
    assert np.std(heights) < 0.25 * 3 * np.sqrt(2)


def test_who_was_away_is_looked_at_where_they_are():
    made = Tubelet(np.array([0, 0, 40, 100]), 0)
    made.follow(np.array([200, 0, 240, 100]), 1_500_000)
    assert made.smooth.tolist() == [220, 50, 40, 100]


def test_the_window_has_the_shape_of_what_the_network_takes():
    made = Tubelet(np.array([100, 100, 140, 200]), 0)
    frame = (400, 300)
    assert made.window(2.0, (64, 64), frame).tolist() == [20, 50, 220, 250]
    assert made.window(1.0, (64, 128), frame).tolist() == [20, 100, 220, 200]


def test_the_window_stays_within_the_frame():
    made = Tubelet(np.array([100, 100, 140, 200]), 0)
    assert made.window(2.0, (64, 64), (400, 210)).tolist() == [20, 10, 220, 210]  # moved up
    assert made.window(2.0, (64, 64), (160, 300)).tolist() == [0, 70, 160, 230]  # as wide as fits
    assert made.window(4.0, (192, 256), (320, 240)).tolist() == [0, 0, 320, 240]
    outside = Tubelet(np.array([500, -80, 540, -10]), 0)
    assert outside.window(2.0, (64, 64), (400, 300)).tolist() == [260, 0, 400, 140]


def test_a_successor_looks_where_the_first_did():
    first = walk([0, 0.1, 0.3])
    second = Tubelet.resume(first.state(), first.at_us)
    for one in (first, second):
        one.follow(np.array([120, 50, 160, 150]), 400_000)
    np.testing.assert_array_equal(first.smooth, second.smooth)
    with pytest.raises(ValueError, match="8 finite numbers"):
        Tubelet.resume([1.0] * 7, 0)


@given(
    st.dictionaries(st.integers(1, 30), st.floats(10, 300), max_size=20),
    st.sets(st.integers(1, 30)),
    st.integers(1, 8),
)
def test_the_tallest_are_watched_and_stay(heights, already, most):
    chosen = watched(heights, already, most, 48)
    assert len(chosen) == min(most, sum(h >= 48 for h in heights.values()))
    assert all(heights[one] >= 48 for one in chosen)
    for one in chosen - already:
        assert all(heights[one] >= heights[two] for two in heights.keys() - chosen)
    assert watched(heights, chosen, most, 48) == chosen
