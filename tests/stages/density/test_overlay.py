"""Density on pictures: cells with people are shaded, all else stays."""

import numpy as np
from factories import packet, source

from streamvis.messages import Density
from streamvis.stages.density.overlay import DensityOverlay
from streamvis.stages.overlay import Canvas

GREY = 90


def density(cells, people, cell=64.0, unit="px", frames=5):
    return Density(
        cells=np.array(cells, np.int32).reshape(-1, 2),
        people=np.array(people, np.float32),
        cell=cell,
        unit=unit,
        start_us=0,
        end_us=500_000,
        frames=frames,
    )


def changed(overlay, *parts):
    """Where the picture differs from the frame, (480, 640) bool, and the canvas."""
    canvas = Canvas.of(np.full((480, 640, 3), GREY, np.uint8))
    overlay.draw(canvas, packet(0, *parts))
    return (canvas.image != GREY).any(axis=2), canvas


def test_exactly_the_cells_with_people_are_shaded():
    where, canvas = changed(DensityOverlay(source()), density([(2, 1), (5, 3)], [0.5, 4]))
    expected = np.zeros((480, 640), bool)
    expected[64:128, 128:192] = expected[192:256, 320:384] = True
    np.testing.assert_array_equal(where, expected)
    few, many = canvas.image[100, 150], canvas.image[200, 330]
    assert np.abs(many.astype(int) - GREY).sum() > np.abs(few.astype(int) - GREY).sum()
    assert [entry.text for entry in canvas.legend] == ["people of the last interval"]


def test_the_last_interval_stays_until_the_next_and_in_a_successor():
    overlay = DensityOverlay(source())
    where, _ = changed(overlay, density([(2, 1)], [1]))
    np.testing.assert_array_equal(changed(overlay, density([], [], frames=0))[0], where)
    heir = DensityOverlay(source())
    heir.restore(overlay.state())
    np.testing.assert_array_equal(changed(heir)[0], where)
    overlay.restart()
    assert not changed(overlay)[0].any()


def test_cells_on_the_ground_are_drawn_where_they_lie():
    """A plane seen from straight above: 20 px are one metre."""
    plane = (0.05, 0, 0, 0, 0.05, 0, 0, 0, 1)
    overlay = DensityOverlay(source(ground_plane=plane))
    where, _ = changed(overlay, density([(3, 2)], [1], cell=2.0, unit="m"))
    expected = np.zeros((480, 640), bool)
    expected[80:121, 120:161] = True  # 4 to 6 m down, 6 to 8 m right, edges included
    np.testing.assert_array_equal(where, expected)
