"""Benchmark of live pictures in the browser: a run with a small detector, its web server, viewers.

painted()   time from the capture of a picture until Chromium has painted it with its boxes
decoding()  CPU time of the decode process for a frame: without a viewer, with one, with four
"""

import json
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamvis.errors import RunError, UsageError
from streamvis.runtime.control import GetStatus, RunStatus
from streamvis.runtime.control_client import ask, find_run
from streamvis.runtime.metrics import Status
from streamvis.runtime.resource_usage import TICKS
from streamvis.web.server import WebServer
from streamvis.web.settings import WebSettings

ONLINE_S = 90.0  # for the run to have frames
WARM_UP_S = 5.0
SETTLE_S = 1.0  # for new viewers to have their first pictures
PHASE_S = 10.0  # with one number of viewers
ROUNDS = 3
PICTURE = 1  # kind of a message
HEADER = struct.Struct("<BIQqqHH")
# The time from capture to the moment at which the page has painted, by what arrived and what it
# says to have painted.
LOOK = """
const captures = new Map();
window.painted = [];
const Plain = window.WebSocket;
window.WebSocket = class extends Plain {
  constructor(...given) {
    super(...given);
    this.addEventListener("message", ({ data }) => {
      if (!(data instanceof ArrayBuffer)) return;
      const view = new DataView(data);
      if (view.getUint8(0) !== 1) return;
      captures.set(Number(view.getBigInt64(13, true)), Number(view.getBigInt64(21, true)) / 1000);
    });
  }
};
document.addEventListener("DOMContentLoaded", () => {
  const canvas = document.getElementById("picture");
  const mark = document.getElementById("mark");
  new MutationObserver(() => {
    const captured = captures.get(Number(canvas.dataset.mediaUs));
    if (captured === undefined) return;
    window.painted.push([Date.now() - captured, mark.hidden]);
  }).observe(canvas, { attributes: true, attributeFilter: ["data-media-us"] });
});
"""


class PaintedReport(msgspec.Struct, frozen=True, kw_only=True):
    """Pictures that Chromium painted."""

    capture_to_painted_ms_p50: float
    capture_to_painted_ms_p95: float
    capture_to_tracks_ms_p50: float  # until all stages have answered: what of it is theirs
    capture_to_tracks_ms_p95: float
    per_s: float
    analysed_per_s: float  # frames of the run, of 12: the machine may not keep up
    with_boxes: float  # share


class DecodingReport(msgspec.Struct, frozen=True, kw_only=True):
    """CPU time of the decode process for a frame, which it has no work to decode."""

    ms_without_viewer: float
    ms_with_one: float
    ms_with_four: float
    four_over_one: float


class WebReport(msgspec.Struct, frozen=True, kw_only=True):
    """Live pictures of a source of 960×540 at 12 frames/s."""

    painted: PaintedReport
    decoding: DecodingReport


def measure(seconds: float = 30.0) -> WebReport:
    """Measure both, in about three minutes. UsageError without Playwright and Chromium."""
    with _chromium() as browser, _run() as out, _serving(out) as server:
        return WebReport(
            painted=painted(browser, server.url, out, seconds), decoding=decoding(out, server)
        )


def painted(browser: Any, url: str, out: Path, seconds: float) -> PaintedReport:
    """Return what a page of the source paints in this time."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.add_init_script(LOOK)
    page.goto(f"{url}source?id=cam")
    page.wait_for_timeout(1000 * WARM_UP_S)
    page.evaluate("() => { window.painted.length = 0; }")
    began, before = time.monotonic(), _admitted(out)
    page.wait_for_timeout(1000 * seconds)
    found = page.evaluate("() => window.painted")
    took, frames = time.monotonic() - began, _admitted(out) - before
    age = _status(out).sources[0].age_ms
    page.close()
    if not found:
        raise RunError("the page has painted nothing; does the run have pictures?")
    ms, with_boxes = np.array(found, np.float64).T
    return PaintedReport(
        capture_to_painted_ms_p50=round(float(np.median(ms)), 1),
        capture_to_painted_ms_p95=round(float(np.quantile(ms, 0.95)), 1),
        capture_to_tracks_ms_p50=round(age.p50, 1),
        capture_to_tracks_ms_p95=round(age.p95, 1),
        per_s=round(len(found) / took, 2),
        analysed_per_s=round(frames / took, 2),
        with_boxes=round(float(with_boxes.mean()), 4),
    )


def decoding(out: Path, server: WebServer) -> DecodingReport:
    """Return the CPU time of the decode process for a frame, medians of the rounds."""
    times: dict[int, list[float]] = {0: [], 1: [], 4: []}
    pid = _status(out).processes["decode-cam"]
    for _ in range(ROUNDS):
        for viewers, found in times.items():
            with ExitStack() as stack:
                for _ in range(viewers):
                    stack.enter_context(_viewer(server))
                time.sleep(SETTLE_S)
                cpu_s, frames = _cpu_s(pid), _admitted(out)
                time.sleep(PHASE_S)
                spent_s, more = _cpu_s(pid) - cpu_s, _admitted(out) - frames
            found.append(1000 * spent_s / max(more, 1))
    none, one, four = (float(np.median(found)) for found in times.values())
    return DecodingReport(
        ms_without_viewer=round(none, 2),
        ms_with_one=round(one, 2),
        ms_with_four=round(four, 2),
        four_over_one=round(four / max(one, 1e-3), 3),
    )


@contextmanager
def _chromium() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise UsageError("bench web drives a browser: pip install playwright") from None
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        raise UsageError("bench web needs Chromium: install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def _run() -> Iterator[Path]:
    """Start a run, and end it."""
    with tempfile.TemporaryDirectory() as home:
        out, log = Path(home) / "out", Path(home) / "log"
        command = [sys.executable, "-m", "streamvis.benchmarks.web_run", str(out)]
        with log.open("w") as stderr:
            process = subprocess.Popen(command, stdout=stderr, stderr=stderr)
        try:
            deadline = time.monotonic() + ONLINE_S
            while _admitted(out) < 1:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RunError(f"the run has no frames: {log.read_text()[-2000:]}")
                time.sleep(0.2)
            yield out
        finally:
            process.terminate()
            process.wait()


@contextmanager
def _serving(out: Path) -> Iterator[WebServer]:
    server = WebServer(WebSettings(out=out, address="127.0.0.1:0"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join()
        server.close()


@contextmanager
def _viewer(server: WebServer) -> Iterator[None]:
    """Acknowledge each picture at once, in a thread."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    address = f"{server.url.replace('http', 'ws')}ws/video/cam"
    with connect(address, compression=None, max_size=None) as socket:

        def acknowledge() -> None:
            try:
                for data in socket:
                    if isinstance(data, bytes) and data[0] == PICTURE:
                        socket.send(json.dumps({"ack": HEADER.unpack_from(data)[2]}))
            except ConnectionClosed:
                return

        thread = threading.Thread(target=acknowledge)
        thread.start()
        try:
            yield
        finally:
            socket.close()
            thread.join()


def _admitted(out: Path) -> int:
    """Return the frames of the source so far; 0 before the run answers."""
    try:
        return sum(source.admitted for source in _status(out).sources)
    except (RunError, UsageError):
        return 0


def _status(out: Path) -> Status:
    reply = ask(find_run(str(out)), GetStatus())
    assert isinstance(reply, RunStatus)
    return reply.status


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a process so far."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / TICKS  # utime and stime of proc(5)
