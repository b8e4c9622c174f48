"""The grid of the live page in a real browser: small pictures while they are visible, keys."""

import time

import pytest
from controlled_runs import camera, private_home, report, under_way
from event_logs import WALK, logged
from web_pages import HOSTILE, keep, opened, violations
from web_servers import serving
from web_video import HEIGHT, STEP_US, WIDTH, Video, picture_of

from streamvis.events.log import FILE_NAME
from streamvis.events.source_events import Finish, SourceEof, SourceOnline, Stream

CAMERAS = [f"cam{number}" for number in range(1, 13)]


@pytest.fixture
def live(tmp_path):
    """A run with twelve cameras, of which the last one is offline, and its web server."""
    logged(tmp_path / FILE_NAME, "cam1", WALK[:2])
    with private_home(), under_way(*map(camera, CAMERAS), out=tmp_path) as run:
        for name in CAMERAS:
            run.reports[name] = report(name, state="online", fps=25.0, label=HOSTILE)
        lost = report("cam12", state="offline", state_s=90.0, reason=HOSTILE, dropped={"decode": 7})
        run.reports["cam12"] = lost
        with serving(tmp_path) as client:
            yield f"http://{client.host}"


def watched(video):
    return [socket.url.rpartition("/")[2] for socket in video.sockets]


def test_pictures_come_at_a_low_rate_and_only_while_they_are_visible(browser, live):
    complaints = []
    viewport = {"width": 700, "height": 600}
    page = opened(browser, f"{live}/reference", complaints, viewport=viewport)
    video = Video(page)
    page.goto(live)
    video.wait(lambda: len(video.sockets) >= 2)
    page.wait_for_timeout(200)
    assert "cam1" in watched(video)
    assert "cam11" not in watched(video)  # below what is visible
    first = next(one for one in video.sockets if one.url.endswith("/cam1"))
    began = time.monotonic()
    for n in range(3):
        video.tracks(n, to=first)
        video.picture(n, to=first)
        video.wait(lambda n=n: n in video.acknowledged)
    assert time.monotonic() - began > 0.9  # two gaps of half a second
    assert page.locator("#cards canvas").first.get_attribute("data-pictures") == "3"
    page.locator("#cards li").last.scroll_into_view_if_needed()
    video.wait(lambda: "cam11" in watched(video))
    video.wait(lambda: first in video.closed)
    assert "cam12" not in watched(video)  # it is offline
    page.close()
    assert complaints == []


def test_cards_say_how_sources_are_and_keys_move_between_them(axe, browser, live):
    page = browser.new_page(bypass_csp=True, viewport={"width": 1280, "height": 800})  # for axe
    video = Video(page)
    page.goto(live)
    lost = page.locator("#cards li", has_text="cam12")
    lost.locator(".chip.offline").wait_for()
    assert HOSTILE in lost.inner_text()
    assert "7 dropped" in lost.inner_text()
    page.locator("#cards li", has_text="1 person").wait_for()
    assert page.locator("img").count() == 0
    video.wait(lambda: len(video.sockets) >= 6)
    for n, socket in enumerate(video.sockets):
        video.tracks(n, to=socket)
        video.picture(n, to=socket)
    video.wait(lambda: len(video.acknowledged) == len(video.sockets))
    for width in (360, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(100)
            keep(page, f"grid-{width}-{scheme}")
            assert violations(page, axe) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    tops = page.locator("#cards a").evaluate_all("(all) => all.map((one) => one.offsetTop)")
    columns = tops.count(tops[0])
    page.keyboard.press("ArrowDown")  # into the grid
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/source?id=cam{1 + columns}")
    page.close()


def test_a_run_that_is_over_shows_a_picture_of_its_recording(browser, tmp_path):
    stream = Stream(label="gate.mp4", w=WIDTH, h=HEIGHT, fps=25.0)
    whats = [(0, SourceOnline(stream)), *WALK[:2], (40, SourceEof(Finish(41)))]
    logged(tmp_path / FILE_NAME, "cam1", whats)
    asked = []
    with serving(tmp_path) as client:
        page = opened(browser, f"http://{client.host}/reference", [])

        def answer(route):
            asked.append(route.request.url.partition("/api/")[2])
            route.fulfill(body=picture_of(20), content_type="image/jpeg")

        page.route("**/api/picture/**", answer)
        page.goto(f"http://{client.host}/")
        page.locator('#cards canvas[data-pictures="1"]').wait_for()
        page.wait_for_timeout(100)
        page.close()
    assert asked == [f"picture/cam1?media_us={20 * STEP_US}"]
