"""The legend names what a video shows, where there is room for it."""

import numpy as np
import pytest

from streamvis.viz.actions import LIKELY
from streamvis.viz.legend import ENTRIES, draw_legend, legend_of
from streamvis.viz.style import UNKNOWN, Style


def plain(height=480, width=640):
    return np.full((height, width, 3), 90, np.uint8)


def test_only_what_is_shown_has_an_entry():
    assert [entry.text for entry in legend_of({"detections"})] == [
        "detection without a track, and its score"
    ]
    assert len(legend_of(ENTRIES)) == sum(map(len, ENTRIES.values()))


@pytest.mark.parametrize("size", [(240, 320), (480, 640), (1080, 1920)])
def test_it_lies_in_the_lower_left_corner_above_the_caption(size):
    image = plain(*size)
    assert draw_legend(image, legend_of({"tracks", "detections"}))
    rows, columns = np.nonzero((image != 90).any(axis=2))
    assert columns.min() == 0
    assert rows.max() == size[0] - Style.for_size(*size).bar - 1
    assert rows.min() > size[0] / 3


def test_symbols_have_the_colours_of_the_video():
    image = plain()
    draw_legend(image, legend_of({"actions", "unknown"}))
    for colour in (LIKELY, UNKNOWN):
        assert (image == colour).all(axis=2).any()


def test_without_room_or_entries_the_picture_stays_as_it_is():
    for image, entries in ((plain(96, 128), legend_of(ENTRIES)), (plain(), [])):
        assert not draw_legend(image, entries)
        assert (image == 90).all()
