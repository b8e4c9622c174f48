"""Zones and lines as they are drawn: places by projection, arrows to the right, labels apart."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.calibration.ground_plane import from_view
from streamvis.viz.style import PlacedLabel
from streamvis.viz.zones import Label, Sides, ZonesDrawing, line_shapes, on_picture
from streamvis.zone_layout import Line, Zone, ZoneLayout

SIZE = (768, 576)
GREY = 90


def apart(plates):
    return all(
        a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        for a, b in combinations(plates, 2)
    )


def polygon(x, y, radius, corners):
    turns = np.arange(corners) * 2 * np.pi / corners
    ring = np.column_stack([x + radius * np.cos(turns), y + radius * np.sin(turns)])
    return tuple(map(tuple, ring.clip(0, 1).round(4).tolist()))


def crowded(count, seed, length=6):
    rng = np.random.default_rng(seed)
    zones = tuple(
        Zone(
            name=f"{'z' * length}-{i}",
            polygon=polygon(*rng.uniform(0.1, 0.9, 2), rng.uniform(0.05, 0.2), 3 + i % 4),
        )
        for i in range(count)
    )
    ends = [[tuple(p) for p in rng.uniform(0, 1, (2, 2)).round(3).tolist()] for _ in range(3)]
    lines = tuple(Line(name=f"l-{i}", start=a, end=b) for i, (a, b) in enumerate(ends))
    return ZoneLayout(zones=zones, lines=lines)


@pytest.mark.parametrize("size", [(768, 576), (1920, 1080)])
@given(seed=st.integers(0, 10**6), length=st.integers(1, 60))
@settings(max_examples=5, deadline=None)
def test_labels_of_20_zones_lie_in_the_picture_and_do_not_cover_each_other(size, seed, length):
    layout = crowded(20, seed, length)
    image = np.full((size[1], size[0], 3), GREY, np.uint8)
    drawing = ZonesDrawing(layout, size)
    labels = drawing.draw(
        image,
        {zone.name: Label("12, 1:23") for zone in layout.zones},
        {line.name: Sides("in 120", "out 99") for line in layout.lines},
    )
    plates = [label.plate for label in labels]
    assert len(plates) == 20 + 2 * 3
    assert apart(plates)
    low, high = np.min(plates, axis=0), np.max(plates, axis=0)
    assert (low >= 0).all()
    assert (high[2:] <= size).all()
    for text, (x1, y1, x2, y2), _ in labels:  # what is written stays on its plate
        outside = np.full_like(image, GREY)
        drawing.style.write_label(outside, PlacedLabel(text, (x1, y1, x2, y2), (0, 0, 0)))
        outside[y1:y2, x1:x2] = GREY
        assert (outside == GREY).all()


def test_labels_keep_their_places_while_the_numbers_have_as_many_digits():
    layout = crowded(8, 1)
    drawing = ZonesDrawing(layout, SIZE)

    def plates(text):
        image = np.full((SIZE[1], SIZE[0], 3), GREY, np.uint8)
        labels = drawing.draw(image, {zone.name: Label(text) for zone in layout.zones}, {})
        return [label.plate for label in labels]

    assert plates("1, 0:07") == plates("9, 5:59")


def test_what_finds_no_room_is_left_out():
    layout = crowded(20, 1, length=40)
    image = np.full((48, 64, 3), GREY, np.uint8)
    labels = ZonesDrawing(layout, (64, 48)).draw(image, {}, {})
    plates = [label.plate for label in labels]
    assert len(plates) < 26
    assert apart(plates)


@pytest.mark.parametrize(
    ("start", "end", "into"),
    [  # walking from start to end, right is …
        ((0.1, 0.5), (0.9, 0.5), (0, 1)),  # … down when walking to the right
        ((0.9, 0.5), (0.1, 0.5), (0, -1)),
        ((0.5, 0.1), (0.5, 0.9), (-1, 0)),  # … left when walking down
        ((0.5, 0.9), (0.5, 0.1), (1, 0)),
    ],
)
def test_the_arrow_of_a_line_points_to_its_right(start, end, into):
    (shape,) = line_shapes([Line(name="gate", start=start, end=end)], SIZE, None)
    np.testing.assert_allclose(shape.into, into, atol=1e-12)


PLANE = from_view(5.0, 30.0, 700.0, SIZE)


def to_picture(points):
    seen = np.column_stack([points, np.ones(len(points))]) @ np.linalg.inv(PLANE).T
    return seen[:, :2] / seen[:, 2:]


def test_the_arrow_of_a_line_on_the_ground_points_to_its_right_seen_from_above():
    line = Line(name="kerb", start=(-2.0, 8.0), end=(2.0, 8.0), space="ground")
    (shape,) = line_shapes([line], SIZE, PLANE)
    np.testing.assert_allclose([shape.start, shape.end], to_picture([(-2, 8), (2, 8)]))
    nearer = to_picture([(0.0, 7.9)])[0] - to_picture([(0.0, 8.0)])[0]
    assert np.dot(shape.into, nearer) > 0.99 * np.hypot(*nearer)


def test_a_polygon_on_the_ground_is_drawn_in_perspective():
    corners = ((-1.0, 6.0), (1.0, 6.0), (1.0, 10.0), (-1.0, 10.0))
    np.testing.assert_allclose(on_picture(corners, "ground", SIZE, PLANE), to_picture(corners))


def test_what_is_behind_the_camera_is_cut_off():
    """A strip from far behind the camera to far before it fills its part of the lower edge."""
    strip = ((-1.0, -50.0), (1.0, -50.0), (1.0, 60.0), (-1.0, 60.0))
    seen = on_picture(strip, "ground", SIZE, PLANE)
    assert np.isfinite(seen).all()
    image = np.full((SIZE[1], SIZE[0], 3), GREY, np.uint8)
    layout = ZoneLayout(zones=(Zone(name="strip", polygon=strip, space="ground"),))
    ZonesDrawing(layout, SIZE, PLANE).draw(image, {}, {})
    left, right = to_picture([(-1.0, 5.0), (1.0, 5.0)])
    row, middle = round(left[1]), round((left[0] + right[0]) / 2)
    assert (image[row, middle] != GREY).any()
    assert (image[row, [round(left[0]) - 15, round(right[0]) + 15]] == GREY).all()
    assert not len(on_picture([(0, -9), (1, -9), (1, -8)], "ground", SIZE, PLANE))


@given(st.integers(0, 10**6), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_any_zones_can_be_drawn_at_any_size(seed, count):
    rng = np.random.default_rng(seed)
    size = tuple(int(side) for side in rng.integers(8, 400, 2))
    metres = tuple(
        Zone(name=f"m-{i}", polygon=tuple(map(tuple, ring)), space="ground")
        for i in range(count)
        for ring in [rng.uniform(-1, 1, (3, 2)).cumsum(axis=0) * 10 ** rng.uniform(0, 4)]
    )
    line = Line(name="l", start=tuple(rng.uniform(-99, 99, 2)), end=(0.0, 1.0), space="ground")
    layout = ZoneLayout(zones=metres, lines=(line,))
    image = np.full((size[1], size[0], 3), GREY, np.uint8)
    labels = ZonesDrawing(layout, size, PLANE).draw(image, {}, {})
    assert apart([label.plate for label in labels])
