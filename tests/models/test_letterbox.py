"""Pictures in the fixed input of a network, and boxes back from it."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.models.letterbox import GREY, Canvas, smallest_canvas

SIZE = (64, 96)
sides = st.integers(1, 300)


def picture(height, width, colour=(255, 255, 255)):
    return np.full((height, width, 3), colour, np.uint8)


@given(sides, sides, st.booleans())
@settings(max_examples=100)
def test_a_picture_is_a_rectangle_on_grey_that_touches_two_sides(height, width, centred):
    canvas = Canvas(SIZE, centred=centred, bgr=False)
    fit = canvas.put(picture(height, width))
    filled = (canvas.pixels == 255).all(axis=2)
    expected = np.zeros(SIZE, bool)
    expected[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width] = True
    np.testing.assert_array_equal(filled, expected)
    assert (canvas.pixels[~filled] == GREY).all()
    assert max(fit.height / SIZE[0], fit.width / SIZE[1]) > 0.98
    below, right = SIZE[0] - fit.top - fit.height, SIZE[1] - fit.left - fit.width
    if centred:
        assert abs(below - fit.top) <= 1
        assert abs(right - fit.left) <= 1
    else:
        assert (fit.top, fit.left) == (0, 0)


@given(sides, sides, st.booleans())
@settings(max_examples=100)
def test_the_corners_of_the_scaled_picture_are_those_of_the_picture(height, width, centred):
    fit = Canvas(SIZE, centred=centred, bgr=False).fit((height, width))
    inside = [[fit.left, fit.top, fit.left + fit.width, fit.top + fit.height]]
    back = fit.to_picture(np.array(inside, np.float32))
    np.testing.assert_allclose(back, [[0, 0, width, height]], rtol=1e-5)
    outside = np.array([[-50, -50, 500, 500]], np.float32)
    np.testing.assert_array_equal(fit.to_picture(outside), [[0, 0, width, height]])


@pytest.mark.parametrize("centred", [False, True])
def test_an_edge_in_the_picture_is_where_the_boxes_say(centred):
    """The scale of x is that of the rounded width, to a hundredth of a pixel of the canvas."""
    shown = picture(1000, 1000, (0, 0, 0))
    shown[:, 700:] = 200
    canvas = Canvas((160, 96), centred=centred, bgr=False)
    fit = canvas.put(shown)
    line = canvas.pixels[fit.top + 5, :, 0].astype(float)
    edge = fit.left + fit.width - line[fit.left : fit.left + fit.width].sum() / 200
    found = fit.to_picture(np.array([[edge, 0, 96, 160]], np.float32))[0, 0]
    assert found == pytest.approx(700, abs=6)  # interpolation is at most half a pixel of 10.4


def test_the_pixels_are_opencv_s_and_a_smaller_picture_leaves_nothing_of_the_one_before():
    noise = np.random.default_rng(0).integers(0, 255, (300, 200, 3), dtype=np.uint8)
    canvas = Canvas(SIZE, centred=False, bgr=False)
    canvas.put(picture(200, 300))
    fit = canvas.put(noise)
    expected = np.full((*SIZE, 3), GREY, np.uint8)
    expected[: fit.height, : fit.width] = cv2.resize(noise, (fit.width, fit.height))
    np.testing.assert_array_equal(canvas.pixels, expected)
    noise.flags.writeable = False  # as a slot is
    assert canvas.put(noise[:, ::2]) != fit


@given(sides, sides, st.booleans())
@settings(max_examples=100)
def test_the_smallest_canvas_holds_the_same_pixels_with_less_grey(height, width, centred):
    step = 32
    size = smallest_canvas((height, width), SIZE, step, exact=centred)
    shown = np.random.default_rng(height).integers(0, 255, (height, width, 3), dtype=np.uint8)
    full = Canvas(SIZE, centred=centred, bgr=False)
    small = Canvas(size, centred=centred, bgr=False, largest=SIZE)
    there, here = full.put(shown), small.put(shown)
    assert all(n % step == 0 for n in size)
    assert size[0] - here.height < step
    assert size[1] - here.width < step
    assert (here.height, here.width) == (there.height, there.width)
    np.testing.assert_array_equal(inside(small, here), inside(full, there))
    assert small.pixels.sum() - inside(small, here).sum() == GREY * (
        small.pixels.size - inside(small, here).size
    )


def inside(canvas, fit):
    return canvas.pixels[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width]
