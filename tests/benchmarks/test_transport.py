"""What the benchmark of transport measures; how fast is for `make bench` to say."""

import importlib.util

import numpy as np
import pytest

from streamvis.benchmarks import transport, transport_peers
from streamvis.benchmarks.transport import HopCost
from streamvis.benchmarks.transport_peers import LAST, WARM_UP, WAYS, Passed
from streamvis.errors import RunError


def test_only_the_last_picture_is_marked_and_the_first_do_not_count():
    taken = []
    marks = [
        transport_peers.touch(picture)
        for picture in transport_peers.counted(
            transport_peers.pictures(0.01, (9, 7, 3)), taken.append
        )
    ]
    assert marks[-1]
    assert not any(marks[:-1])
    assert taken[0].pictures == len(marks) - WARM_UP > 0
    assert taken[0].seconds > 0


def test_a_received_picture_is_the_sent_one_with_its_mark():
    *_, last = transport_peers.pictures(0.0, (4, 5, 3))
    first = next(transport_peers.pictures(0.0, (4, 5, 3)))
    assert last[0, 0, 0] == LAST
    np.testing.assert_array_equal(last.ravel()[1:], first.ravel()[1:])


@pytest.mark.parametrize("name", WAYS)
def test_pictures_go_the_whole_way(name):
    way = WAYS[name]
    if way.module and importlib.util.find_spec(way.module) is None:
        pytest.skip(f"{name} is not installed: {way.install}")
    passed = transport.other(name, 0.2)
    assert passed.pictures > 0
    assert passed.seconds > 0
    assert passed.cpu_s > 0


def test_ours_is_a_run_with_all_its_processes():
    passed = transport.ours(3.0)
    assert passed.pictures > 0
    assert 0 < passed.seconds <= 4
    assert passed.cpu_s > 0


def test_costs_are_medians_of_rounds():
    rounds = [Passed(100, 1.0, 0.2), Passed(100, 4.0, 0.3), Passed(100, 2.0, 5.0)]
    assert transport.cost_of(rounds) == HopCost(pictures_per_s=50.0, core_ms=3.0)


def test_ways_alternate_and_those_that_are_absent_are_named(monkeypatch):
    calls = []

    def ours(seconds):
        calls.append("streamvis")
        return Passed(300, 1.0, 0.3)

    def other(name, seconds):
        calls.append(name)
        return Passed(100, 1.0, 0.6)

    monkeypatch.setattr(transport, "ours", ours)
    monkeypatch.setattr(transport, "other", other)
    monkeypatch.setattr(transport, "_installed", lambda module: module != "vidgear")
    report = transport.measure(rounds=2)
    assert calls == ["streamvis", "bare memcpy", "imagezmq"] * 2
    assert report.times_as_fast == {"bare memcpy": 3.0, "imagezmq": 3.0}
    assert report.cpu_time == {"bare memcpy": 0.17, "imagezmq": 0.17}
    assert report.left_out == {"VidGear NetGear": "pip install vidgear"}


HALF = """
import sys, threading
if sys.argv[2] == "send":
    sys.exit("there is no camera")
threading.Event().wait()
"""


def test_a_side_that_fails_says_why_though_the_other_waits_for_it(tmp_path, monkeypatch):
    (tmp_path / "half.py").write_text(HALF)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(transport_peers, "__name__", "half")
    with pytest.raises(RunError, match="imagezmq failed to send: there is no camera"):
        transport.other("imagezmq", 0.1)
