"""People of made-up films told apart by their clothes, by an untrained network; files it writes."""

import json
from pathlib import Path

import cv2
import msgspec
import pytest
import torch
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.models.embedding import ARCHITECTURES, Embedder
from streamvis.models.weights import save
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence

SCENE = {"people": 4, "size": (320, 240), "fps": 8}


@pytest.fixture(scope="module")
def sequence(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sequences") / "made-up"
    return write_sequence(folder, SyntheticScene(seed=3, seconds=6, **SCENE))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    torch.manual_seed(0)
    architecture = msgspec.structs.replace(ARCHITECTURES["person-r18"], size=(64, 32))
    save(Embedder(architecture), path, {})
    return path


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["eval", "reid", *map(str, arguments)])


def test_clothes_tell_people_apart(sequence, weights, tmp_path):
    plot, sheet = tmp_path / "auc.png", tmp_path / "new/worst.png"
    files = ("--plot", plot, "--sheet", sheet)
    result = invoke(sequence, "--weights", weights, "--every", 2, "--json", *files)
    assert result.exit_code == 0, result.stderr
    (scores,) = json.loads(result.stdout).values()
    assert scores["people"] == 4
    assert scores["queries"] > 40
    assert scores["rank1"] > 0.5
    assert scores["rank5"] >= scores["rank1"]
    assert scores["auc"]["0.5 s"] > 0.8
    assert scores["auc"]["1 frame"] is None  # every second frame was looked at
    assert cv2.imread(str(plot)).shape[1] > 500
    assert cv2.imread(str(sheet)).shape[1] > 500


def test_people_read_it_as_tables(sequence, weights):
    result = invoke(sequence, "--weights", weights, "--every", 6, "--apart", 1)
    assert result.exit_code == 0, result.stderr
    assert "1 s apart" in result.stdout
    assert {"rank-1", "mAP", "made-up"} <= set(result.stdout.split())


def test_what_cannot_be_scored_is_told_before_anything_is(sequence, weights, tmp_path):
    bare = tmp_path / "bare"
    write_sequence(bare, SyntheticScene(seed=3, seconds=1, **SCENE))
    (bare / "gt/gt.txt").unlink()
    result = invoke(sequence, bare, "--weights", weights)
    assert result.exit_code == 2
    assert "no gt/gt.txt" in result.stderr
    result = invoke(sequence, sequence, "--weights", weights)
    assert "give each one once" in result.stderr
    result = invoke(sequence, "--weights", "person-lite")
    assert result.exit_code == 4
    assert "which detects people; expected an embedder" in result.stderr
    result = invoke(sequence, "--weights", weights, "--sheet", tmp_path)
    assert "cannot be written" in result.stderr


def test_a_film_that_ends_too_soon_is_told(weights, tmp_path):
    folder = tmp_path / "cut"
    write_sequence(folder, SyntheticScene(seed=3, seconds=1, **SCENE), images=True)
    for path in sorted((folder / "img1").iterdir())[4:]:
        path.unlink()
    result = invoke(folder, "--weights", weights, "--every", 1)
    assert result.exit_code == 2, result.output
    assert "the video ends before frame 8" in result.stderr


def test_the_published_number_of_a_teacher(data):
    teacher = data / "teachers/person-reidentification-retail-0248.onnx"
    result = invoke(data / "mot/pets09-s2l1", "--weights", teacher, "--json")
    assert result.exit_code == 0, result.stderr
    (scores,) = json.loads(result.stdout).values()
    assert scores["queries"] == 450
    assert scores["rank1"] == pytest.approx(0.673, abs=0.01)  # with crops of whole pixels
    assert scores["map"] == pytest.approx(0.590, abs=0.01)
