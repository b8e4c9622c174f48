"""The scripts of docs/tutorials run, and what they print and write is right."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from streamvis.config import Jipda
from streamvis.datasets import motchallenge
from streamvis.evaluation.mot import evaluate
from streamvis.runners.tracker_inputs import Cues
from streamvis.runners.tracking import track_public

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"
SCENE = "street=synthetic:walkers?people=3&seconds=2&fps=10&size=320x240&seed=5"


def run(name, *arguments, folder):
    done = subprocess.run(
        [sys.executable, TUTORIALS / f"{name}.py", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_detect_and_track_draws_the_paths_that_it_prints(tmp_path):
    text = run("detect_and_track", SCENE, "out", folder=tmp_path)
    frames = [int(count) for count in re.findall(r"track \d+: (\d+) frames", text)]
    assert frames
    assert max(frames) <= 20
    for name in ("last-frame.png", "paths.png"):
        picture = cv2.imread(str(tmp_path / "out" / name))
        assert picture.std() > 10  # not blank


def test_subscribe_and_count_agrees_with_the_summary_of_the_run(tmp_path):
    text = run("subscribe_and_count", SCENE, "out", folder=tmp_path)
    summary = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    (source,) = summary["sources"]
    assert f"{source['found']['people']} people, 0 events lost" in text


def shown(scores):
    return f"HOTA {scores.hota:.3f}  MOTA {scores.mota:.3f}  IDF1 {scores.idf1:.3f}"


def test_evaluate_a_tracker_scores_as_the_command_does(tmp_path):
    text = run("evaluate_a_tracker", "street", folder=tmp_path)
    sequence = motchallenge.read_sequence(tmp_path / "street")
    for name, memory_s in (("default", 3.0), ("memory_s=0.1", 0.1)):
        config = Jipda(space="image", memory_s=memory_s)
        ours = track_public(sequence, config, Cues())
        assert f"{name:<18} {shown(evaluate(sequence, ours.run.rows))}" in text


@pytest.mark.parametrize("path", sorted(TUTORIALS.glob("*.py")), ids=lambda path: path.stem)
def test_each_tutorial_is_linked_from_the_page_on_python(path):
    page = (TUTORIALS.parent / "python.md").read_text(encoding="utf-8")
    assert f"(tutorials/{path.name})" in page
