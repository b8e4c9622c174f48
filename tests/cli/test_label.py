"""`streamvis label` from sources to a folder, with a labeller that knows the truth of the scene."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.datasets.coco import read_coco
from streamvis.errors import WeightsError
from streamvis.messages import Detections
from streamvis.runners import labelling
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence

SCENE = "synthetic:walkers?people=6&size=160x120&fps=4&seconds=3&seed=5"


class Labeller:
    """Finds two people in every picture; counts, and may be interrupted."""

    def __init__(self) -> None:
        self.asked = 0
        self.stop_after = 1000
        self.configs: list[object] = []

    def open(self, config, device="cpu"):
        self.configs.append(config)
        return self

    def __call__(self, pixels) -> Detections:
        assert pixels.flags.c_contiguous
        if self.asked == self.stop_after:
            raise KeyboardInterrupt
        self.asked += 1
        return Detections(
            boxes=np.array([[10, 20, 40, 100], [60, 20, 90, 100]], np.float32),
            scores=np.array([0.9, 0.5], np.float32),
            labels=np.ones(2, np.int32),
            masks=np.zeros((0, 0, 0), np.uint8),
        )


@pytest.fixture
def labeller(monkeypatch) -> Labeller:
    one = Labeller()
    monkeypatch.setattr(labelling, "open_detector", one.open)
    return one


def label(out: Path, *arguments: object, code: int = 0):
    result = CliRunner().invoke(app, ["label", *map(str, arguments), "--out", str(out), "--json"])
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout)["sources"] if code in (0, 5) else result.stderr


def names(out: Path) -> list[str]:
    return [truth.name for truth in read_coco(out / "annotations.json")]


def test_a_scene_becomes_a_folder(labeller, tmp_path):
    (count,) = label(tmp_path, f"hall={SCENE}", "--sure", 0.6, "--unsure", 0.3, "--no-masks")
    assert count == {"source": "hall", "pictures": 3, "people": 3, "in_doubt": 3}
    assert names(tmp_path) == [f"hall_00h00m0{second}s000.jpg" for second in range(3)]
    scene = SyntheticScene(seed=5, people=6, size=(160, 120), fps=4, seconds=3)
    for number, name in enumerate(names(tmp_path)):
        picture = cv2.imread(str(tmp_path / "images" / name), cv2.IMREAD_COLOR_RGB)
        assert np.abs(picture.astype(int) - scene.picture(4 * number)).mean() < 5
    info = json.loads((tmp_path / "annotations.json").read_text())["info"]
    assert info["command"].endswith("person-lite --every 1 --sure 0.6 --unsure 0.3 --no-masks")
    assert info["sources"] == {"hall": SCENE}
    (config,) = labeller.configs
    assert (config.weights, config.min_score, config.masks) == ("person-lite", 0.3, False)


def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been(labeller, tmp_path):
    labeller.stop_after = 2
    assert "interrupted" in label(tmp_path / "a", SCENE, "--every", 0.5, code=130)
    assert len(names(tmp_path / "a")) == 2
    labeller.stop_after = 1000
    label(tmp_path / "a", SCENE, "--every", 0.5)
    assert labeller.asked == 6  # what was labelled is not labelled again
    label(tmp_path / "b", SCENE, "--every", 0.5)
    one, other = (json.loads((tmp_path / x / "annotations.json").read_text()) for x in "ab")
    one["info"].pop("date_created")
    other["info"].pop("date_created")
    assert one == other
    label(tmp_path / "a", SCENE, "--every", 0.5)
    assert labeller.asked == 12


def test_corrected_labels_are_not_touched(labeller, tmp_path):
    label(tmp_path, SCENE)
    path = tmp_path / "annotations.json"
    path.write_text(path.read_text().replace('"iscrowd":1', '"iscrowd":0'))
    before = path.read_bytes()
    assert "was edited" in label(tmp_path, SCENE, code=2)
    assert path.read_bytes() == before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labelling, "open_detector", refuse)
        label(tmp_path, SCENE, "--overwrite", code=4)
    assert path.read_bytes() == before  # not before there is something to put in its place
    label(tmp_path, SCENE, "--overwrite")
    assert path.read_bytes() != before


def refuse(config, device):
    raise WeightsError("damaged")


def test_sources_share_what_is_wanted_at_most(labeller, tmp_path):
    counts = label(tmp_path, f"a={SCENE}", f"b={SCENE}&seed=6", "--most", 3)
    assert [(c["source"], c["pictures"]) for c in counts] == [("a", 2), ("b", 1)]


def test_a_folder_of_photographs_is_taken_whole_and_a_sequence_by_its_time(labeller, tmp_path):
    scene = SyntheticScene(seed=1, people=6, size=(160, 120), fps=2, seconds=4)
    write_sequence(tmp_path / "sequence", scene, images=True)
    label(tmp_path / "timed", tmp_path / "sequence")
    assert names(tmp_path / "timed") == [
        "sequence_00h00m00s000.jpg",
        "sequence_00h00m01s000.jpg",
        "sequence_00h00m02s000.jpg",
        "sequence_00h00m03s000.jpg",
    ]
    label(tmp_path / "whole", tmp_path / "sequence" / "img1")
    assert names(tmp_path / "whole") == [f"img1_{n:06}.jpg" for n in range(8)]


def test_a_source_that_cannot_be_read_does_not_stop_the_others(labeller, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    write_sequence(
        tmp_path / "good", SyntheticScene(seed=1, people=2, size=(160, 120), fps=4, seconds=1)
    )
    broken, good, out = tmp_path / "broken.mp4", tmp_path / "good", tmp_path / "out"
    (count,) = label(out, broken, good, code=5)
    assert count["source"] == "good"
    assert "broken.mp4" in label(tmp_path / "none", broken, code=3)
    assert names(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([f"{SCENE}&live=1"], 2, "is live .* record it first"),
        ([SCENE, "--unsure", "0.9"], 2, r"--unsure 0\.9 is above --sure 0\.85"),
        ([SCENE, "--weights", "absent.onnx"], 4, r"no weights 'absent\.onnx'"),
        (["absent.mp4"], 3, "no such file"),
        ([], 2, "nothing to label: expected footage, or --relabel FOLDER"),
        (["--relabel", "a/x", "--relabel", "b/x"], 2, "two folders have one name in x, x"),
        (["--relabel", "absent"], 2, r"absent/annotations\.json"),
        ([SCENE, "--mask-teacher", "absent.tflite"], 4, r"absent\.tflite: no such file"),
    ],
)
def test_what_cannot_be_meant_is_told_in_one_line(labeller, tmp_path, arguments, code, words):
    error = label(tmp_path, *arguments, code=code)
    assert error.count("\n") == 1
    assert re.search(words, error), error


def test_an_output_that_cannot_be_made_is_told(labeller, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be written to" in label(tmp_path / "file", SCENE, code=1)
    (tmp_path / "images").touch()
    assert "images cannot be made: File exists" in label(tmp_path, SCENE, code=1)


def test_a_folder_is_labelled_again_by_several_with_a_sheet(labeller, tmp_path):
    label(tmp_path / "first", f"hall={SCENE}", "--no-masks")
    sheet, again = tmp_path / "sheet.png", tmp_path / "again"
    arguments = ["--relabel", tmp_path / "first", "--weights", "person-lite", "--sheet", sheet]
    result = CliRunner().invoke(app, ["label", *map(str, arguments), "--out", str(again), "--json"])
    (changes,) = json.loads(result.stdout)["relabelled"]
    # the detector finds two people at fixed places of each view: none is confirmed by most
    assert (changes["source"], changes["pictures"], changes["true"]) == ("first", 3, 0)
    assert changes["confirmed"] + changes["doubted"] == 3
    assert labeller.asked == 3 + 4 * 3
    assert cv2.imread(str(sheet)).ndim == 3
    info = json.loads((again / "annotations.json").read_text())["info"]
    assert f"--relabel {tmp_path / 'first'} --weights person-lite --every 1" in info["command"]
    label(again, *arguments)
    assert labeller.asked == 3 + 4 * 3
