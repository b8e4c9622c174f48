"""The recipe from people in video to weights that tell them apart."""

from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
from labelled_people import UNCHANGED, coloured, sequence
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.errors import ConfigError, DataError
from streamvis.models import weights
from streamvis.models.embedding import ARCHITECTURES
from streamvis.training.loop import Schedule
from streamvis.training.losses.reid import AngularLoss
from streamvis.training.reid import recipe as embedder
from streamvis.training.reid.crop_dataset import (
    BatchComposition,
    CropDataset,
    augmented,
    gather,
)
from streamvis.training.reid.recipe import (
    Distillation,
    EmbedderRecipe,
    boxes_to_train_on,
    build,
    load_recipe,
    losses,
    set_apart,
    train,
)

ROOT = Path(__file__).parents[3]
RECIPE = """
architecture: person-r18
stripes: 2
precision: fp32
every_s: 0.2
hold_out: [held]
schedule: {steps: 4, warmup: 1, save_every: 2}
batch: {people: 4, views: 2, neighbours: 4, others: 2}
"""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Crops of a quarter of the pixels."""
    one = msgspec.structs.replace(ARCHITECTURES["person-r18"], size=(64, 32), stripes=1, power=1.0)
    monkeypatch.setitem(ARCHITECTURES, "person-r18", one)


def rank1(vectors: torch.Tensor, person: np.ndarray) -> float:
    near = vectors @ vectors.T - 2 * torch.eye(len(vectors))
    return float((person[near.argmax(1).numpy()] == person).mean())


def quick(**changes) -> EmbedderRecipe:
    return EmbedderRecipe(
        **{
            "architecture": "person-r18",
            "schedule": Schedule(steps=30, warmup=5, average=0.8),
            "batch": BatchComposition(people=6, views=3, neighbours=1, others=0),
            "precision": "fp32",
        }
        | changes
    )


def test_the_shipped_recipe_holds_out_what_it_is_scored_on():
    recipe = load_recipe(ROOT / "configs/training/person-r18.yaml")
    assert {"PETS09-S2L1", "TUD-Campus"} <= set(recipe.hold_out)


def test_a_recipe_ends_in_curves_and_weights_that_load(tmp_path):
    data = [sequence(tmp_path / "mot/a", "seen"), sequence(tmp_path / "mot/b", "held")]
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    recipe.write_text(RECIPE + f"start: {published(tmp_path)}\n")
    arguments = ["train", "embedder", str(recipe), "--data", str(data[0].parent), "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    path = result.stdout.strip()
    info = weights.verify(path)
    assert (info.architecture, info.metadata["steps"]) == ("person-r18", "4")
    assert weights.load_embedder(path).outputs == 256
    assert cv2.imread(str(out / "curves.png")) is not None
    again = CliRunner().invoke(app, arguments)  # nothing is left to do, and nothing breaks
    assert again.exit_code == 0, again.stderr
    other = CliRunner().invoke(app, [*arguments, "--hold-out", "held", "--hold-out", "gone"])
    assert other.exit_code == 2
    assert 'hold_out was ["held"], is now ["held","gone"]. Choose another' in other.stderr
    assert (
        "gone not found in the data, ignored; its sequences and videos: held, seen" in other.stderr
    )
    both = CliRunner().invoke(app, [*arguments, "--data", str(data[1])])
    assert both.exit_code == 2
    assert "contain the same boxes of held" in both.stderr


def published(folder: Path) -> Path:
    """Weights to start from that no package has to be installed for."""
    torch.manual_seed(0)
    model = weights.Embedder(ARCHITECTURES["person-r18"])
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.kaiming_normal_(parameter)
    path = folder / "start.safetensors"
    weights.save(model, path, {})
    return path


@pytest.mark.parametrize("reading", ["hinge", "smooth"])
def test_training_separates_people_it_has_seen_and_some_it_has_not(tmp_path, monkeypatch, reading):
    seen, unseen = coloured(12, 4), coloured(8, 4, seed=1)
    recipe = quick(start=str(published(tmp_path)), angular=AngularLoss(reading=reading, margin=1.0))
    raw = build(recipe).eval()
    trained = taught(recipe, seen, tmp_path / "out", monkeypatch)
    for people in (seen, unseen):
        before, after = (rank1(vectors_of(m, people), people.person) for m in (raw, trained))
        assert after > before + 0.05


def taught(
    recipe: EmbedderRecipe, people: CropDataset, out: Path, monkeypatch, teachers=()
) -> weights.Embedder:
    monkeypatch.setattr(embedder, "boxes_to_train_on", lambda recipe, data: [])
    monkeypatch.setattr(embedder, "gather", lambda *_: people)
    monkeypatch.setattr(embedder, "Teacher", lambda teacher: teacher)
    monkeypatch.setattr(embedder, "begin", lambda *_, **__: None)
    return train(recipe, [], teachers, out)


class Hue:
    """A teacher whose vectors are differences of the mean colours, and the red."""

    size = (64, 32)
    outputs = 3

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        means = crops.astype(np.float32).mean((1, 2)) + 1
        out = np.stack([means[:, 0] - means[:, 1], means[:, 1] - means[:, 2], means[:, 0]], 1)
        return out / np.linalg.norm(out, axis=1, keepdims=True)


@torch.inference_mode()
def vectors_of(model: weights.Embedder, people: CropDataset) -> torch.Tensor:
    rng = np.random.default_rng(0)
    crops = np.stack([augmented(crop, model.size, UNCHANGED, rng) for crop in people.crops])
    return model(model.normalise(crops)).float()


def test_vectors_come_near_those_of_a_teacher(tmp_path, monkeypatch):
    people, start = coloured(12, 4), str(published(tmp_path))
    teacher, vectors = Hue(), Hue()(people.crops[:, 10:70, 5:35])
    recipe = quick(
        start=start, angular=AngularLoss(weight=0), lesson=Distillation(relations=0), apart=0.01
    )
    with pytest.raises(ConfigError, match="vectors of 128 numbers, the teachers 3 in all"):
        taught(recipe, people, tmp_path / "out", monkeypatch, [teacher])
    recipe = msgspec.structs.replace(recipe, vector=3, standardise=True)
    before, after = (
        float((vectors_of(m, people).numpy() * vectors).sum(1).mean())
        for m in (
            build(recipe).eval(),
            taught(recipe, people, tmp_path / "out", monkeypatch, [teacher]),
        )
    )
    assert after > max(before + 0.1, 0.9)


def test_people_are_as_far_apart_as_the_tracker_expects(tmp_path):
    people = coloured(30, 1)
    torch.manual_seed(0)
    model = weights.Embedder(msgspec.structs.replace(ARCHITECTURES["person-r18"], vector=16)).eval()
    before = vectors_of(model, people)
    for apart in (0.4, 0.7):
        set_apart(model, people, apart, 0)
        v = vectors_of(model, people)
        found = float(1 - (v @ v.T).sum().sub(len(v)) / (len(v) * (len(v) - 1)))
        assert found == pytest.approx(apart, abs=0.02)
    order, now = ((v @ v.T).flatten().argsort().argsort().float() for v in (before, v))
    assert float(torch.corrcoef(torch.stack([order, now]))[0, 1]) > 0.7  # likeness is kept


def test_stopped_and_resumed_is_as_if_never_stopped(tmp_path, monkeypatch):
    people, start = coloured(6, 3), str(published(tmp_path))
    whole = quick(start=start, schedule=Schedule(steps=4, warmup=1, save_every=2))
    taught(whole, people, tmp_path / "whole", monkeypatch)

    def broken(student, batch, recipe, step=[0]):  # noqa: B006
        step[0] += 1
        if step[0] == 4:
            raise KeyboardInterrupt
        return losses(student, batch, recipe)

    monkeypatch.setattr(embedder, "losses", broken)
    with pytest.raises(KeyboardInterrupt):
        taught(whole, people, tmp_path / "parts", monkeypatch)
    monkeypatch.setattr(embedder, "losses", losses)
    taught(whole, people, tmp_path / "parts", monkeypatch)
    ends = [
        torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "parts")
    ]
    assert ends[0]["step"] == ends[1]["step"] == 4
    for key, value in ends[0]["average"].items():
        torch.testing.assert_close(ends[1]["average"][key], value, rtol=0, atol=0)


def test_held_out_sequences_are_not_looked_at(tmp_path):
    sequence(tmp_path / "mot/a", "seen")
    held = sequence(tmp_path / "mot/b", "held")
    for picture in (held / "img1").iterdir():
        picture.unlink()  # whoever looked would fail
    recipe = quick(hold_out=("held",))
    found = boxes_to_train_on(recipe, [tmp_path / "mot"])
    assert [one.name for one in found] == ["seen"]
    assert len(gather(found, (32, 16), 0, tmp_path / "people").crops) == 4 * 5
    with pytest.raises(DataError, match="all of the data is held out: held"):
        boxes_to_train_on(recipe, [held])


def test_what_cannot_be_trained_is_said(tmp_path):
    with pytest.raises(ConfigError, match="architecture is 'person-r50'; expected one of"):
        build(quick(architecture="person-r50"))
    bad = tmp_path / "bad.yaml"
    bad.write_text("architecture: person-r18\nschedule: {steps: 1}\nangular: {reading: both}\n")
    with pytest.raises(ConfigError, match="Invalid enum value 'both'"):
        load_recipe(bad)
