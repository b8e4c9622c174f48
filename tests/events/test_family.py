"""Cells and words that the families of events share."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.events.family import box_cells, box_text, largest_shares, members, share_rows

shares = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.floats(0, 1), max_size=6)


class Thing(msgspec.Struct):
    a: int
    b: str


def test_members_are_cells_of_their_names():
    assert members(Thing(1, "x"), "b") == {"b": "x"}
    with pytest.raises(AttributeError):
        members(Thing(1, "x"), "c")


@given(st.tuples(*[st.floats(-9999, 9999)] * 4))
def test_a_box_keeps_its_sides_in_cells_and_its_width_in_text(box):
    assert tuple(box_cells(box).values()) == box
    assert [float(word) for word in box_text(box).split()] == pytest.approx(box, abs=0.0501)
    assert len(box_text(box)) == 4 * 7 + 3


@given(shares)
def test_each_share_has_a_row_and_the_three_largest_are_named(classes):
    assert {row["label"]: row["share"] for row in share_rows(classes)} == classes
    named = largest_shares(classes)
    assert named.count("%") == min(3, len(classes))
    if classes:
        assert named.startswith(max(classes, key=classes.get))
