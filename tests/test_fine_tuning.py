"""The walk-through of docs/fine-tuning.md, every command of it as written, on made-up footage."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from msgspec.structs import replace
from onnx_files import cells, onnx_file
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.datasets.coco import read_coco
from streamvis.geometry import iou
from streamvis.messages import Detections
from streamvis.models import weights
from streamvis.models.inference import select
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence
from streamvis.training.detector.annotation import CocoImage, LabelPlan, annotate
from streamvis.training.detector.coco_folder import LabelOrigin, open_folder

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/fine-tuning.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("streamvis")]
RECIPE = "fine-tune"  # a file of this name goes before what ships
PLAN = LabelPlan(every=1, sure=0.5, unsure=0.1)
SIZE = (320, 240)
DAYS = {"monday": 1, "tuesday": 2, "friday": 3}  # and the seeds of their scenes


def scene(seed: int, seconds: float = 2) -> SyntheticScene:
    return SyntheticScene(seed=seed, people=3, size=SIZE, fps=4, seconds=seconds)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A user's directory: recordings, other labelled people, and a recipe of a size for tests."""
    home = tmp_path_factory.mktemp("home")
    for day, seed in DAYS.items():
        folder = write_sequence(home / f"{day}-made", scene(seed))
        shutil.move(folder / "video.mp4", home / f"{day}.mp4")
    write_truth(home / "people", scene(9))
    onnx_file(home / "yolox_nano.onnx", np.zeros((cells((96, 128)), 8)), size=(96, 128))
    recipe = yaml.safe_load((ROOT / f"configs/training/{RECIPE}.yaml").read_text())
    recipe["batch"] = 2
    recipe["schedule"] |= {"steps": 2, "warmup": 1}
    recipe["augment"]["canvases"] = [[96, 128]]
    recipe["sampling"] = [64, 32, 4]
    (home / RECIPE).write_text(yaml.safe_dump(recipe))
    return home


def write_truth(folder: Path, scene: SyntheticScene) -> None:
    """What the scene knows of its people, as if somebody had labelled it by hand."""
    folder.mkdir()
    origin = LabelOrigin(command="", sources={}, weights_sha256="", streamvis="")
    labels = open_folder(folder, origin)
    for n in range(0, scene.frames, 4):
        boxes = scene.truth(n).visible_boxes
        count = len(boxes)
        found = Detections(
            boxes=boxes,
            scores=np.ones(count, np.float32),
            labels=np.ones(count, np.int32),
            masks=np.zeros((0, 0, 0), np.uint8),
        )
        width, height = SIZE
        image = CocoImage(
            id=n + 1, file_name=f"{n}.jpg", width=width, height=height, source="", media_us=n
        )
        rows = annotate(found, image, labels.next_annotation, PLAN)
        labels.add(scene.picture(n), image, [replace(row, box_label="gt") for row in rows])
    labels.save()


@pytest.fixture(scope="module", autouse=True)
def quick_to_start():
    """Without compiling: it pays for hours of video, not for a handful of pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "openvino_version", lambda: None)
        yield


@pytest.fixture(scope="module")
def outputs(home) -> dict[str, str]:
    """What each command of the document prints."""
    said = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for line in COMMANDS:
            result = CliRunner().invoke(app, shlex.split(line, comments=True)[1:])
            assert result.exit_code == 0, (line, result.stderr)
            said[line] = result.stdout
    return said


def test_the_document_has_the_commands_that_this_test_relies_on():
    verbs = [" ".join(shlex.split(line)[1:3]) for line in COMMANDS]
    assert [verb for verb in verbs if not verb.startswith("label")] == [
        "eval detect",
        "train detector",
        "eval detect",
    ]
    assert sum(verb.startswith("label") for verb in verbs) == 4


def test_labels_are_near_the_truth(home, outputs):
    hits = people = 0
    for seed, day in ((1, "monday"), (2, "tuesday")):
        for n, truth in enumerate(
            t for t in read_coco(home / "footage/annotations.json") if t.name.startswith(day)
        ):
            known = scene(seed).truth(4 * n).boxes
            overlaps = iou(known, truth.boxes[~truth.crowd])
            hits += int((overlaps > 0.5).any(axis=0).sum())
            people += int((~truth.crowd).sum())
    assert people >= 4
    assert hits >= 0.7 * people


def test_several_networks_label_together_and_true_labels_stay(home, outputs):
    (both,) = [
        truth for truth in read_coco(home / "both/annotations.json") if truth.name[-9] == "1"
    ]
    assert (both.people, both.crowd.any()) == (0, True)  # one network of two finds nobody
    truths = (read_coco(home / name / "annotations.json") for name in ("people", "people-again"))
    for before, after in zip(*truths, strict=True):
        assert before.people == len(before.boxes) >= 1
        np.testing.assert_allclose(after.boxes[~after.predicted_boxes], before.boxes)


def test_the_recipe_ends_in_weights_that_load_and_score(home, outputs):
    (trained,) = [said for line, said in outputs.items() if " train " in line]
    assert Path(trained.strip()) == Path("runs/mine/person-lite.safetensors")
    info = weights.verify(str(home / trained.strip()))
    assert info.metadata["start"] == "person-lite"
    assert info.metadata["data"] == "footage, people"
    before, after = [said for line, said in outputs.items() if " eval " in line]
    assert "check" in before
    assert "check" in after


def test_one_source_of_a_folder_is_held_out_by_its_name(home, monkeypatch):
    monkeypatch.chdir(home)
    recipe = yaml.safe_load(Path(RECIPE).read_text())
    recipe["hold_out"] = {"source": "door", "every": 1}
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
    call = CliRunner().invoke
    line = "label hall=monday.mp4 door=tuesday.mp4 --out named --no-masks"
    assert call(app, line.split()).exit_code == 0
    scored = call(app, ["eval", "detect", "named", "--hold-out", "recipe.yaml", "--json"])
    assert scored.exit_code == 0, scored.stderr
    (scores,) = json.loads(scored.stdout).values()
    assert scores["pictures"] == 2
