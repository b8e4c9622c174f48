"""Gaps are counted exactly, and each has one notice a second at most."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamvis.runtime.gaps import Gap, GapCounter, GapNotices
from streamvis.sources.picture import Picture


def picture(n):
    return Picture(pixels=np.zeros((1, 1, 3), np.uint8), n=n, media_us=n)


@given(st.lists(st.integers(0, 5), max_size=30))
def test_the_counts_add_up(steps):
    counter, n, missing = GapCounter(), -1, 0
    for step in steps:
        missing += step
        n += step + 1
        counter.note(picture(n))
    gaps = counter.take()
    assert sum(m.count for m in gaps) == missing
    assert counter.take() == []


def test_gaps_without_notice_are_all_there_at_the_end():
    gaps = GapNotices()
    for n in range(10):
        gaps.add(Gap("overload", 1, 2 * n, 2 * n))
        gaps.take(n / 10)
    gaps.add(Gap("decode", 3, 30, 40))
    assert gaps.take_all() == [Gap("overload", 9, 2, 18), Gap("decode", 3, 30, 40)]
    assert gaps.take_all() == []
