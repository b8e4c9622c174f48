"""Pages in a browser, for tests. With STREAMVIS_SCREENSHOTS=DIRECTORY their pictures are kept."""

import os
from pathlib import Path

from waiting import PATIENCE_S

PATIENCE_MS = 1000 * PATIENCE_S
HOSTILE = "<img src=x onerror=alert(1)>"  # as the name of a source or the reason of its end


def opened(browser, url, complaints, **options):
    """Open a page; what the browser complains about goes into `complaints`."""
    page = browser.new_page(**options)
    page.set_default_timeout(PATIENCE_MS)
    page.on("console", lambda m: m.type == "error" and complaints.append(m.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message) or dialog.dismiss())
    page.goto(url)
    return page


def keep(page, name):
    """Keep a picture of the page, where a directory for them is given."""
    if folder := os.environ.get("STREAMVIS_SCREENSHOTS"):
        (Path(folder) / f"{name}.png").write_bytes(
            page.screenshot()
        )  # without Playwright's threads


def violations(page, axe):
    """Return what axe-core finds wrong; the page has to be opened with `bypass_csp`."""
    page.add_script_tag(content=axe.read_text())
    found = page.evaluate("axe.run()")["violations"]
    return [(one["id"], one["nodes"][0]["html"]) for one in found]
