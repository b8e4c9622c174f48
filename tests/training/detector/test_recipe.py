"""The recipe from annotations to weights that load."""

import json
import shutil
from collections import Counter
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
from published_hrnets import published_classifier
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.errors import ConfigError, DataError, WeightsError
from streamvis.models import weights
from streamvis.models.hrnet import HrnetBody
from streamvis.models.mask_rcnn import ARCHITECTURES
from streamvis.synthetic.render import SyntheticScene
from streamvis.training.detector.crowd_dataset import read_people
from streamvis.training.detector.recipe import (
    HoldOut,
    load_recipe,
    parameter_groups,
    read_folders,
    split,
    train,
)
from streamvis.training.detector.recipe import build as build_model
from streamvis.training.loop import read_log

ROOT = Path(__file__).parents[3]
CATEGORIES = [{"id": 1, "name": "person"}]
RECIPE = """
architecture: person-lite
batch: 2
precision: fp32
schedule: {steps: 3, warmup: 1, save_every: 2}
augment: {canvases: [[128, 160]], mosaic: 0.5, cover: 0.5, paste: 0.5}
settle: 1
sampling: [64, 32, 4]
"""

TWINS = (  # near-duplicates in Penn-Fudan, a scene a line
    "FudanPed00004 FudanPed00005 FudanPed00006 FudanPed00008",
    "FudanPed00027 FudanPed00051",
    "PennPed00011 PennPed00012",
    "PennPed00025 PennPed00028",
    "PennPed00031 PennPed00032",
    "PennPed00035 PennPed00036",
    "PennPed00038 PennPed00039 PennPed00041",
    "PennPed00065 PennPed00067",
    "PennPed00073 PennPed00084",
    "PennPed00077 PennPed00078",
    "PennPed00087 PennPed00088 PennPed00089 PennPed00091 PennPed00093",
)

SIZED = {"width": 160, "height": 120}


@pytest.fixture
def people(tmp_path) -> Path:
    scene = SyntheticScene(seed=1, people=3, size=(160, 120), fps=5, seconds=2)
    (tmp_path / "images").mkdir()
    images, rows = [], []
    for n in range(4):
        name = f"{n}.png"
        cv2.imwrite(str(tmp_path / "images" / name), scene.picture(n)[..., ::-1])
        images.append(
            {"id": n, "file_name": name, "source": "even" if n % 2 == 0 else "odd"} | SIZED
        )
        for x1, y1, x2, y2 in scene.truth(n).visible_boxes.tolist():
            if x2 > x1 and y2 > y1:
                rows.append({"image_id": n, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    document = {"images": images, "annotations": rows, "categories": CATEGORIES}
    (tmp_path / "annotations.json").write_text(json.dumps(document))
    return tmp_path


def test_every_shipped_recipe_of_a_detector_loads():
    paths = (ROOT / "configs/training").glob("*.yaml")
    detectors = [path for path in paths if "train detector" in path.read_text()]
    assert len(detectors) == 4
    for path in detectors:
        assert load_recipe(path).schedule.steps > 0


def test_a_recipe_ends_in_curves_and_weights_that_load(people, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    out = tmp_path / "out"
    arguments = ["train", "detector", str(recipe), "--data", str(people), "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    path = Path(result.stdout.strip())
    info = weights.verify(str(path))
    assert (info.architecture, info.metadata["steps"]) == ("person-lite", "3")
    assert cv2.imread(str(out / "curves.png")) is not None
    again = CliRunner().invoke(app, arguments)  # nothing is left to do, and nothing breaks
    assert again.exit_code == 0, again.stderr
    recipe.write_text(RECIPE.replace("steps: 3", "steps: 4"))
    other = CliRunner().invoke(app, arguments)
    assert other.exit_code == 2
    assert "schedule.steps was 3, is now 4. Choose another --out" in other.stderr
    held = CliRunner().invoke(app, [*arguments, "--hold-out", "even", "--overwrite"])
    assert held.exit_code == 0, held.stderr
    assert len((out / "log.jsonl").read_text().splitlines()) == 4


def test_held_out_pictures_are_not_trained_on(people, capsys):
    pictures = read_people(people)
    train, held = split(pictures, HoldOut("even", 2))
    assert [p.path.name for p in held] == ["0.png"]
    assert len(train) == 3
    train, held = split(pictures, HoldOut("odd", 1))  # a whole source
    assert [p.path.name for p in train] == ["0.png", "2.png"]
    assert [p.path.name for p in held] == ["1.png", "3.png"]
    train, held = split(pictures, [HoldOut("elsewhere", 2), HoldOut("even", 1)])
    assert [p.path.name for p in held] == ["0.png", "2.png"]
    assert (
        "elsewhere not found in the data, ignored; its sources: even, odd"
        in capsys.readouterr().err
    )


def test_scenes_are_held_out_by_the_names_of_their_pictures(people, capsys):
    pictures = read_people(people)
    train, held = split(pictures, HoldOut("even", pictures=("2", "gone")))
    assert [p.path.name for p in held] == ["2.png"]
    assert [p.path.name for p in train] == ["0.png", "1.png", "3.png"]
    assert "hold_out: gone not found in the data, ignored" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["person-lite", "person-lite-finish", "person-lite-streets"])
def test_no_scene_of_penn_fudan_is_on_both_sides(name):
    """Pictures that one homography lays over each other, found by ORB features, and their twins."""
    (held,) = [load_recipe(ROOT / f"configs/training/{name}.yaml").hold_out]
    assert held.source == "Penn-Fudan"
    assert len(held.pictures) == len(set(held.pictures)) == 35  # a fifth
    for scene in TWINS:
        assert len({one in held.pictures for one in scene.split()}) == 1, scene


def copy(people: Path, to: Path, keep: int) -> Path:
    """The same folder with its first pictures only."""
    shutil.copytree(people / "images", to / "images")
    document = json.loads((people / "annotations.json").read_text())
    document["images"] = [image | {"source": "mine"} for image in document["images"][:keep]]
    ids = {image["id"] for image in document["images"]}
    document["annotations"] = [r for r in document["annotations"] if r["image_id"] in ids]
    (to / "annotations.json").write_text(json.dumps(document))
    return to


def test_folders_weigh_alike_and_the_held_out_source_may_be_in_any(people, tmp_path):
    mine = copy(people, tmp_path / "mine", 2)
    pictures = read_folders([people, mine], None)
    assert Counter(p.source for p in pictures) == {"even": 2, "odd": 2, "mine": 4}
    assert all(p.path.is_file() for p in pictures)
    pictures = read_folders([mine, people], HoldOut("odd", 1))
    assert Counter(p.source for p in pictures) == {"even": 2, "mine": 2}
    pictures = read_folders([people, mine], HoldOut("mine", 2))
    assert Counter(p.source for p in pictures) == {"even": 2, "odd": 2, "mine": 4}
    pictures = read_folders([people, mine], HoldOut("mine", 1))  # all of one folder
    assert Counter(p.source for p in pictures) == {"even": 2, "odd": 2}
    with pytest.raises(DataError, match=r"all of the data is held out: even, odd\."):
        read_folders([people], [HoldOut("even", 1), HoldOut("odd", 1)])
    (mine / "images/1.png").unlink()
    with pytest.raises(DataError, match=r"lists 2 images, but 1 of them do not exist.*/1\.png"):
        read_folders([mine], None)


def test_pictures_without_anybody_are_refused(people):
    document = json.loads((people / "annotations.json").read_text())
    rows = [row | {"iscrowd": 1} for row in document["annotations"]]
    (people / "annotations.json").write_text(json.dumps(document | {"annotations": rows}))
    with pytest.raises(DataError, match="no person is annotated in the 4 images"):
        read_folders([people], None)


def test_training_starts_from_shipped_weights_by_name(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE + "start: person-lite")
    model = build_model(load_recipe(recipe))
    for name, value in weights.load_detector("person-lite").state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    recipe.write_text(RECIPE + "start: person-huge")
    with pytest.raises(
        WeightsError, match=r"neither a file nor the name of any that are shipped.*person-lite"
    ):
        build_model(load_recipe(recipe))


def test_what_is_kept_of_the_start_is_blended_with_what_was_trained(people, tmp_path):
    recipe = RECIPE.replace("steps: 3", "steps: 1") + "start: person-lite\n"
    found = {}
    for kept in (0, 0.25):
        (tmp_path / "recipe.yaml").write_text(f"{recipe}kept: {kept}\n")
        model = train(load_recipe(tmp_path / "recipe.yaml"), [people], tmp_path / f"run-{kept}")
        found[kept] = model.state_dict()
    start = weights.load_detector("person-lite").state_dict()
    moved = 0
    for name, value in found[0].items():
        torch.testing.assert_close(found[0.25][name], 0.75 * value + 0.25 * start[name])
        moved += not torch.equal(value, start[name])
    assert moved > 50


def test_the_first_blocks_keep_their_imagenet_weights(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    loaded = load_recipe(recipe)
    model = build_model(loaded)
    groups = parameter_groups(model, loaded)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert all(n.startswith(("backbone.body.stem", "backbone.body.blocks.")) for n in frozen)
    assert {n.split(".")[3] for n in frozen if "blocks" in n} == {"0", "1", "2"}
    learnt = sum(len(parameters) for parameters, _ in groups)
    assert learnt + len(frozen) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("architecture: person-lite", "missing required field `schedule`"),
        (RECIPE + "rates: {body: fast}", "Expected `float`"),
        (RECIPE + "stpes: 3", "unknown field `stpes`"),
        ("[", "recipe.yaml"),
    ],
)
def test_a_faulty_recipe_gets_one_line(text, words, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_architecture_lists_the_known(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("person-lite", "person-huge"))
    with pytest.raises(ConfigError, match="person-lite"):
        build_model(load_recipe(path))


@pytest.mark.parametrize("name", ["maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"])
def test_a_layout_that_cannot_be_trained_is_refused_before_any_weights_are_read(name, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("person-lite", name) + "\nstart: no-such-weights\n")
    with pytest.raises(ConfigError, match=r"not trained.*person-lite") as caught:
        build_model(load_recipe(path))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_detector_with_hrnet_learns_from_a_published_classifier(people, tmp_path, monkeypatch):
    small = msgspec.structs.replace(
        ARCHITECTURES["person-hrnet-w18"], trunk_width=8, channels=16, box_width=32
    )
    monkeypatch.setitem(ARCHITECTURES, "person-hrnet-w18", small)
    file, recipe = tmp_path / "hrnetv2_w8_imagenet.pth", tmp_path / "recipe.yaml"
    torch.save(published_classifier(8), file)
    text = RECIPE.replace("person-lite", "person-hrnet-w18").replace("steps: 3", "steps: 10")
    recipe.write_text(f"{text}start: {file}\nrates: {{body: 1.0e-3, heads: 2.0e-3}}\n")
    model = train(load_recipe(recipe), [people], tmp_path / "out")
    assert isinstance(model.backbone.body, HrnetBody)
    rows = read_log(tmp_path / "out/log.jsonl").values()
    losses = [sum(v for n, v in row.items() if n not in ("step", "seconds")) for row in rows]
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    recipe.write_text(text)
    with pytest.raises(ConfigError, match="needs EfficientNet-Lite0, which person-hrnet-w18"):
        build_model(load_recipe(recipe))
