"""The pages in a real browser: what they show, what they refuse, how they look."""

import pytest
from controlled_runs import camera, private_home, report, under_way
from event_logs import WALK, logged
from web_pages import HOSTILE, keep, opened, violations
from web_servers import serving

from streamvis.events.log import FILE_NAME, LogReader
from streamvis.zone_layout import ZoneLayout


@pytest.fixture
def out(tmp_path):
    logged(tmp_path / FILE_NAME, "cam1", WALK[:2])
    return tmp_path


def append(out, whats=WALK[2:]):
    with LogReader(out / FILE_NAME) as log:
        first = log.cursors()["cam1"].next
    logged(out / FILE_NAME, "cam1", whats, first=first)


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
            page = opened(browser, f"http://{client.host}/", complaints)
            page.get_by_label("as a list").check()
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
            page.get_by_role("link", name="Live", exact=True).wait_for()
            page.close()
    assert complaints == []


def test_the_page_goes_on_after_a_restart_of_the_server(browser, out):
    with serving(out) as client:
        page = opened(browser, f"http://{client.host}/", [])
        page.locator("#cards li", has_text="cam1").wait_for()
        address = client.host
    append(out)
    with serving(out, address=address):
        page.locator("#events .type", has_text="source.eof").wait_for()
        types = page.locator("#events .type").all_inner_texts()
        assert types == ["source.eof", "track.end", "track.begin", "track.begin"]
        page.close()


def test_the_pages_are_accessible(axe, browser, out):
    with serving(out) as client:
        for path in ("", "reference"):
            for scheme in ("light", "dark"):
                page = browser.new_page(bypass_csp=True, color_scheme=scheme)  # for its script
                page.goto(f"http://{client.host}/{path}")
                page.locator("#cards li, tbody tr").first.wait_for()
                assert violations(page, axe) == []
                page.close()


def test_a_token_is_asked_for(browser, out):
    with serving(out, token_file=out / "token") as client:
        page = opened(browser, f"http://{client.host}/", [])
        field = page.get_by_label("Token")
        field.wait_for()
        assert page.locator("#cards li").count() == 0
        field.fill("wrong")
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("alert").filter(has_text="it is wrong").wait_for()
        field.fill((out / "token").read_text().strip())
        field.press("Enter")
        page.locator("#cards li", has_text="cam1").wait_for()
        assert not field.is_visible()
        assert page.evaluate("document.cookie") == ""  # no script can read it
        page.close()
