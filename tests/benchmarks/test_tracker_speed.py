"""Times of our tracker and of others."""

import json

import msgspec

from streamvis.benchmarks import (
    jpda_step,
    peers,
    simulated_detections,
    tracker_speed,
)


def test_contenders_take_turns_and_the_warm_up_does_not_count(monkeypatch):
    calls: list[tuple[str, int]] = []

    def contender(name):
        return lambda frame: lambda: calls.append((name, frame)) or frame

    contenders = {name: contender(name) for name in "ab"}
    taken = tracker_speed.interleaved(contenders, range(5, 9), warm_up=1)
    assert calls == [(name, frame) for frame in range(5, 9) for name in "ab"]
    assert taken["a"].results == [6, 7, 8]
    assert len(taken["a"].seconds) == 3
    monkeypatch.setattr(tracker_speed, "BUDGET_S", 0)
    assert tracker_speed.interleaved(contenders, range(5), warm_up=0)["a"].ms is None


def test_who_is_slow_is_not_shown_larger_scenes(monkeypatch):
    slow = tracker_speed.Timings([0.1, 3.0, 4.0], [])
    fast = tracker_speed.Timings([0.1], [])
    none = tracker_speed.Timings([], [])
    before = {10: {"fast": fast, "slow": slow, "none": none}}
    contenders = dict.fromkeys(("fast", "slow", "none", "new"), tracker_speed._whole)
    assert list(tracker_speed._fast_enough(contenders, before)) == ["fast", "new"]
    part = msgspec.to_builtins(tracker_speed.step_part({**before, 20: {"fast": fast}}))
    assert part["sizes"]["10"]["ms"] == {"fast": 100.0, "slow": 3000.0, "none": None}
    assert part["sizes"]["20"]["ms"] == {"fast": 100.0, "slow": None, "none": None}
    assert part["given_up"] == {
        "slow": "3.0 s for a frame of 10 people",
        "none": "more than 5 s for the first frames of 10 people",
    }


def test_the_exponent_of_a_power_is_found():
    taken = {n: {"a": tracker_speed.Timings([1e-5 * n**1.5], [])} for n in (10, 50, 200, 500)}
    assert tracker_speed._exponents(taken) == {"a": 1.5}
    assert tracker_speed._exponents({50: taken[50]}) == {}


def test_without_any_peer_the_report_is_ours_and_says_how_to_install_them(monkeypatch):
    monkeypatch.setattr(peers, "imports", lambda module: False)
    monkeypatch.setattr(jpda_step, "imports", lambda module: False)
    report = msgspec.to_builtins(tracker_speed.measure((5, 10)))
    assert set(report["not_installed"]) == {"Norfair", "SORT", "ByteTrack", "Stone-Soup"}
    for part in ("tracker", "jpda_step"):
        for people in (5, 10):
            at = report[part]["sizes"][str(people)]
            assert at["detections"] == simulated_detections.detections_of(people)
            assert list(at["ms"]) == [tracker_speed.OURS]
            assert at["ms"][tracker_speed.OURS] > 0
        assert report[part]["given_up"] == {}
    assert 0 < report["tracker"]["sizes"]["10"]["reported"][tracker_speed.OURS] < 14
    assert report["jpda_step"]["sizes"]["10"]["gated"] > 0.5
    json.dumps(report)
