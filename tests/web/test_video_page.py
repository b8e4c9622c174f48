"""A whole run in a real browser: what is drawn is where it is in the pixels of that very frame."""

import time

import numpy as np
import pytest
from controlled_runs import private_home
from live_runs import running
from moving_box import STEP_US, box_of
from web_pages import opened
from web_servers import serving

from streamvis.sources.spec import SourceSpec

# for each picture that is painted: its time, where it is white, and where the outline of a box is
LOOK = """() => {
  const canvas = document.getElementById("picture");
  const seen = [];
  window.seen = seen;
  function bounds(of, data, width) {
    const found = [Infinity, Infinity, -1, -1];
    for (let at = 0; at < data.length; at += 4) {
      if (!of(data[at], data[at + 1], data[at + 2])) continue;
      const [x, y] = [(at / 4) % width, Math.floor(at / 4 / width)];
      found[0] = Math.min(found[0], x);
      found[1] = Math.min(found[1], y);
      found[2] = Math.max(found[2], x + 1);
      found[3] = Math.max(found[3], y + 1);
    }
    return found;
  }
  new MutationObserver(() => {
    const { width, height } = canvas;
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    const white = (r, g, b) => r > 128 && g > 128 && b > 128 && Math.abs(r - b) < 16;
    const outline = (r, g, b) => Math.hypot(r - 230, g - 159, b) < 24;
    seen.push({
      mediaUs: Number(canvas.dataset.mediaUs),
      scale: width / 640,
      white: bounds(white, data, width),
      box: bounds(outline, data, width),
      complete: document.getElementById("mark").hidden,
    });
  }).observe(canvas, { attributes: true, attributeFilter: ["data-media-us"] });
}"""


@pytest.fixture
def gate(tmp_path):
    """The page's server of a run that follows a box."""
    out = tmp_path / "out"
    source = SourceSpec(id="gate", uri="box:", kind="url")
    settings = {"build": "moving_box:build_box", "opener": "moving_box:open_box"}
    with (
        private_home(),
        running(out, source, control=True, bind="tcp://127.0.0.1:*", **settings) as run,
    ):
        run.online("gate")
        with serving(out) as client:
            yield client
        run.end()


def test_no_frame_is_drawn_with_the_box_of_another(browser, gate, request):
    frames = 1000 if request.config.getoption("--full") else 40
    complaints = []
    page = opened(
        browser,
        f"http://{gate.host}/source?id=gate",
        complaints,
        viewport={"width": 560, "height": 800},
    )
    page.locator("#state.online").wait_for()
    for name in ("ids", "trails", "zones", "actions", "unknown", "plan"):
        # by script: what comes above the boxes moves them under the pointer
        page.locator(f"#layers [name={name}]").evaluate("box => box.click()")
    page.evaluate(LOOK)
    deadline = time.monotonic() + 60 + frames
    while page.evaluate("() => window.seen.filter((one) => one.complete).length") < frames:
        assert time.monotonic() < deadline, page.evaluate("() => window.seen.length")
        page.wait_for_timeout(200)
    seen = page.evaluate("() => window.seen")
    page.close()
    complete = [one for one in seen if one["complete"]]
    for one in complete:
        n = one["mediaUs"] // STEP_US
        assert one["mediaUs"] == n * STEP_US
        expected = np.array(box_of(n)) * one["scale"]
        np.testing.assert_allclose(one["white"], expected, atol=3)
        np.testing.assert_allclose(one["box"], expected + np.array((-1, -1, 1, 1)), atol=2)
    times = [one["mediaUs"] for one in seen]
    assert times == sorted(times)
    assert complaints == []
