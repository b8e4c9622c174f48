"""Timelines of identities: lanes that never overlap, and what must show in the picture."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.viz.sheets.timeline import NOBODY, TimelinePanel, pack, timeline
from streamvis.viz.style import colour_of

bars = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 9), st.integers(1, 5)), max_size=30)


def panel(lives, strays=(), frames=100):
    return TimelinePanel("street", "2 people", lives, strays, frames, 25.0)


def pixels_of(path, colour):
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB).astype(int)
    return int((np.abs(picture - colour).max(axis=2) < 12).sum())


@given(bars, st.floats(0, 5))
@settings(max_examples=60)
def test_lanes_hold_every_bar_and_none_that_meet(given_bars, room):
    spans = [(first, first + length, track) for first, length, track in given_bars]
    lanes = pack(spans, room)
    assert sorted(bar for lane in lanes for bar in lane) == sorted(spans)
    for lane in lanes:
        assert all(after[0] > before[1] + room for before, after in pairwise(lane))
    if room == 0:  # a first fit by start needs no more lanes than meet at one frame
        busiest = max((sum(a <= f <= b for a, b, _ in spans) for f in range(1, 60)), default=0)
        assert len(lanes) == busiest


def test_bars_show_in_the_colours_of_their_tracks_and_as_long_as_they_last(tmp_path):
    path = tmp_path / "sub" / "who.png"
    lives = {1: [(1, 20, 1), (21, 40, NOBODY), (41, 100, 4)], 2: [(1, 100, NOBODY)]}
    timeline(path, [panel(lives)])
    short, long = (pixels_of(path, colour_of(track)) for track in (1, 4))
    assert long == pytest.approx(3 * short, rel=0.1)


def test_switches_are_marked_and_gaps_alone_are_not(tmp_path):
    gap, switch = tmp_path / "gap.png", tmp_path / "switch.png"
    timeline(gap, [panel({1: [(1, 30, 2), (40, 90, 2)]})])
    timeline(switch, [panel({1: [(1, 30, 2), (40, 90, 14)]})])  # of the same colour
    assert pixels_of(switch, (0, 0, 0)) > pixels_of(gap, (0, 0, 0)) + 30


def test_tracks_on_nobody_come_beneath(tmp_path):
    path = tmp_path / "who.png"
    timeline(path, [panel({1: [(1, 100, 2)]}, strays=[(10, 50, 5), (20, 60, 4)])])
    assert min(pixels_of(path, colour_of(track)) for track in (2, 4, 5)) > 100


@pytest.mark.parametrize("people", [0, 1, 70])
def test_any_number_of_people_fits(people, tmp_path):
    lives = {i: [(1 + i, 900, i)] for i in range(1, people + 1)}
    timeline(tmp_path / "who.png", [panel(lives, frames=900), panel({}, frames=1)])
    assert (tmp_path / "who.png").read_bytes().startswith(b"\x89PNG")


def test_a_sequence_whose_name_looks_like_a_formula_is_drawn(tmp_path):
    path = tmp_path / "who.png"
    named = TimelinePanel(r"$\frac$", "1 person", {1: [(1, 100, 2)]}, (), 100, 25.0)
    timeline(path, [named])  # matplotlib would refuse \frac without its numbers
    assert pixels_of(path, colour_of(2)) > 100
