"""What the benchmark of the hub measures, with clocks that are known."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from factories import packet

from streamvis.benchmarks import hub
from streamvis.messages import Detections, Receipt, Tracks
from streamvis.sources.spec import SourceSpec


def test_a_hop_is_from_the_end_of_one_stage_to_the_start_of_the_next(tmp_path, monkeypatch):
    """The clock advances by 1 ms at each reading: at arrival, and when a part is done."""
    clock = itertools.count(0, 1_000_000)
    monkeypatch.setattr(hub, "time", SimpleNamespace(monotonic_ns=clock.__next__, sleep=None))
    stamp, look = hub.Probe("stamp", "detections", None), hub.Probe("look", "tracks", tmp_path)
    for seq in range(5):
        (stamped,) = stamp([packet(seq)])
        assert isinstance(stamped, Detections)
        (looked,) = look([packet(seq, stamped)])
        assert isinstance(looked, Tracks)
    look.close()
    stamp.close()
    with np.load(tmp_path / "look.npz") as recorded:
        assert recorded["hops"].tolist() == [1_000_000] * 5
        assert recorded["arrivals"].tolist() == [2_000_000 + 3_000_000 * n for n in range(5)]
    (receipt,) = hub.Probe("end", "receipt", None)([packet(0)])
    assert isinstance(receipt, Receipt)


def test_blank_pictures_are_as_many_as_asked_for():
    options = {"frames": "4", "pause_s": "0.0"}
    spec = SourceSpec(id="a", uri="blanks", kind="synthetic", options=options)
    source = hub.BlankSource(spec, epoch=3)
    assert [(p.n, p.media_us) for p in source] == [(n, 1000 * n) for n in range(4)]
    assert (source.info.id, source.info.epoch, source.info.live) == ("a", 3, False)


def test_hops_are_microseconds_without_the_first_frames(monkeypatch):
    recorded = {"hops": np.arange(hub.WARM_UP + 5) * 1000}
    monkeypatch.setattr(hub, "_run", lambda *given: recorded)
    assert hub.hop(frames=5).tolist() == [hub.WARM_UP + n for n in range(5)]


def test_the_capacity_leaves_out_the_time_to_start_and_end(monkeypatch):
    """Of a hub that takes 7 s to start, and 1 ms for each of the four hops of a frame."""
    spent = [0.0]

    def run(pipeline, placement, frames, pause_s=0.0):
        spent[0] += 7 + 4e-3 * frames

    monkeypatch.setattr(hub, "time", SimpleNamespace(process_time=lambda: spent[0]))
    monkeypatch.setattr(hub, "_run", run)
    assert hub.capacity(frames=100) == pytest.approx(1000)


def test_a_pipeline_as_fast_as_its_slowest_stage_has_a_throughput_of_one(monkeypatch):
    """The stage alone takes 10 ms a frame; frames arrive at the second stage every 10 ms."""
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    clocks = SimpleNamespace(
        perf_counter=lambda: now[0], monotonic_ns=lambda: round(now[0] * 1e9), sleep=sleep
    )
    monkeypatch.setattr(hub, "time", clocks)
    arrivals = np.arange(hub.WARM_UP + 20) * 10_000_000
    monkeypatch.setattr(hub, "_run", lambda *given: {"arrivals": arrivals})
    assert hub.throughput(frames=20) == pytest.approx(1)
    monkeypatch.setattr(hub, "_run", lambda *given: {"arrivals": 2 * arrivals})
    assert hub.throughput(frames=20) == pytest.approx(0.5)


def test_the_report_has_the_median_and_the_tail(monkeypatch):
    monkeypatch.setattr(hub, "hop", lambda: np.arange(101.0))
    monkeypatch.setattr(hub, "capacity", lambda: 12345.6)
    monkeypatch.setattr(hub, "throughput", lambda: 0.98765)
    report = hub.measure()
    assert (report.hop_us_p50, report.hop_us_p99) == (50, 99)
    assert (report.hops_per_cpu_second, report.pipeline_over_slowest_stage) == (12346, 0.988)
