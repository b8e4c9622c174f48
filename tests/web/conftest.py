"""Fixtures of pages in a real browser."""

import shutil
import subprocess
from contextlib import closing

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def chromium():
    """Playwright's API and the path of the browser; tests are skipped without either."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="install playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium: install chromium")
    return sync_api.sync_playwright, CHROMIUM


@pytest.fixture(scope="module")
def launched(chromium):
    """A browser: its start takes six times as long as a page."""
    playwrights, path = chromium
    with (
        playwrights() as playwright,
        closing(playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])) as found,
    ):
        yield found


@pytest.fixture
def browser(launched):
    """The browser; its pages are closed after the test."""
    yield launched
    for context in launched.contexts:
        context.close()


@pytest.fixture(scope="session")
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
