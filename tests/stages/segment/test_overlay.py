"""Segmentation on pictures: out-of-distribution pixels are highlighted, classes are beside."""

import numpy as np
from factories import packet
from hypothesis import given
from hypothesis import strategies as st

from streamvis.messages import Segmentation
from streamvis.stages.overlay import Canvas
from streamvis.stages.record.picture import draw_packet
from streamvis.stages.segment.overlay import SegmentOverlay, highlight
from streamvis.viz.scene import palette_of
from streamvis.viz.style import UNKNOWN

LABELS = ("sky", "road", "car")
GROUND = 90
HEIGHT, WIDTH = 120, 160
NOTHING = np.zeros((0, 0), np.uint8)


def plain(height=HEIGHT, width=WIDTH):
    pixels = np.full((height, width, 3), GROUND, np.uint8)
    pixels.flags.writeable = False  # as a view on a shared slot is
    return pixels


def segmented(unknown=NOTHING, size=(30, 40)):
    """Sky above road, with a car in columns 10 to 20 of the lower half."""
    classes = np.zeros(size, np.uint8)
    classes[15:] = 1
    classes[18:27, 10:20] = 2
    return Segmentation(labels=LABELS, classes=classes, unknown=unknown)


def lit(unknown):
    image = plain().copy()
    highlight(image, unknown)
    return image


def test_classes_are_shown_in_a_panel_and_named_in_the_band_below():
    whole = draw_packet(plain(), packet(0, segmented()))
    assert whole.shape[1] == 2 * WIDTH
    np.testing.assert_array_equal(whole[:HEIGHT, :WIDTH], plain())
    car = 0.4 * GROUND + 0.6 * np.array(palette_of(LABELS)[2])
    panel = whole[HEIGHT // 2 : HEIGHT - 1, WIDTH:]
    columns = np.flatnonzero((np.abs(panel - car).max(axis=2) < 6).any(axis=0))
    assert (columns[0], columns[-1] + 1) == (40, 80)
    for colour in palette_of(LABELS):
        assert (whole[HEIGHT:] == colour).all(axis=2).sum() > 40
    assert not (whole[HEIGHT:] == UNKNOWN).all(axis=2).any()
    outliers = draw_packet(plain(), packet(0, segmented(np.zeros((7, 10), np.uint8))))
    assert (outliers[HEIGHT:] == UNKNOWN).all(axis=2).sum() > 40


def test_between_two_samples_the_highlight_and_the_panel_stay_until_a_new_stream_epoch():
    overlay = SegmentOverlay()
    unknown = np.full((7, 10), 250, np.uint8)
    canvases = []
    for parts in ((segmented(unknown),), ()):
        canvases.append(Canvas.of(plain(), overlay.panels))
        overlay.draw(canvases[-1], packet(0, *parts))
    first, second = canvases
    assert (first.image == second.image).all()
    assert (first.image != plain()).any()
    assert first.panels == second.panels
    assert first.legend == second.legend != []
    overlay.restart()
    third = Canvas.of(plain(), overlay.panels)
    overlay.draw(third, packet(1))
    assert (third.image == plain()).all()
    assert [panel.picture for panel in third.panels] == [None]
    assert third.band == first.band


def test_pixels_of_low_probability_are_not_highlighted():
    for unknown in (NOTHING, np.full((7, 10), 60, np.uint8)):
        assert (lit(unknown) == GROUND).all()


def test_out_of_distribution_pixels_are_highlighted_where_they_are():
    unknown = np.zeros((30, 40), np.uint8)
    unknown[10:20, 20:30] = 230
    image = lit(unknown)
    changed = (image != plain()).any(axis=2)
    assert changed[44:76, 84:116].all()
    assert not changed[:32].any()
    assert not changed[:, :72].any()
    assert np.abs(image[60, 100].astype(int) - UNKNOWN).max() < 60


@given(
    st.tuples(st.integers(8, 60), st.integers(8, 60)),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
def test_any_sizes_go_together(size, grid):
    part = segmented(np.full(grid, 200, np.uint8), (30, 40))
    whole = draw_packet(plain(*size), packet(0, part))
    assert whole.shape[1] == 2 * size[1]
    assert whole.dtype == np.uint8
