"""`streamvis demo` runs to its end, on a synthetic scene where the real clip cannot be had."""

import urllib.error
import urllib.request
from functools import partial

import cv2
import pytest
from typer.testing import CliRunner
from web_servers import serving

from streamvis import config, demo_clip
from streamvis.cli import run
from streamvis.cli.main import app
from streamvis.cli.run import Engine
from streamvis.events.log import LogReader
from streamvis.runtime.decode import jpeg
from streamvis.synthetic.render import SyntheticScene

PROGRAM = ["streamvis"]  # the shell finds it, or the test is not started by it
SHORT = "synthetic:walkers?people=2&seconds=1&fps=10&size=160x120&seed=7"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No data, an empty cache, no network, and no package to take the clip from."""

    def refused(*_, **__):
        raise urllib.error.URLError("refused")

    monkeypatch.delenv("STREAMVIS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(urllib.request, "urlopen", refused)
    monkeypatch.setattr(demo_clip.shutil, "which", lambda name: None)


@pytest.fixture
def quick(monkeypatch):
    """A short scene, small pictures, one process."""
    changes = {"detect.engine": "torch", "detect.short_side": "64", "embed.engine": "torch"}
    cheap = config.load_pipeline(None, changes)
    monkeypatch.setattr(config, "default_pipeline", lambda: cheap)
    monkeypatch.setattr(run, "start", partial(run.start, engine=Engine.inline))
    monkeypatch.setattr(demo_clip, "SYNTHETIC", SHORT)


def looked_back(out):
    """What the named command serves: the events, and the picture of each media time."""
    scene = SyntheticScene(7, 2, (160, 120), 10.0, 1.0)
    with serving(out) as client:
        (source,) = client.get("/api/sources").json["sources"]
        events = client.get(f"/api/events?source={source['id']}").json["events"]
        times = {event["time"]["media_us"] for event in events}
        assert times <= set(range(0, 1_000_000, 100_000))
        for media_us in {*times, 300_000, 900_000}:
            shown = client.get(f"/api/picture/{source['id']}?media_us={media_us}")
            assert int(shown.headers["x-streamvis-media-us"]) == media_us
            assert shown.headers["x-streamvis-size"] == "160x120"
            assert shown.body == jpeg(scene.picture(round(media_us / 100_000)))


@pytest.mark.usefixtures("offline", "quick", "one_thread")
def test_the_demo_falls_back_to_a_synthetic_scene_and_leaves_its_files(tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["demo", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "fetching vtest.avi from OpenCV's repository" in result.stderr
    assert "  not there: refused" in result.stderr
    assert "showing a synthetic scene instead" in result.stderr
    assert {path.name for path in out.iterdir()} >= {
        *("annotated.mp4", "contact-sheet.png", "events.db", "tracks.txt", "summary.json")
    }
    assert cv2.imread(str(out / "contact-sheet.png")).shape[1] >= 2 * 160
    with LogReader(out / "events.db") as log:
        assert "source.eof" in log.types()
    assert result.stdout.splitlines()[-1].split() == ["look", "back", *PROGRAM, "web", str(out)]
    looked_back(out)
    again = CliRunner().invoke(app, ["demo", "--out", str(out)])
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
