"""The examples of docs/python.md run, one after the other, on a short clip with small networks."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from walkers import DETECTOR, NETWORK, SCENE, quick_people

import streamvis
from streamvis.synthetic.sequence import write_sequence

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
QUICK = {  # keywords added to calls: the clip is small, the machine busy
    "Detector": DETECTOR,
    "Embedder": NETWORK,
    "ActionRecogniser": NETWORK,
    "Segmenter": {**NETWORK, "lines": 64},
}


@pytest.fixture
def quick(monkeypatch, looks, pose_weights):
    """Give the calls of the page small networks."""
    estimator = streamvis.PoseEstimator
    monkeypatch.setattr(
        *(streamvis, "PoseEstimator", lambda _, **k: estimator(pose_weights, **NETWORK, **k))
    )
    for name, more in QUICK.items():
        whole = getattr(streamvis, name)
        monkeypatch.setattr(
            streamvis, name, lambda *a, whole=whole, more=more, **k: whole(*a, **more, **k)
        )
    for name in ("stream", "run"):
        whole = getattr(streamvis, name)

        def call(*given, whole=whole, settings=(), **more):
            return whole(*given, settings={**quick_people(looks), **dict(settings)}, **more)

        monkeypatch.setattr(streamvis, name, call)


@pytest.fixture
def supervision(monkeypatch):
    """Stands for the package where it is not installed: keywords and shapes as it checks them."""

    def detections(xyxy, confidence, class_id=None, tracker_id=None):
        assert xyxy.ndim == 2
        assert xyxy.shape[1] == 4
        for column in (confidence, class_id, tracker_id):
            assert column is None or column.shape == (len(xyxy),)
        return SimpleNamespace(xyxy=xyxy)

    try:
        import supervision  # noqa: F401
    except ImportError:
        stand_in = ModuleType("supervision")
        stand_in.Detections = detections
        monkeypatch.setitem(sys.modules, "supervision", stand_in)


@pytest.mark.usefixtures("quick", "supervision", "one_thread")
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    video = write_sequence(tmp_path / "scene", SCENE) / "video.mp4"
    video.rename(tmp_path / "a.mp4")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, example in enumerate(EXAMPLES, 1):
        exec(compile(example, f"docs/python.md, example {number}", "exec"), names)
    assert inspect.iscoroutinefunction(names["watch"])
    for path in ("drawn.png", "out/events.db", "out/summary.json"):
        assert (tmp_path / path).is_file()
    assert len(names["tracks"].ids) == 1  # in the first frame a sure detection is a person
    assert "expected a NumPy array" in capsys.readouterr().out


@pytest.mark.parametrize("folder", ["docs", "docs/tutorials", "samples", "samples/plugin/crowding"])
def test_the_examples_have_sound_types(folder, tmp_path):
    """What users copy passes `mypy --strict`, as pyproject.toml has it."""
    if folder == "docs":
        (tmp_path / "page.py").write_text("\n".join(EXAMPLES))
    files = list((tmp_path if folder == "docs" else ROOT / folder).glob("*.py"))
    assert files
    checker = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml"]
    # with the cache of `make check`
    command = [*checker, "--cache-dir", ROOT / ".mypy_cache", "--scripts-are-modules", *files]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"MYPYPATH": str(ROOT / folder / "..")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_public_function_and_class_is_on_the_page():
    for name in streamvis.__all__:
        assert re.search(rf"\b{name}\b", TEXT) or name in PARTS, name
    assert len(EXAMPLES) > 8


PARTS = {"Actions", "Forecast", "Motion", "Segmentation", "StreamPacket", "Summary"}


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)", TEXT))))
def test_every_link_leads_somewhere(target):
    assert target.startswith("http") or (ROOT / "docs" / target).exists()
