"""Colours, text sizes and grid steps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.viz.style import PALETTE, Style, nice_step


def test_no_colour_is_given_twice():
    assert len(set(PALETTE)) == len(PALETTE)


@pytest.mark.parametrize(
    ("height", "width", "least"), [(240, 320, 9), (480, 640, 9), (1080, 1920, 17)]
)
def test_text_stays_legible(height, width, least):
    style = Style.for_size(height, width)
    assert least <= style.text <= height / 26


@given(st.floats(1e-3, 1e6))
def test_grid_steps_are_round_and_few(span):
    step = nice_step(span, 6)
    assert span / 6 <= step * (1 + 1e-6)
    assert step < span * 10 / 6
    assert round(step / 10 ** np.floor(np.log10(step) + 1e-9), 6) in (1, 2, 5)
