"""All pages of the server: what a browser, a keyboard and a screen reader need of each of them."""

from contextlib import closing
from importlib import resources

import msgspec
import pytest
from controlled_runs import camera, private_home, report, stage, under_way, view_of
from event_logs import WALK, logged
from web_pages import HOSTILE, keep, opened, violations
from web_servers import serving

from streamvis.events.log import FILE_NAME
from streamvis.zone_layout import ZoneLayout

OF_A_SOURCE = ("source", "timeline", "zones")  # pages that are about the source in their query
PAGES = sorted(
    file.name.removesuffix(".html")
    for file in (resources.files("streamvis.web") / "static").iterdir()
    if file.name.endswith(".html")
)
WIDTHS, SCHEMES = (360, 1920), ("light", "dark")
SETTLE_MS = 700  # for the answers that a page waits for
MOST_TABS = 150
CSP = (
    "addEventListener('securitypolicyviolation', e => console.error(`CSP: ${e.violatedDirective}`))"
)
REACHABLE = """() => [...document.querySelectorAll('a[href], button, input, select, summary')]
  .filter((one) => one.checkVisibility() && !one.disabled && one.tabIndex >= 0
    && one.type !== 'radio').map((one) => KEY(one))"""
FOCUSED = "() => document.activeElement === document.body ? '' : KEY(document.activeElement)"
KEY = (
    "`${one.localName} ${one.id} ${one.getAttribute('href') ?? one.name ?? ''} ${one.textContent}`"
)


def script(text):
    return text.replace("KEY(one)", KEY).replace(
        "KEY(document.activeElement)", f"((one) => {KEY})(document.activeElement)"
    )


def address(client, name):
    path = "" if name == "index" else name
    return f"http://{client.host}/{path}{'?id=gate' if name in OF_A_SOURCE else ''}"


@pytest.fixture(scope="module")
def browser(chromium):
    """One for all tests: to start it takes longer than to look at a page."""
    playwrights, path = chromium
    with (
        playwrights() as playwright,
        closing(playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])) as found,
    ):
        yield found


@pytest.fixture
def client(tmp_path):
    """The server of a run with a camera that is online, and one that is away."""
    logged(tmp_path / FILE_NAME, "gate", WALK[:3])
    specs = camera("gate", zones=ZoneLayout()), camera("yard")
    with private_home(), under_way(*specs, out=tmp_path, zones=ZoneLayout()) as run:
        view = view_of(*specs, zones=ZoneLayout())
        sources = [
            report("gate", state="online", state_s=9.0, fps=12.0, label=HOSTILE),
            report("yard", state="offline", state_s=90.0, reason=HOSTILE, attempts=3),
        ]
        status = msgspec.structs.replace(
            view.status, sources=sources, stages=[stage("detect", restarts=1, last_exit=HOSTILE)]
        )
        run.view = lambda: msgspec.structs.replace(view, status=status)
        with serving(tmp_path) as found:
            yield found


def is_of_the_page(complaint):
    """Whether it is not of an answer of the API: this run has no pictures."""
    return "Failed to load resource" not in complaint


@pytest.mark.parametrize("name", PAGES)
def test_a_page_works_in_any_width_and_scheme_and_by_keyboard(browser, client, name):
    complaints = []
    blank = f"http://{client.host}/static/icon.svg"
    with closing(opened(browser, blank, complaints)) as page:
        page.add_init_script(CSP)
        page.goto(address(client, name))
        page.locator("header nav a").first.wait_for()
        page.wait_for_timeout(SETTLE_MS)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme)
                page.wait_for_timeout(100)
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                keep(page, f"every-{name}-{width}-{scheme}")
        assert page.evaluate("document.title").startswith("streamvis")
        assert page.get_by_role("main").count() == 1
        assert page.locator("img[onerror]").count() == 0  # names are text
        assert unreached(page) == set()
    assert list(filter(is_of_the_page, complaints)) == []


def unreached(page):
    """What is in the page for the keyboard, less what Tab reaches."""
    page.evaluate("document.activeElement.blur()")
    reached = []
    while len(reached) < MOST_TABS:
        page.keyboard.press("Tab")
        focused = page.evaluate(script(FOCUSED))
        if reached and focused == reached[0]:
            break
        reached.append(focused)
    return set(page.evaluate(script(REACHABLE))) - set(reached)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible(axe, browser, client, name):
    with closing(opened(browser, address(client, name), [], bypass_csp=True)) as page:
        page.locator("header nav a").first.wait_for()
        page.wait_for_timeout(SETTLE_MS)
        for scheme, width in zip(SCHEMES, WIDTHS, strict=True):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(100)
            assert violations(page, axe) == []
