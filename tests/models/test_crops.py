"""Crops against dense sampling, on pictures that show aliasing, and at boxes that are none."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.models.crops import MEAN, crop

SIZE = (32, 16)


def smooth(seed=0, size=(240, 320)):
    """A picture without detail finer than a few pixels."""
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    picture = cv2.GaussianBlur(noise, (0, 0), 6).astype(float)
    picture = (picture - picture.min()) / np.ptp(picture) * 255
    return picture.astype(np.uint8)


def ideal(picture, box, size, fine=16):
    """Each pixel of the crop as the mean of fine × fine samples."""
    x = box[0] + (np.arange(size[1] * fine) + 0.5) * (box[2] - box[0]) / (size[1] * fine) - 0.5
    y = box[1] + (np.arange(size[0] * fine) + 0.5) * (box[3] - box[1]) / (size[0] * fine) - 0.5
    at = (m.astype(np.float32) for m in np.meshgrid(x, y))
    wide = picture.astype(np.float32)
    samples = cv2.remap(wide, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return samples.reshape(size[0], fine, size[1], fine, 3).mean((1, 3))


@given(
    st.tuples(st.floats(-60, 300), st.floats(-60, 200)),
    st.tuples(st.floats(2, 90), st.floats(4, 190)),  # to a sixth in size
)
@settings(max_examples=60)
def test_a_crop_is_the_mean_of_what_it_covers(corner, size):
    box = np.array([*corner, corner[0] + size[0], corner[1] + size[1]])
    picture = smooth()
    (found,) = crop(picture, box[None], SIZE)
    apart = np.abs(found - ideal(picture, box, SIZE))
    assert apart.mean() < 3
    assert np.percentile(apart, 99) < 12


@pytest.mark.parametrize("scale", [1.4, 1.5, 2, 2.3, 2.6, 3.5, 5, 9.7])
def test_stripes_too_fine_to_show_fade(scale):
    picture = np.zeros((400, 400, 3), np.uint8)
    picture[:, ::2] = 255
    box = np.array([[20.3, 20.7, 20.3 + 16 * scale, 20.7 + 32 * scale]])
    (found,) = crop(picture, box, SIZE)
    assert np.ptp(found.astype(int)) <= 90  # a mean of three pixels leaves a third of 255
    assert found.mean() == pytest.approx(127.5, abs=6)
    (turned,) = crop(picture.transpose(1, 0, 2), box, SIZE)
    assert np.ptp(turned.astype(int)) <= 90


def test_a_box_of_whole_pixels_and_the_crops_size_is_copied():
    picture = np.random.default_rng(3).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    picture.flags.writeable = False  # as a slot's view is
    (found,) = crop(picture, np.array([[7, 9, 23, 41]], np.float32), SIZE)
    np.testing.assert_array_equal(found, picture[9:41, 7:23])


def test_fractions_of_a_pixel_matter():
    ramp = np.broadcast_to(np.arange(25)[None, :, None] * 10, (60, 25, 3)).astype(np.uint8)
    boxes = np.array([[4 + s, 5, 20 + s, 37] for s in (0, 0.25, 0.5, 0.75, 1)])
    means = crop(ramp, boxes, SIZE).mean((1, 2, 3))
    np.testing.assert_allclose(means - means[0], [0, 2.5, 5, 7.5, 10], atol=0.6)  # rounded


def test_outside_the_picture_its_edge_goes_on():
    picture = smooth(1, (50, 40))
    boxes = np.array(
        [[-90, 10, -50, 30], [60, 10, 90, 30], [10, -90, 30, -20], [-99990, 60, -99980, 99]]
    )
    left, right, top, corner = crop(picture, boxes, SIZE)
    assert (left == left[:, :1]).all()
    np.testing.assert_allclose(left[:, 0], ideal(picture, boxes[0], SIZE)[:, 0], atol=3)
    np.testing.assert_allclose(right[:, 0], ideal(picture, boxes[1], SIZE)[:, 0], atol=3)
    assert (top == top[:1]).all()
    assert (corner == picture[-1, 0]).all()


BAD = [
    [np.nan, 0, 5, 5],
    [0, 0, np.inf, 5],
    [-np.inf, 0, np.inf, 5],
    [5, 5, 5, 9],
    [9, 5, 5, 9],
    [0, 0, 1e30, 4],
]


@pytest.mark.parametrize("picture_size", [(1, 1), (2, 50), (50, 3), (64, 64)])
def test_no_box_and_no_picture_is_too_odd(picture_size):
    picture = np.full((*picture_size, 3), 77, np.uint8)
    found = crop(picture, np.array(BAD), SIZE)
    assert (found == MEAN).all()
    odd = [[0, 0, 1e-9, 1e-9], [-9e5, -9e5, 9e5, 9e5], [0.2, 0.2, 0.3, 9e5], [3e5, 3e5, 4e5, 4e5]]
    assert (crop(picture, np.array(odd), SIZE) == 77).all()
    assert crop(picture, np.zeros((0, 4)), SIZE).shape == (0, *SIZE, 3)


def test_what_is_not_the_person_is_blanked():
    picture = np.full((100, 100, 3), 200, np.uint8)
    masks = np.zeros((3, 28, 28), np.uint8)
    masks[0, :14] = 255
    masks[1] = 255
    boxes = np.array([[10.0, 10, 50, 90]] * 3)
    half, whole, nobody = crop(picture, boxes, SIZE, masks)
    assert (half[:15] == 200).all()
    assert (half[17:] == MEAN).all()
    assert (whole == 200).all()
    assert (nobody == 200).all()
    none = np.zeros((0, 0, 0), np.uint8)  # as Detections have them without masks
    assert (crop(picture, boxes, SIZE, none) == 200).all()
