"""Fixed or moving: by motions that are made up, at any frame rate, and by those of real cameras."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.messages import Motion
from streamvis.tracking.camera_state import STOP_S, CameraState

WIDTH, HEIGHT = 960, 540
DIAGONAL = float(np.hypot(WIDTH, HEIGHT))
rates = st.floats(2.5, 60)  # frames per second


def camera():
    return CameraState(width=WIDTH, height=HEIGHT)


def shifted(dx, dy=0.0, *, zoom=1.0, support=0.8):
    centre = np.array([WIDTH, HEIGHT]) / 2
    warp = np.column_stack([zoom * np.eye(2), centre - zoom * centre + [dx, dy]])
    return Motion(warp=warp, support=support)


def told(state, motions, fps):
    for motion in motions:
        state = state.update(motion, 1 / fps)
    return state


def panned(state, seconds, fps, speed):
    """Turned at `speed` diagonals a second."""
    step = speed * DIAGONAL / fps
    return told(state, [shifted(step)] * round(seconds * fps), fps)


def test_a_camera_stands_until_it_is_seen_to_move():
    assert not camera().moving
    assert not told(camera(), [shifted(0)] * 100, 30).moving


@settings(max_examples=25)
@given(fps=rates, seed=st.integers(0, 1000))
def test_errors_of_the_estimate_do_not_move_it(fps, seed):
    """0.3 px: ten times what fixed cameras show."""
    state = camera()
    for dx, dy in np.random.default_rng(seed).normal(0, 0.3, (150, 2)):
        state = state.update(shifted(dx, dy), 1 / fps)
        assert not state.moving


@settings(max_examples=25)
@given(fps=rates, hertz=st.floats(0.2, 20))
def test_shaking_about_its_place_does_not_move_it(fps, hertz):
    """A mast in the wind: 2.5 px to either side."""
    at = 2.5 * np.sin(2 * np.pi * hertz * np.arange(200) / fps)
    state = camera()
    for step in np.diff(at):
        state = state.update(shifted(step), 1 / fps)
        assert not state.moving


@given(fps=rates, sign=st.sampled_from([-1, 1]))
def test_a_pan_moves_it_within_two_seconds_at_any_rate(fps, sign):
    assert panned(camera(), 2, fps, sign * 0.02).moving


@settings(max_examples=25)
@given(fps=rates)
def test_a_very_slow_pan_does_not(fps):
    assert not panned(camera(), 30, fps, 0.003).moving


@given(fps=rates)
def test_going_straight_on_moves_it(fps):
    """Then the background only grows: by 6 % a second."""
    zoom = 1.06 ** (1 / fps)
    assert told(camera(), [shifted(0, zoom=zoom)] * round(3 * fps), fps).moving


@given(fps=st.floats(2.5, 6))
def test_leaping_to_and_fro_from_frame_to_frame_moves_it(fps):
    """A walker's camera, seen seldom: it comes back, but nothing shakes by 40 px."""
    motions = [shifted(40 * (-1) ** k) for k in range(6)]
    assert told(camera(), motions, fps).moving


@given(fps=rates, dx=st.floats(-300, 300), dy=st.floats(-300, 300))
def test_one_or_two_wrong_estimates_do_not_move_it(fps, dx, dy):
    calm = [shifted(0)] * 10
    assert not told(camera(), [*calm, shifted(dx, dy), *calm], fps).moving
    assert not told(camera(), [*calm, shifted(dx, dy), shifted(dx, dy), *calm], fps).moving


@given(fps=rates, dx=st.floats(-100, 100))
def test_what_is_unknown_changes_nothing(fps, dx):
    for state in (camera(), panned(camera(), 3, fps, 0.05)):
        assert told(state, [shifted(dx, support=0.0)] * 50, fps) == state


@settings(max_examples=25)
@given(fps=rates)
def test_it_stands_again_after_a_while_and_not_before(fps):
    state = panned(camera(), 3, fps, 0.05)
    assert state.moving
    state = panned(state, STOP_S, fps, 0)
    assert state.moving  # it had still to be forgotten how it moved
    assert not panned(state, 15, fps, 0).moving


@settings(max_examples=25)
@given(fps=rates)
def test_a_pause_does_not_make_it_fixed(fps):
    state = panned(camera(), 3, fps, 0.05)
    for _ in range(4):
        state = panned(state, 4, fps, 0)
        assert state.moving
        state = panned(state, 1, fps, 0.05)


def test_size_does_not_matter():
    random = np.random.default_rng(4)
    one, other = camera(), CameraState(width=2 * WIDTH, height=2 * HEIGHT)
    for dx, dy in random.normal(3, 8, (100, 2)):
        large = shifted(dx, dy)
        large.warp[:, 2] *= 2
        one, other = one.update(shifted(dx, dy), 0.04), other.update(large, 0.04)
        assert one.moving == other.moving
        assert one.drift == pytest.approx(other.drift)
    assert one.moving
    assert one.resize(2 * WIDTH, 2 * HEIGHT).drift == one.drift


def test_frames_at_the_same_time_and_after_hours_are_endured():
    state = camera()
    for dt_s in (0.0, -1.0, 1e5, 0.0):
        state = state.update(shifted(1.0), dt_s)
    assert not state.moving
    assert np.isfinite(state.drift).all()


@given(steps=st.lists(st.floats(-60, 60), max_size=40), cut=st.integers(0, 40))
def test_it_survives_the_wire_exactly(steps, cut):
    whole = told(camera(), [shifted(dx) for dx in steps], 25)
    first = told(camera(), [shifted(dx) for dx in steps[:cut]], 25)
    resumed = msgspec.msgpack.decode(msgspec.msgpack.encode(first), type=CameraState)
    assert resumed == first
    assert told(resumed, [shifted(dx) for dx in steps[cut:]], 25) == whole
