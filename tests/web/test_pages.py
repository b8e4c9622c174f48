"""The pages in a real browser: what they show, what they refuse, how they look.

With STREAMVIS_SCREENSHOTS=DIRECTORY the pictures of the page are kept there.
"""

import os
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from controlled_runs import camera, private_home, report, under_way
from event_logs import WALK, logged
from web_servers import serving

from streamvis.events.log import FILE_NAME, LogReader
from streamvis.zone_layout import ZoneLayout

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "<img src=x onerror=alert(1)>"
PATIENCE_MS = 20_000


@pytest.fixture
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="install playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium: install chromium")
    with (
        sync_api.sync_playwright() as playwright,
        closing(
            playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        ) as found,
    ):
        yield found


@pytest.fixture
def out(tmp_path):
    logged(tmp_path / FILE_NAME, "cam1", WALK[:2])
    return tmp_path


def append(out, whats=WALK[2:]):
    with LogReader(out / FILE_NAME) as log:
        first = log.cursors()["cam1"].next
    logged(out / FILE_NAME, "cam1", whats, first=first)


def opened(browser, client, complaints, **options):
    """Open the live page; what the browser complains about goes into `complaints`."""
    page = browser.new_page(**options)
    page.set_default_timeout(PATIENCE_MS)
    page.on("console", lambda m: m.type == "error" and complaints.append(m.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message) or dialog.dismiss())
    page.goto(f"http://{client.host}/")
    return page


def keep(page, name):
    if folder := os.environ.get("STREAMVIS_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_the_live_page_shows_sources_and_events_as_they_come(browser, out):
    complaints = []
    with (
        private_home(),
        under_way(camera("cam1"), camera("yard"), out=out, zones=ZoneLayout()) as r,
    ):
        r.reports["yard"] = report(
            "yard", state="offline", state_s=200.0, reason=HOSTILE, dropped={"overload": 7}
        )
        r.reports["cam1"] = report("cam1", state="online", state_s=90.0, fps=11.98, label=HOSTILE)
        with serving(out) as client:
            page = opened(browser, client, complaints)
            row = page.locator("#sources tr", has_text="cam1")
            row.locator(".chip.online").wait_for()
            row.locator("td").nth(1).filter(has_text="1").wait_for()  # people
            assert row.locator("td").nth(2).inner_text() == "12.0"
            yard = page.locator("#sources tr", has_text="yard")
            assert HOSTILE in yard.inner_text()
            assert yard.locator("td").nth(4).inner_text() == "7"
            append(out)
            page.locator("#events .type", has_text="source.eof").wait_for()
            types = page.locator("#events .type").all_inner_texts()
            assert types == ["source.eof", "track.end", "track.begin", "track.begin"]
            row.locator("td").nth(1).filter(has_text="0").wait_for()
            page.get_by_label("with updates").check()
            assert page.locator("img").count() == 0
            assert page.get_by_role("table").count() == 1
            for width in (360, 1920):
                page.set_viewport_size({"width": width, "height": 900})
                for scheme in ("light", "dark"):
                    page.emulate_media(color_scheme=scheme)
                    keep(page, f"live-{width}-{scheme}")
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width
            page.goto(f"http://{client.host}/reference")
            page.get_by_role("link", name="live", exact=True).wait_for()
            page.close()
    assert complaints == []


def test_the_page_goes_on_after_a_restart_of_the_server(browser, out):
    with serving(out) as client:
        page = opened(browser, client, [])
        page.locator("#sources tr", has_text="cam1").wait_for()
        address = client.host
    append(out)
    with serving(out, address=address):
        page.locator("#events .type", has_text="source.eof").wait_for()
        types = page.locator("#events .type").all_inner_texts()
        assert types == ["source.eof", "track.end", "track.begin", "track.begin"]
        page.close()


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """The script of axe-core, which checks pages for people who use a screen reader."""
    if shutil.which("npm") is None:
        pytest.skip("no npm: install npm, which fetches axe-core")
    home = tmp_path_factory.mktemp("axe")
    quick = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0"]
    command = ["npm", "install", "--prefix", str(home), *quick, "axe-core@4"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("npm install took over 60 s: the package registry is unreachable")
    if done.returncode:
        pytest.skip(f"npm cannot install axe-core: {done.stderr.splitlines()[:1]}")
    return home / "node_modules" / "axe-core" / "axe.min.js"


def test_the_pages_are_accessible(axe, browser, out):
    with serving(out) as client:
        for path in ("", "reference"):
            for scheme in ("light", "dark"):
                page = browser.new_page(bypass_csp=True, color_scheme=scheme)  # for its script
                page.goto(f"http://{client.host}/{path}")
                page.locator("tbody tr").first.wait_for()
                page.add_script_tag(path=axe)
                found = page.evaluate("axe.run()")["violations"]
                assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
                page.close()


def test_a_token_is_asked_for(browser, out):
    with serving(out, token_file=out / "token") as client:
        page = opened(browser, client, [])
        field = page.get_by_label("Token")
        field.wait_for()
        assert page.locator("#sources tr").count() == 0
        field.fill("wrong")
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("alert").filter(has_text="it is wrong").wait_for()
        field.fill((out / "token").read_text().strip())
        field.press("Enter")
        page.locator("#sources tr", has_text="cam1").wait_for()
        assert not field.is_visible()
        assert page.evaluate("document.cookie") == ""  # no script can read it
        page.close()
