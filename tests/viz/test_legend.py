"""The legend names what a video shows, where there is room for it."""

import numpy as np
import pytest

from streamvis.viz.legend import Entry, draw_legend
from streamvis.viz.style import PALETTE, UNKNOWN, Style

ENTRIES = [
    Entry("area", UNKNOWN, 0, "out-of-distribution object", place=40),
    Entry("box", PALETTE[0], 1, "tracked person", place=10),
    Entry("dashed", PALETTE[1], 1, "predicted", place=10),
    Entry("line", PALETTE[2], 1, "path", place=10),
    Entry("bar", PALETTE[3], 0, "probability", place=20),
]


def plain(height=480, width=640):
    return np.full((height, width, 3), 90, np.uint8)


@pytest.mark.parametrize("size", [(240, 320), (480, 640), (1080, 1920)])
def test_it_lies_in_the_lower_left_corner_above_the_caption(size):
    image = plain(*size)
    assert draw_legend(image, ENTRIES)
    rows, columns = np.nonzero((image != 90).any(axis=2))
    assert columns.min() == 0
    assert rows.max() == size[0] - Style.for_size(*size).bar - 1
    assert rows.min() > size[0] / 3


def test_symbols_have_the_colours_of_the_video_and_stand_in_the_order_of_their_places():
    image = plain()
    draw_legend(image, ENTRIES)
    rows = [
        np.flatnonzero((image == entry.colour).all(axis=2).any(axis=1)).mean()
        for entry in sorted(ENTRIES, key=lambda entry: entry.place)
    ]
    assert rows == sorted(rows)
    assert np.isfinite(rows).all()


def test_without_room_or_entries_the_picture_stays_as_it_is():
    for image, entries in ((plain(96, 128), ENTRIES), (plain(), [])):
        assert not draw_legend(image, entries)
        assert (image == 90).all()
