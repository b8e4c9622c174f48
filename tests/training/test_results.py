"""Every training ends in curves and in weights that tell what they were made of."""

import json

import cv2
import pytest

from streamvis.models.embedding import ARCHITECTURES, Embedder
from streamvis.models.weights import describe
from streamvis.training.loop import Schedule
from streamvis.training.results import names, run_of, write_curves, write_results


@pytest.fixture
def out(tmp_path):
    rows = [{"angular": 1 / (step + 1), "step": step, "seconds": 3.0} for step in range(40)]
    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return tmp_path


def test_weights_and_curves_are_written(out):
    model = Embedder(ARCHITECTURES["person-r18"])
    data = [out / "mot", out / "people"]
    path = write_results(out, "mine", model, Schedule(steps=40), data, start="eyes")
    assert path == out / "mine.safetensors"
    about = describe(str(path)).metadata
    expected = {"steps": "40", "minutes": "2", "data": "mot, people", "start": "eyes"}
    assert {key: about[key] for key in expected} == expected
    assert cv2.imread(str(out / "curves.png")) is not None


def test_a_step_that_was_done_twice_counts_once(out):
    log = out / "log.jsonl"
    log.write_text(log.read_text() + '{"angular": 0.1, "step": 39, "seconds": 63.0}\n')
    assert run_of([log])["minutes"] == "3"
    assert run_of([log, log])["minutes"] == "6"


def test_curves_of_a_single_step(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"loss": 1.0, "step": 0, "seconds": 0.1}\n')
    write_curves(log, tmp_path / "curves.png")
    assert cv2.imread(str(tmp_path / "curves.png")) is not None


def test_folders_are_named_without_their_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert names([tmp_path / "a", tmp_path / "b"]) == "a, b"
    assert names([tmp_path / "."]) == tmp_path.name
