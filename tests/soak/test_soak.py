"""The harness of the soak, and a short one: its long form is `make soak`."""

import os
import subprocess
import sys

import numpy as np
import page
import pytest
import resources
import soak
from resources import Count, Sample, Usage

RECONNECTS = int(os.environ.get("STREAMVIS_RECONNECTS", "100"))


def samples(mb_per_reconnect=0.0, descriptors_per_reconnect=0.0, count=300):
    """A run whose hub starts two processes between two samples, half a second apart."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        noise = rng.normal(scale=0.05)
        warming = 20 * (1 - np.exp(-number / 10))
        rss = 40 + warming + 2 * number * mb_per_reconnect + noise
        held = int(30 + rng.integers(0, 9) + 2 * number * descriptors_per_reconnect)
        usage = {"hub": Usage(rss, rss, held, 3), "decode": Usage(35.0, 30.0, 12, 4)}
        found.append(Sample(number / 2, 2 * number, usage))
    return found


def result(**growth):
    found = samples(**growth)
    return soak.Soak(found, found[-1].at_s, soak.connections(found), "toy")


def test_the_slopes_are_those_of_the_samples():
    trend = resources.trend(samples(mb_per_reconnect=0.01), "hub")
    assert trend.mb_per_reconnect == pytest.approx(0.01, abs=2e-4)
    assert trend.mb_per_hour == pytest.approx(0.01 * 4 * 3600, rel=0.02)
    assert soak.equivalent_mb_h(trend) == pytest.approx(2.0, abs=0.04)
    assert trend.end_mb - trend.begin_mb == pytest.approx(0.01 * 2 * 190, abs=0.3)


@pytest.mark.parametrize(
    ("growth", "message"),
    [
        ({}, None),
        ({"mb_per_reconnect": 0.004}, None),
        ({"mb_per_reconnect": 0.006}, "hub: memory grows by 1.2"),
        ({"descriptors_per_reconnect": 0.1}, "hub: descriptors grow by 0.1"),
    ],
)
def test_what_grows_is_told(growth, message):
    found = page.faults(result(**growth))
    assert found == [] if message is None else found[0].startswith(message)
    assert page.verdict(result(**growth)) == (message is not None)


@pytest.mark.parametrize(("share", "fails"), [(0.0, False), (0.1, True)])
def test_one_low_count_at_the_beginning_is_no_growth_and_hides_none(share, fails):
    found = samples(descriptors_per_reconnect=share, count=50)  # as many as the short soak has
    for number, one in enumerate(found):
        count = 38 + round(2 * number * share) - (6 if number == 20 else 0)  # after the warm-up
        found[number] = Sample(one.at_s, one.started, {"hub": Usage(40.0, 40.0, count, 3)})
    run = soak.Soak(found, found[-1].at_s, soak.connections(found), "toy")
    count = run.trends()["hub"].descriptors
    assert count.per_reconnect >= page.LEAK  # of the least numbers, in both
    assert any("descriptors grow" in one for one in page.faults(run)) == fails


def test_the_page_has_a_line_for_each_process_and_its_chart(tmp_path):
    pytest.importorskip("matplotlib", reason="the chart needs matplotlib: pip install matplotlib")
    page.write(result(), tmp_path / "soak.md")
    text = (tmp_path / "soak.md").read_text()
    assert "| hub | 60.0 | 60.0 |" in text
    assert "| decode |" not in text  # it lives for one connection
    assert "(images/soak.svg)" in text
    assert (tmp_path / "images/soak.svg").read_text().count("<svg") == 1


def test_a_process_is_read_as_it_is():
    """A child with 7 more descriptors, 2 more threads and 50 MB more than before."""
    code = (
        "import os, sys, threading\n"
        "print(flush=True); sys.stdin.readline()\n"
        "held = [os.open('/dev/null', os.O_RDONLY) for _ in range(7)], b'x' * 50_000_000\n"
        "for _ in range(2): threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "print(flush=True); sys.stdin.readline()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as child:
        child.stdout.readline()
        before = resources.usage_of(child.pid)
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        after = resources.usage_of(child.pid)
        child.communicate(b"\n")
    assert after.rss_mb - before.rss_mb == pytest.approx(50, abs=3)
    assert after.pss_mb - before.pss_mb == pytest.approx(50, abs=3)
    assert after.descriptors - before.descriptors == 7
    assert after.threads - before.threads == 2
    with pytest.raises((OSError, ValueError)):
        resources.usage_of(child.pid)


def test_cameras_that_come_back_again_and_again_leave_nothing_behind():
    """What a hundred reconnects leave: less than 1 MB for those of an hour, no descriptor."""
    found = soak.soak(reconnects=RECONNECTS, detector="flicker", every_s=0.25)
    assert found.reconnects >= RECONNECTS
    assert set(found.names) == {"hub", "detect.0", "track.0", "publish.0"}
    assert page.faults(found) == []
    assert all(isinstance(trend.threads, Count) for trend in found.trends().values())
