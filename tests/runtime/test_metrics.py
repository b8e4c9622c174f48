import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.errors import RunError
from streamvis.runtime.metrics import LatencyHistogram, Quantiles, Summary, write_summary


@given(st.lists(st.floats(1e-5, 1e3), min_size=1, max_size=200))
def test_quantiles_are_those_of_numpy_to_two_percent(seconds):
    latencies = LatencyHistogram()
    for value in seconds:
        latencies.add(value)
    found = latencies.quantiles()
    for share, value in ((0.5, found.p50), (0.95, found.p95), (0.99, found.p99)):
        exact = np.quantile(seconds, share, method="inverted_cdf") * 1e3
        assert value == pytest.approx(exact, rel=0.02, abs=1e-4)
    assert found.most == pytest.approx(max(seconds) * 1e3, abs=1e-4)


@given(st.floats(0, 1e6), st.integers(1, 1000))
def test_a_call_with_many_packets_counts_as_many(seconds, times):
    once, often = LatencyHistogram(), LatencyHistogram()
    once.add(seconds, times)
    for _ in range(times):
        often.add(seconds)
    assert once.quantiles() == often.quantiles()


def test_nothing_timed_is_all_zeros():
    assert LatencyHistogram().quantiles() == Quantiles()


def test_memory_does_not_grow_with_what_is_timed():
    latencies = LatencyHistogram()
    for value in np.geomspace(1e-9, 1e5, 20_000):
        latencies.add(float(value))
    assert len(latencies._buckets) < 1500


def test_a_summary_is_replaced_whole(tmp_path):
    for wall_s in (1.0, 2.0):
        write_summary(Summary(wall_s=wall_s, sources=[], stages=[]), tmp_path / "new")
    assert json.loads((tmp_path / "new/summary.json").read_text())["wall_s"] == 2.0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["summary.json"]


def test_a_summary_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"summary.json cannot be written"):
        write_summary(Summary(wall_s=1.0, sources=[], stages=[]), tmp_path / "file")
