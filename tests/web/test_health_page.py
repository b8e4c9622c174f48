"""The health page in a browser: what is wrong, the numbers of a run, and a run that is over."""

from contextlib import closing

import msgspec
import numpy as np
import pytest
from controlled_runs import camera, private_home, report, stage, under_way, view_of
from event_logs import WALK, logged
from status_samples import times
from web_pages import HOSTILE, keep, opened
from web_servers import serving

from streamvis.events.log import FILE_NAME
from streamvis.runtime.metrics import BOUNDS_S, Quantiles, Summary, write_summary

QUICK = Quantiles(p50=12.5, p95=140.2, p99=3100.0, most=3200.0)
GATE = report(
    "gate",
    state="online",
    state_s=90.0,
    fps=11.98,
    decoded=12_345,
    admitted=12_300,
    dropped={"overload": 45},
    measured_fps=12.5,
    declared_fps=25.0,
    age_ms=QUICK,
    clock="rtcp_sr",
    clock_offset_ms=80.0,
    clock_drift_ppm=-25.0,
    recorded_bytes=5_000_000,
)
YARD = report("yard", state="offline", state_s=200.0, reason=HOSTILE, attempts=4)
DETECT = stage(
    "detect",
    restarts=2,
    last_exit="killed by signal 9",
    workers=2,
    ready=1,
    calls=10,
    largest_batch=8,
    device="cuda:0",
)


@pytest.fixture
def out(tmp_path):
    logged(tmp_path / FILE_NAME, "gate", WALK)
    return tmp_path


class Changing:
    """A view of a run whose status a test changes."""

    def __init__(self, run):
        view = view_of(camera("gate"), camera("yard"))
        self.status = msgspec.structs.replace(
            view.status, sources=[GATE, YARD], stages=[DETECT], age={"gate": times(0.02, 0.2)}
        )
        run.view = lambda: msgspec.structs.replace(view, status=self.status)

    def drop(self, count):
        """Have the source drop so many pictures."""
        gate = msgspec.structs.replace(GATE, dropped={"overload": 45 + count})
        ages = {"gate": times(*[0.02] * 50, *[0.2] * 50)}
        self.status = msgspec.structs.replace(self.status, sources=[gate, YARD], age=ages)


def cells(page, table, row):
    """The cells of a row by the title of their column."""
    titles = page.locator(f"#{table} thead th").all_inner_texts()
    line = page.locator(f"#{table} tbody tr").nth(row)
    return dict(zip(titles, line.locator("th, td").all_inner_texts(), strict=True))


def test_the_page_says_what_is_wrong_and_what_to_do(browser, out):
    complaints = []
    with private_home(), under_way(camera("gate"), camera("yard"), out=out) as run:
        changing = Changing(run)
        with (
            serving(out) as client,
            closing(opened(browser, f"http://{client.host}/health", complaints)) as page,
        ):
            page.locator("#faults li").first.wait_for()
            first = page.locator("#faults li").first.inner_text()
            assert f"yard offline for 3 min: {HOSTILE} (attempt 4)" in first
            assert "docs/operations.md, States of a source" in first
            texts = page.locator("#faults").inner_text()
            assert "detect: its process was restarted 2 times, the last time: killed by" in texts
            assert "dropped or skipped" not in texts  # those were dropped before the page was open
            page.evaluate("window.kept = document.querySelector('#sources tbody th')")
            changing.drop(7)
            page.locator("#faults li", has_text="gate: 7 pictures dropped or skipped").wait_for()
            assert page.evaluate("window.kept.isConnected")  # what has not changed stays
            source, found = cells(page, "sources", 0), cells(page, "stages", 0)
            assert source["age ms"] == "13 / 140 / 3100"
            assert source["dropped"] == "overload 52"
            assert source["camera frames/s"] == "12.5 of 25"
            assert source["clock"] == "rtcp_sr 80 ms, -25 ppm"
            assert source["decoded"] == "12\u202f345"
            assert (found["device"], found["workers"]) == ("cuda:0", "1 of 2")
            assert found["batch"] == "4.0, at most 8"
            assert found["last restart"] == "killed by signal 9"
            assert cells(page, "processes", 0)["process"] == "hub"
            # p95 of what came since the first sample, between 0.1 and 0.25 s
            age = page.locator("#age-now").inner_text()
            assert 100 <= float(age.removesuffix(" ms")) <= 250
            assert page.locator("#age").get_attribute("aria-label").count("now") == 1
            assert page.locator("img").count() == 0
            for width in (360, 1280):
                page.set_viewport_size({"width": width, "height": 900})
                for scheme in ("light", "dark"):
                    page.emulate_media(color_scheme=scheme)
                    keep(page, f"health-wrong-{width}-{scheme}")
    assert complaints == []


def test_of_a_run_that_is_over_the_summary_is_shown(browser, out):
    complaints = []
    ended = msgspec.structs.replace(GATE, state="ended", ending="eof")
    summary = Summary(
        wall_s=75.0, sources=[ended], stages=[DETECT], interrupted="SIGTERM", epoch="e1"
    )
    write_summary(summary, out)
    with (
        serving(out) as client,
        closing(opened(browser, f"http://{client.host}/health", complaints)) as page,
    ):
        page.locator("#ending", has_text="ended by SIGTERM").wait_for()
        (fault,) = page.locator("#faults li").all_inner_texts()
        assert "stage detect: its process was restarted 2 times" in fault
        assert cells(page, "sources", 0)["admitted"] == "12\u202f300"
        assert not page.locator("#history").is_visible()
        assert not page.locator("#processes").is_visible()
        keep(page, "health-over")
    assert complaints == []


def test_a_run_that_has_written_no_summary_is_over_too(browser, out):
    complaints = []
    with (
        serving(out) as client,
        closing(opened(browser, f"http://{client.host}/health", complaints)) as page,
    ):
        page.locator("#no-faults", has_text="The run is over.").wait_for()
        assert not page.locator("#over").is_visible()
        assert "free" in page.locator("#machine").inner_text()
    assert [one for one in complaints if "404" not in one] == []  # a browser logs each


def test_quantiles_between_two_histograms_are_those_of_numpy_within_a_bucket(browser, out):
    rng = np.random.default_rng(4)
    bounds = (0, *BOUNDS_S, np.inf)
    with (
        serving(out) as client,
        closing(opened(browser, f"http://{client.host}/health", [])) as page,
    ):
        for _ in range(20):
            old, new = (rng.lognormal(-3, 2, rng.integers(1, 200)) for _ in range(2))
            share = rng.uniform(0.05, 0.99)
            before, after = (
                msgspec.to_builtins(times(*values))
                for values in (old.tolist(), [*old.tolist(), *new.tolist()])
            )
            found = page.evaluate(
                """async ([before, after, share]) => {
                  const history = await import("/static/health_history.js");
                  return history.quantileBetween(before, after, share);
                }""",
                [before, after, share],
            )
            exact = np.quantile(new, share, method="inverted_cdf")
            bucket = np.searchsorted(bounds, exact * np.array([0.98, 1.02]))  # buckets are so exact
            low, high = bounds[bucket[0] - 1], min(bounds[bucket[1]], BOUNDS_S[-1])
            assert low * 1e3 <= found * (1 + 1e-9)
            assert found <= high * 1e3 * (1 + 1e-9)
