"""Takes the pictures of the pages in docs/web.md, of a real run; see `make screenshots`.

    python tests/web/screenshots.py                  # docs/images/web-*.png and .jpg
    python tests/web/screenshots.py --matrix DIR     # each page, light and dark, at three widths

The run counts people in zones of a clip (that of `streamvis demo` where it is on this machine, else
a rendered scene) and of a rendered scene. Pictures are taken once FRAMES of the clip are analysed,
on a busy machine after ENOUGH_S once FEWEST are.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402
from web_pages import PATIENCE_MS  # noqa: E402
from web_servers import Client, serving  # noqa: E402

from streamvis.demo_clip import SYNTHETIC  # noqa: E402

PAGES = {  # address; what is there before a picture is taken; file. Lines of `health` need time
    "live": ("/", "main >> text=gate", "web-live.jpg"),
    "source": ("/source?id=gate&at=2500000", "#picture", "web-source.jpg"),
    "timeline": ("/timeline?source=gate", "canvas", "web-timeline.png"),
    "zones": ("/zones?source=gate", "canvas, svg", "web-zones.jpg"),
    "health": ("/health", "#processes tbody tr", "web-health.png"),
}
WIDTHS, SCHEMES = (360, 1280, 1920), ("light", "dark")
HEIGHTS = {360: 800, 1280: 800, 1920: 1080}
FRAMES, FEWEST = 60, 20
ENOUGH_S = 50.0
START_S = 100.0  # until there are FEWEST
SETTLE_MS = 3000  # for pictures and charts to come
MOST_BYTES = 1_500_000
ZONES = {
    "gate": """\
zones:
  - {name: crossing, polygon: [[0.30, 0.4], [0.62, 0.34], [0.80, 0.62], [0.4, 0.78]], dwell_s: [5]}
  - {name: lawn, polygon: [[0.02, 0.52], [0.28, 0.46], [0.36, 0.80], [0.04, 0.90]], crowd: 3}
lines:
  - {name: path, start: [0.30, 0.88], end: [0.86, 0.70]}
""",
    "yard": """\
zones:
  - {name: pavement, polygon: [[0.05, 0.55], [0.95, 0.55], [0.95, 0.95], [0.05, 0.95]]}
""",
}


def clip(folder: Path) -> str:
    """Return the clip of `streamvis demo` where it is on this machine, else a rendered scene.

    It has a short name in the folder, since pages show it.
    """
    data = Path(os.environ.get("STREAMVIS_DATA", ROOT.parent / "shared" / "data"))
    path = data / "mot/pets09-s2l1/video.avi"
    if not path.is_file():
        return SYNTHETIC.replace("seconds=20", "seconds=600")
    (folder / "gate.avi").symlink_to(path.resolve())
    return "gate.avi"


@contextmanager
def running(out: Path) -> Iterator[Client]:
    """Run the pipeline `zones` on two sources, and serve its directory."""
    for source, text in ZONES.items():
        (out.parent / f"{source}.zones.yaml").write_text(text)
    yard = "synthetic:walkers?people=4&seconds=600&fps=1&size=640x360&seed=3"
    command = [sys.executable, "-m", "streamvis", "run", "zones"]
    command += [part for source in ZONES for part in ("--zones", f"{source}={source}.zones.yaml")]
    command += [
        "--source",
        f"gate={clip(out.parent)}",
        "--source",
        f"yard={yard}",
        "--out",
        str(out),
    ]
    command += ["--start-time", "2026-03-01T09:00:00Z", "--set", "publish.bind=tcp://127.0.0.1:*"]
    with subprocess.Popen(
        command, cwd=out.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        try:
            wait_until(lambda: out.is_dir() and (out / "events.db").is_file(), run)
            with serving(out) as client:
                late = time.monotonic() + ENOUGH_S
                wait_until(
                    lambda: analysed(client) >= (FRAMES if time.monotonic() < late else FEWEST), run
                )
                yield client
        finally:
            run.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                run.wait(30)
            run.kill()


def analysed(client: Client) -> int:
    """Return how many frames of the clip are analysed."""
    status = client.get("/api/status").json["status"]
    return 0 if status is None else int(status["sources"][0]["admitted"])


def wait_until(condition, run: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        if run.poll() is not None:
            sys.exit(f"the run has ended with exit code {run.returncode}; expected it to go on")
        if time.monotonic() > deadline:
            sys.exit(f"the run has not come far enough within {START_S:g} s: is the machine busy?")
        time.sleep(0.5)


def opened(browser: Browser, url: str, awaited: str, **options: object) -> Page:
    page = browser.new_page(**options)
    page.set_default_timeout(PATIENCE_MS)
    page.goto(url)
    page.locator(awaited).first.wait_for()
    page.wait_for_timeout(SETTLE_MS)
    return page


def take_documented(browser: Browser, client: Client, folder: Path) -> None:
    """Take the pictures of the documentation, and say how large they are."""
    pages = {}
    for name, (path, awaited, _) in served(client).items():  # all are open until the last is
        size = {"width": 1280, "height": 800}
        pages[name] = opened(browser, path, awaited, viewport=size, color_scheme="light")
    total = 0
    for name, page in pages.items():
        path = folder / PAGES[name][2]
        kind = {"type": "jpeg", "quality": 85} if path.suffix == ".jpg" else {"type": "png"}
        page.bring_to_front()
        page.wait_for_timeout(SETTLE_MS)
        page.screenshot(path=path, **kind)
        page.close()
        total += path.stat().st_size
        say(f"{path}: {path.stat().st_size // 1000} kB")
    if total > MOST_BYTES:
        sys.exit(f"the pictures have {total} bytes together; expected at most {MOST_BYTES}")


def take_matrix(browser: Browser, client: Client, folder: Path) -> None:
    """Take each page, whole, in both schemes at each width."""
    for name, (path, awaited, _) in served(client).items():
        with closing(opened(browser, path, awaited)) as page:
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": HEIGHTS[width]})
                for scheme in SCHEMES:
                    page.emulate_media(color_scheme=scheme)
                    page.wait_for_timeout(500)
                    page.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=True)
        say(f"{name}: {len(WIDTHS) * len(SCHEMES)} pictures in {folder}")


def served(client: Client) -> dict[str, tuple[str, str, str]]:
    """Return the pages that the server has, by name, with their address."""
    return {
        name: (f"http://{client.host}{path}", awaited, file)
        for name, (path, awaited, file) in PAGES.items()
        if client.get(path.partition("?")[0]).status == 200
    }


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--matrix", type=Path, metavar="DIR", help="all pages, sizes and schemes")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs/images")
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("no Chromium: install chromium")
    folder = given.matrix or given.folder
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="site-") as home,
        running(Path(home) / "out") as client,
        sync_playwright() as playwright,
        closing(
            playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        ) as browser,
    ):
        (take_matrix if given.matrix else take_documented)(browser, client, folder)


if __name__ == "__main__":
    main()
