"""Quantiles of times against NumPy, and times that are taken out again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.runners.zone_report.quantiles import ERROR, TimeHistogram

times = st.lists(st.floats(0.01, 1e6), min_size=1, max_size=60)


def filled(values):
    histogram = TimeHistogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(times)
def test_quantiles_are_those_of_numpy_within_the_stated_error(values):
    histogram = filled(values)
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        exact = np.quantile(values, share, method="lower")
        assert histogram.quantile(share) == pytest.approx(exact, rel=ERROR * 1.0001)
    assert histogram.largest == max(values)
    assert histogram.count == len(values)


@given(times, times)
def test_a_time_that_is_taken_out_was_never_there(kept, taken):
    histogram = filled([*kept, *taken])
    for value in taken:
        histogram.add(value, -1)
    alone = filled(kept)
    for share in (0.1, 0.5, 0.9):
        assert histogram.quantile(share) == alone.quantile(share)
    assert histogram.largest == pytest.approx(max(kept), rel=ERROR * 1.0001)
    assert histogram.total_s == pytest.approx(sum(kept), rel=1e-6, abs=1e-3)


def test_without_times_there_are_no_quantiles():
    histogram = TimeHistogram()
    assert (histogram.quantile(0.5), histogram.largest, histogram.count) == (None, None, 0)
    histogram.add(5.0)
    histogram.add(5.0, -1)
    assert (histogram.quantile(0.5), histogram.largest, histogram.count) == (None, None, 0)


def test_a_histogram_of_any_times_stays_small():
    histogram = filled(np.geomspace(1e-6, 1e12, 100_000))
    assert len(histogram._counts) < 1500
    assert histogram.quantile(1.0) == pytest.approx(1e9, rel=ERROR)


def test_no_time_at_all_is_a_time():
    assert filled([0.0, 0.0, 3.0]).quantile(0.5) == 0.0
