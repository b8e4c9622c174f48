"""Scenes in colour: each class in its own, void as the picture is, and captions over all panels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.datasets.classes import CAMVID, CITYSCAPES, VOID
from streamvis.viz.scene import (
    COLOURS,
    DIM,
    MARGIN,
    WIDE,
    Panel,
    Row,
    blended,
    heat,
    legend,
    outlined,
    painted,
    palette_of,
    strips,
)

GROUND = 90
some_names = st.lists(st.sampled_from([*COLOURS, *(f"thing {i}" for i in range(40))]), max_size=64)


def plain(height=60, width=80):
    return np.full((height, width, 3), GROUND, np.uint8)


def pixels_of(image, colour):
    return int((image == colour).all(axis=2).sum())


def distance(one, other):
    return int(np.abs(np.subtract(one, other)).sum())


@given(some_names)
def test_every_class_of_any_list_has_a_colour_of_its_own(names):
    palette = palette_of(names)
    assert len(set(palette)) == len(palette) == len(names)
    assert all(0 <= level <= 255 for colour in palette for level in colour)
    for i, (name, colour) in enumerate(zip(names, palette, strict=True)):
        usual = COLOURS.get(name)
        if usual and usual not in palette[:i]:  # "person" and "pedestrian" cannot both have it
            assert colour == usual


def test_streets_have_the_usual_colours():
    camvid, cityscapes = palette_of(CAMVID.names), palette_of(CITYSCAPES.names)
    assert cityscapes[0] == camvid[CAMVID.names.index("road")] == (128, 64, 128)
    assert cityscapes == tuple(COLOURS[name] for name in CITYSCAPES.names)
    apart = [distance(a, b) for i, a in enumerate(camvid) for b in camvid[:i]]
    assert min(apart) > 30  # a pole and a fence are the nearest
    movable = [camvid[i] for i in CAMVID.movable]
    assert min(distance(a, b) for i, a in enumerate(movable) for b in movable[:i]) > 150


@given(st.lists(st.integers(-2, 300), min_size=12, max_size=12), st.sampled_from("hiB"))
def test_labels_become_their_colours_and_nothing_else(values, kind):
    labels = np.array(values).reshape(3, 4).clip(0 if kind == "B" else -2, 255).astype(kind)
    palette = palette_of(CAMVID.names)
    image = painted(labels, palette)
    assert (image.dtype, image.shape) == (np.uint8, (3, 4, 3))
    for label, colour in zip(labels.ravel(), image.reshape(-1, 3), strict=True):
        assert tuple(colour) == (palette[label] if 0 <= label < len(palette) else (0, 0, 0))


def test_a_veil_lies_on_classes_and_not_on_void():
    labels = np.full((60, 80), VOID, np.uint8)
    labels[:, 40:] = 3
    pixels = plain()
    pixels.flags.writeable = False  # as a view on a shared slot is
    image = blended(pixels, labels, palette_of(CAMVID.names), opacity=0.5)
    assert (image[:, :40] == GROUND).all()
    expected = (np.array(palette_of(CAMVID.names)[3]) + GROUND) / 2
    np.testing.assert_allclose(image[:, 40:].reshape(-1, 3), np.tile(expected, (2400, 1)), atol=1)
    assert (pixels == GROUND).all()


def test_coarse_labels_are_brought_to_the_picture():
    labels = np.array([[0, 1], [VOID, 2]], np.uint8)
    palette = palette_of(CAMVID.names)
    image = blended(plain(), labels, palette, opacity=1)
    assert tuple(image[10, 10]) == palette[0]
    assert tuple(image[10, 70]) == palette[1]
    assert (image[40:, :40] == GROUND).all()
    assert pixels_of(image, palette[2]) == 30 * 40


def test_what_is_unknown_glows_and_the_rest_is_dim():
    scores = np.zeros((60, 80), np.float32)
    scores[:, 60:], scores[:, 30:60] = 1, 0.5
    image = heat(plain(), scores).astype(int)
    known, doubtful, unknown = (image[:, x].mean() for x in (10, 45, 75))
    assert known == pytest.approx(DIM * GROUND, abs=1)
    assert unknown > doubtful > known
    assert (heat(plain(), np.full((6, 8), np.nan)) == image[0, 0]).all()  # no score, no heat


def test_heat_is_taken_from_any_picture_and_any_grid():
    turned = np.arange(60 * 80 * 3, dtype=np.uint8).reshape(60, 80, 3)[:, ::-1, ::-1]
    assert heat(turned, np.ones((15, 20))).shape == (60, 80, 3)
    assert (heat(turned, np.ones((15, 20))) == heat(plain(), np.ones((60, 80)))).all()


def test_an_outline_goes_around_a_region():
    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:60] = True
    image = outlined(plain(), mask, (255, 210, 0), line=1)
    drawn = (image == (255, 210, 0)).all(axis=2)
    assert drawn.sum() == 2 * (20 + 30) - 4
    assert drawn[20, 30:60].all()
    assert not drawn[25:35, 35:55].any()
    assert (outlined(plain(), ~mask & mask, (255, 210, 0)) == plain()).all()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_panels_stand_beside_each_other_at_one_width(count):
    colours = [(10 * i, 200, 50) for i in range(1, count + 1)]
    panels = [
        Panel(f"panel {i}", np.full((90, 120, 3), c, np.uint8)) for i, c in enumerate(colours)
    ]
    one, two = (strips("ours", [Row("street", panels)] * n) for n in (1, 2))
    assert one.dtype == np.uint8
    assert one.shape[1] == two.shape[1] == WIDE
    areas = {pixels_of(one, colour) for colour in colours}
    assert len(areas) == 1
    assert [pixels_of(two, colour) for colour in colours] == [2 * areas.pop()] * count
    starts = [np.flatnonzero((one == colour).all(axis=2).any(axis=0))[0] for colour in colours]
    assert starts == sorted(starts)
    assert starts[0] == MARGIN
    assert (one[:, -MARGIN:] == one[0, 0]).all()


def test_captions_and_titles_are_written_and_long_ones_cut():
    def style(title, caption):
        sheet = strips("ours", [Row(title, [Panel(caption, plain())] * 3)])
        return int((sheet < 200).all(axis=2).sum()), sheet

    bare, with_title, with_both = (style(t, c)[0] for t, c in (("", ""), ("a", ""), ("a", "b")))
    assert bare < with_title < with_both
    long = style("name " * 400, "caption " * 100)[1]
    assert (long[:, -MARGIN:] == long[0, 0]).all()


def test_a_legend_names_every_class_and_stays_inside():
    wide, narrow = (legend(CITYSCAPES.names, width) for width in (WIDE, 400))
    assert narrow.shape[1] == 400
    assert narrow.shape[0] > wide.shape[0]
    for colour in palette_of(CITYSCAPES.names):
        assert pixels_of(narrow, colour) >= 100
        assert pixels_of(wide, colour) >= 100
    assert (narrow[:, -MARGIN:] == narrow[0, 0]).all()
    sheet = strips("ours", [], CITYSCAPES.names)
    assert sheet.shape[0] > strips("ours", []).shape[0]
