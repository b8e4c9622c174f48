"""The timeline in a real browser: what its lanes show, and what pointer and keys do."""

import re

import pytest
from controlled_runs import camera, private_home, under_way
from lane_events import append, made
from web_pages import HOSTILE, keep, opened, violations
from web_servers import serving
from web_video import picture_of
from zone_logs import SECOND, begin, cross, end, enter, leave, write_log

from streamvis.events.log import FILE_NAME
from streamvis.events.source_events import Change as Why
from streamvis.events.source_events import SourceOffline, SourceOnline, Stream
from streamvis.web import lane_query

AXIS, GUTTER, SOURCE = 26, 132, 30  # px of the canvas: axis, names, and lane of states
WALL_US = 1_790_000_000_000_000
STRETCH = "from=0&to=20000000"


def name(number):
    return f"cam1:1:{number}"


DAY = [
    (0, SourceOnline(Stream(label=HOSTILE, w=640, h=480, live=True))),
    (2 * SECOND, begin(name(1))),
    (3 * SECOND, enter("door", name(1), 3 * SECOND)),
    (4 * SECOND, begin(name(2))),
    (5 * SECOND, cross("gate", name(1), 5 * SECOND)),
    (6 * SECOND, leave("door", name(1), 3 * SECOND, 6 * SECOND)),
    (8 * SECOND, enter(HOSTILE, name(2), 8 * SECOND)),
    (12 * SECOND, end(name(1), 12 * SECOND)),
    (15 * SECOND, SourceOffline(Why("timeout"))),
    (20 * SECOND, SourceOnline(Stream(label="x", w=640, h=480, live=True))),
]


@pytest.fixture
def out(tmp_path):
    write_log(tmp_path / FILE_NAME, DAY, capture_us=WALL_US)
    return tmp_path


CLIP = {"source": "cam1", "event": "x", "url": "/api/clips/cam1/day/clip.mp4?offset=9"}


def with_pictures(page):
    page.route("**/api/clips?*", lambda route: route.fulfill(json={"clips": [CLIP], "next": None}))
    page.route(
        "**/api/picture/**",
        lambda route: route.fulfill(body=picture_of(3), content_type="image/jpeg"),
    )


def stretch_of(page):
    """Return the stretch in view, from the address, once it says it."""
    page.locator("#list[aria-busy=false]").wait_for()
    return tuple(int(n) for n in re.findall(r"(?:from|to)=(-?\d+)", page.url))


def at(page, seconds, y):
    """Return the point of a time, in px of the canvas."""
    start, stop = stretch_of(page)
    width = page.locator("#lanes").evaluate("one => one.clientWidth")
    share = (seconds * SECOND - start) / (stop - start)
    return {"x": GUTTER + share * (width - GUTTER), "y": y}


def colour_at(page, point):
    return page.locator("#lanes").evaluate(
        """(canvas, {x, y}) => {
          const ratio = canvas.width / canvas.clientWidth;
          return [...canvas.getContext("2d").getImageData(x * ratio, y * ratio, 1, 1).data];
        }""",
        point,
    )


def test_lanes_show_what_was_and_a_click_shows_its_event(browser, out):
    complaints = []
    with serving(out) as client:
        page = opened(browser, f"http://{client.host}/timeline?source=cam1&{STRETCH}", complaints)
        with_pictures(page)
        page.locator("#stretch:not(:empty)").wait_for()
        first_row = AXIS + SOURCE + 5 + 7
        empty = colour_at(page, at(page, 1, first_row))
        assert colour_at(page, at(page, 3, first_row)) != empty  # track 1
        assert colour_at(page, at(page, 13, first_row)) == empty
        assert colour_at(page, at(page, 13, first_row + 16)) != empty  # track 2 goes on
        page.locator("#lanes").click(position=at(page, 7, first_row))
        page.get_by_role("heading", name="track.begin cam1:1:1").wait_for()
        members = page.locator("#members tr", has_text="track.id")
        assert members.locator("td").inner_text() == "cam1:1:1"
        page.get_by_role("img", name="picture of cam1").wait_for()
        link = page.get_by_role("link", name="Look back").get_attribute("href")
        assert link == "/source?id=cam1&at=2000000"
        assert page.get_by_role("link", name="Clip").get_attribute("href") == CLIP["url"]
        page.locator("#lanes").click(position=at(page, 7, first_row))  # again: its end
        page.get_by_role("heading", name="track.end cam1:1:1").wait_for()
        page.get_by_role("button", name="Close").click()
        assert not page.locator("#event").is_visible()
        page.get_by_role("button", name="zone.enter").last.click()
        page.get_by_role("heading", name=f"zone.enter {HOSTILE}").wait_for()
        assert page.locator("#members img").count() == 0
        for width in (360, 1280, 1920):
            page.set_viewport_size({"width": width, "height": 1000})
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                page.wait_for_timeout(300)
                keep(page, f"timeline-{width}-{scheme}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.close()
    assert complaints == []


def test_wheel_drag_and_keys_move_the_stretch(browser, out):
    complaints = []
    with serving(out) as client:
        page = opened(browser, f"http://{client.host}/timeline?source=cam1&{STRETCH}", complaints)
        page.locator("#stretch:not(:empty)").wait_for()
        lanes = page.locator("#lanes")
        assert stretch_of(page) == (0, 20 * SECOND)
        point = at(page, 5, AXIS + 60)
        lanes.hover(position=point)
        before = page.url
        page.mouse.wheel(0, -100)
        page.wait_for_function("before => location.href !== before", arg=before)
        start, stop = stretch_of(page)
        assert stop - start < 15 * SECOND
        width = lanes.evaluate("one => one.clientWidth")
        under = start + (point["x"] - GUTTER) / (width - GUTTER) * (stop - start)
        assert under == pytest.approx(5 * SECOND, abs=0.05 * SECOND)  # it stays under the pointer
        box = lanes.bounding_box()
        page.mouse.move(box["x"] + 400, box["y"] + 60)
        page.mouse.down()
        page.mouse.move(box["x"] + 300, box["y"] + 60, steps=3)
        page.mouse.up()
        moved = stretch_of(page)
        by_us = 100 / (width - GUTTER) * (stop - start)
        assert moved == pytest.approx((start + by_us, stop + by_us), abs=0.05 * SECOND)
        lanes.press("0")
        whole = stretch_of(page)
        assert whole[0] <= 0
        assert whole[1] >= 20 * SECOND
        lanes.press("+")
        assert stretch_of(page)[1] - stretch_of(page)[0] == pytest.approx(
            (whole[1] - whole[0]) / 2, abs=2
        )
        before = stretch_of(page)
        lanes.press("ArrowRight")
        assert stretch_of(page)[0] > before[0]
        lanes.press("Home")
        assert stretch_of(page)[0] == 0
        lanes.press("End")
        assert stretch_of(page)[1] == 20 * SECOND
        for _ in range(12):
            lanes.press("+")
        start, stop = stretch_of(page)
        assert stop - start == pytest.approx(100_000, abs=2)  # a few frames
        page.get_by_role("button", name="All").click()
        assert stretch_of(page) == whole
        page.close()
    assert complaints == []


def test_where_events_are_many_a_click_zooms_in(browser, out, monkeypatch):
    monkeypatch.setattr(lane_query, "MOST_SPANS", 1)
    complaints = []
    with serving(out) as client:
        page = opened(browser, f"http://{client.host}/timeline?source=cam1&{STRETCH}", complaints)
        page.locator("#stretch:not(:empty)").wait_for()
        lanes = page.locator("#lanes")
        bottom = AXIS + SOURCE + 104 - 8
        assert colour_at(page, at(page, 5, bottom)) != colour_at(page, at(page, 1, bottom))
        lanes.click(position=at(page, 5, bottom))
        start, stop = stretch_of(page)
        assert stop - start == pytest.approx(2.5 * SECOND, abs=0.01 * SECOND)
        assert start < 5 * SECOND < stop
        page.close()
    assert complaints == []


def test_the_newest_event_stays_in_view_while_the_run_goes_on(browser, tmp_path):
    complaints = []
    path = tmp_path / FILE_NAME
    append(path, made([(0, 1, "door", 0), (3, 1, "door", 5 * SECOND)]))
    with private_home(), under_way(camera("cam1"), out=tmp_path), serving(tmp_path) as client:
        page = opened(browser, f"http://{client.host}/timeline", complaints)
        page.locator("#stretch", has_text="0:00:00.00 – 0:00:05.00").wait_for()
        newest = page.get_by_role("button", name="Newest")
        assert newest.get_attribute("aria-pressed") == "true"
        append(path, made([(0, 2, "door", 60 * SECOND)], first=2))
        page.locator("#stretch", has_text="0:01:00").wait_for()
        newest.click()
        append(path, made([(0, 3, "door", 90 * SECOND)], first=3))
        page.wait_for_timeout(3000)
        assert "0:01:30" not in page.locator("#stretch").inner_text()
        page.locator("#lanes").press("End")
        page.locator("#stretch", has_text="0:01:30").wait_for()
        page.close()
    assert complaints == []


def test_it_is_accessible(axe, browser, out):
    with serving(out) as client:
        for scheme in ("light", "dark"):
            page = browser.new_page(bypass_csp=True, color_scheme=scheme)
            with_pictures(page)
            page.goto(f"http://{client.host}/timeline?source=cam1&{STRETCH}")
            page.locator("#listed tr").first.wait_for()
            page.get_by_role("button", name="track.begin").first.click()
            page.get_by_role("img", name="picture of cam1").wait_for()
            assert violations(page, axe) == []
            page.close()
