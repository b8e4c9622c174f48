"""Detections on pictures: masks in the colours of tracks, loose detections in grey, regions."""

import numpy as np
import pytest
from factories import detections, packet, tracks

from streamvis.stages.detect import MaskRcnn
from streamvis.stages.detect.overlay import DetectOverlay
from streamvis.stages.overlay import Canvas
from streamvis.viz.style import colour_of

BACKGROUND = 90
BOX = (100, 60, 160, 180)


def plain(height=240, width=320):
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def drawn(*parts, regions=(), masks=True):
    canvas = Canvas.of(plain())
    DetectOverlay(regions, masks).draw(canvas, packet(0, *parts))
    return canvas.image


def masked(box=BOX):
    return detections([box], masks=np.full((1, 28, 28), 255, np.uint8))


def test_masks_take_the_colour_of_their_track_and_can_be_left_out():
    inside = drawn(masked(), tracks([2], BOX))[120, 130].astype(int)
    towards = np.array(colour_of(2)) - BACKGROUND
    assert (np.sign(inside - BACKGROUND) == np.sign(towards)).all()
    assert (np.abs(inside - BACKGROUND) < np.abs(towards)).all()  # translucent
    without = drawn(masked(), tracks([2], BOX), masks=False)
    assert (without == plain()).all()


def test_clothes_keep_their_colour_under_a_mask():
    shift = np.abs(drawn(masked(), tracks([1], BOX))[120, 130].astype(int) - BACKGROUND)
    assert (shift < 0.25 * np.abs(np.array(colour_of(1)) - BACKGROUND) + 1).all()


def test_loose_detections_are_grey_and_those_of_tracks_are_left_to_them():
    taken, loose = (20, 60, 60, 180), (200, 60, 240, 180)
    image = drawn(detections([taken, loose]), tracks([1], taken))
    red, green, blue = image[180, 220].astype(int)
    assert max(red, green, blue) - min(red, green, blue) < 20
    assert (red, green, blue) != (BACKGROUND,) * 3
    assert (image[:, :100] == BACKGROUND).all()


def test_weak_detections_without_a_track_are_not_drawn():
    assert (drawn(detections([BOX], 0.4)) == BACKGROUND).all()


@pytest.mark.parametrize("found", [None, detections([])])
def test_the_region_of_the_settings_is_outlined_in_every_frame(found):
    region = [(0.25, 0.5), (0.75, 0.5), (0.75, 0.9), (0.25, 0.9)]
    changed = (drawn(found, regions=MaskRcnn(region=(region,)).region) != BACKGROUND).any(axis=2)
    assert changed[120, 85:235].all()
    assert not changed[125:210, 85:235].any()
