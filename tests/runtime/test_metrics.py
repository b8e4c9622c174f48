import json
import time

import numpy as np
import pytest
from factories import source
from hypothesis import given
from hypothesis import strategies as st

from streamvis.config import Jipda, Pipeline, StageSpec
from streamvis.errors import RunError
from streamvis.messages import Frame
from streamvis.runtime.metrics import (
    BOUNDS_S,
    RATIO,
    LatencyHistogram,
    Meter,
    Quantiles,
    Summary,
    write_summary,
)
from streamvis.runtime.plan import group_stages, one_stage_per_worker
from streamvis.runtime.protocol import FrameCompleted
from streamvis.runtime.routing import Core

PIPELINE = Pipeline(stages=[StageSpec("track", Jipda())])


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


@given(st.lists(st.floats(1e-5, 1e3), max_size=200))
def test_a_histogram_counts_up_to_each_bound(seconds):
    latencies = LatencyHistogram()
    for value in seconds:
        latencies.add(value)
    found = latencies.histogram()
    for bound, count in zip(BOUNDS_S, found.counts, strict=False):
        fewest, most = (sum(value <= bound * f for value in seconds) for f in (1 / RATIO, RATIO))
        assert fewest <= count <= most
    assert found.counts[-1] == len(seconds)
    assert found.sum_s == pytest.approx(sum(seconds))


@given(st.floats(0, 1e6), st.integers(1, 1000))
def test_a_call_with_many_packets_counts_as_many(seconds, times):
    once, often = LatencyHistogram(), LatencyHistogram()
    once.add(seconds, times)
    for _ in range(times):
        often.add(seconds)
    assert once.quantiles() == often.quantiles()


def test_nothing_timed_is_all_zeros():
    assert LatencyHistogram().quantiles() == Quantiles()


@pytest.mark.parametrize(("clock", "timed"), [("file", 0), ("arrival", 1), ("rtcp_sr", 1)])
def test_a_live_frame_has_an_age_from_its_capture_on(clock, timed):
    core = Core(group_stages(PIPELINE, one_stage_per_worker(PIPELINE)), ["a"], window=1)
    meter = Meter(0.0)
    captured_us = round((time.time() - 60) * 1e6)
    for at in (captured_us, 0):  # 0: unknown
        done = Frame(
            source="a", seq=0, n=0, media_us=0, width=4, height=2, capture_us=at, clock=clock
        )
        meter.add_frame(FrameCompleted(done, {}, (), False, seconds=0.2), 1.0)
    status = meter.status(core, 2.0, refused=3)
    assert status.latency["a"].counts[-1] == 2
    assert sum(status.age[s].counts[-1] for s in status.age) == timed
    (report,) = status.sources
    assert report.age_ms.p50 == (pytest.approx(60_000, rel=0.05) if timed else 0)
    assert status.refused_messages == 3
    assert [(stage.workers, stage.ready) for stage in status.stages] == [(1, 0)]


def test_the_status_says_what_auto_comes_to_for_a_source_once_it_is_open():
    core = Core(group_stages(PIPELINE, one_stage_per_worker(PIPELINE)), ["a", "b"], window=1)
    meter = Meter(0.0)
    assert [report.chosen for report in meter.status(core, 1.0).sources] == [{}, {}]
    plane = (4.0, 0.0, -1280.0, 0.0, 0.0, 1600.0, 0.0, 1.0, -100.0)
    core.streams["a"].info = source("a", ground_plane=plane)
    core.streams["b"].info = source("b")
    first, second = meter.status(core, 2.0).sources
    assert first.chosen == {"track.space": "ground: gates on the ground are 3.2 m², at most 5.6 m²"}
    assert second.chosen == {}


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
