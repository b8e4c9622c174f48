"""The recipe from people in video to weights that tell them apart."""

import json
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.datasets.motchallenge import rows, write_results
from streamvis.errors import ConfigError, DataError, StreamvisError
from streamvis.models import weights
from streamvis.models.embedding import ARCHITECTURES
from streamvis.training.loop import Schedule
from streamvis.training.losses.reid import AngularLoss
from streamvis.training.reid import recipe as embedder
from streamvis.training.reid.crop_dataset import (
    BatchComposition,
    CropAugment,
    CropDataset,
    SyntheticIdentities,
    augmented,
    batches,
    composed,
    gather,
    recoloured,
    relations,
    swap_margins,
)
from streamvis.training.reid.identity_boxes import read_identity_boxes
from streamvis.training.reid.recipe import (
    EmbedderRecipe,
    boxes_to_train_on,
    build,
    load_recipe,
    losses,
    steadied,
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
NOTHING = {
    "jitter": 0, "flip": 0, "brightness": 0, "contrast": 0, "saturation": 0, "tint": 0,
    "coarse": 0, "blur": 0, "compress": 0, "erase": 0, "surround": 0,
}  # fmt: skip
COLOURS = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40)], np.uint8)


def sequence(folder: Path, name: str, people: int = 4, frames: int = 8) -> Path:
    """A MOTChallenge folder of coloured people who walk past, at 10 pictures a second."""
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    lines = []
    for n in range(1, frames + 1):
        picture = np.full((120, 160, 3), 128, np.uint8)
        for i in range(people):
            x, y = 5 + 35 * i + n, 20 + 5 * i
            picture[y : y + 60, x : x + 24] = COLOURS[i][::-1]
            lines.append(f"{n},{i + 1},{x},{y},24,60,1,-1,-1,-1")
        cv2.imwrite(str(folder / "img1" / f"{n:06}.png"), picture)
    (folder / "gt/gt.txt").write_text("\n".join(lines))
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={name}\nimDir=img1\nframeRate=10\nseqLength={frames}\n"
        "imWidth=160\nimHeight=120\nimExt=.png\n"
    )
    return folder


def coloured(count: int, views: int, *, seed: int = 0) -> CropDataset:
    """People told apart by the tints of shirt and trousers, not by how bright they are.

    Each is in a video of its own.
    """
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(count), views)
    tints = rng.uniform(0.3, 1, (count, 2, 3))
    tints /= tints.sum(2, keepdims=True)
    light = rng.uniform(80, 480, (len(person), 1, 1, 1))
    crops = tints[person].repeat(40, axis=1)[:, :, None].repeat(40, axis=2) * light
    crops = np.clip(crops + rng.normal(0, 30, crops.shape), 0, 255)  # (N, 80, 40, 3)
    apart = [np.zeros((1, 1), bool)] * count
    return CropDataset(
        crops.astype(np.uint8),
        person,
        person,
        np.zeros((len(person), 1, 0, 0)),
        apart,
        np.arange(count + 1),
    )


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


def taught(recipe: EmbedderRecipe, people: CropDataset, out: Path, monkeypatch) -> weights.Embedder:
    monkeypatch.setattr(embedder, "boxes_to_train_on", lambda recipe, data: [])
    monkeypatch.setattr(embedder, "gather", lambda *_: people)
    return train(recipe, [], [], out)


@torch.inference_mode()
def vectors_of(model: weights.Embedder, people: CropDataset) -> torch.Tensor:
    plain = CropAugment(**NOTHING)
    rng = np.random.default_rng(0)
    crops = np.stack([augmented(crop, model.size, plain, rng) for crop in people.crops])
    return model(model.normalise(crops)).float()


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
    assert (
        len(gather(found, (32, 16), [], SyntheticIdentities(1), tmp_path / "people.npz").crops)
        == 4 * 5
    )
    with pytest.raises(DataError, match="all of the data is held out: held"):
        boxes_to_train_on(recipe, [held])


def test_a_look_every_fifth_of_a_second_is_taken_of_each_person(tmp_path):
    (one,) = read_identity_boxes(sequence(tmp_path / "a", "walk", people=2, frames=9), 0.2)
    assert one.frames[one.ids == 0].tolist() == [1, 2, 4, 6, 8]
    assert one.apart().tolist() == [[False, True], [True, False]]


def test_tracks_of_a_batch_are_people_and_sure_to_differ_only_side_by_side(tmp_path):
    film = sequence(tmp_path / "film", "film")
    run = tmp_path / "runs/film"
    run.mkdir(parents=True)
    (run / "summary.json").write_text(json.dumps({"sources": [{"label": str(film)}]}))
    at = [(1, 1, 0), (1, 2, 40), (6, 2, 40), (6, 3, 80), (8, 4, 80), (8, 5, 85)]  # frame, id, x
    boxes = np.array([(x, 20, x + 24, 80) for _, _, x in at])
    write_results(run / "tracks.txt", rows([f for f, _, _ in at], [i for _, i, _ in at], boxes))
    (one,) = read_identity_boxes(tmp_path / "runs", 0.1)
    assert one.ids.tolist() == [0, 1, 1, 2]  # 4 and 5 stand before each other
    expected = np.zeros((3, 3), bool)
    expected[0, 1] = expected[1, 0] = expected[1, 2] = expected[2, 1] = True
    np.testing.assert_array_equal(one.apart(), expected)
    (run / "tracks.txt").write_text("")
    with pytest.raises(DataError, match="has no boxes of people to train on"):
        read_identity_boxes(tmp_path / "runs", 0.1)


def test_the_cache_is_read_when_it_fits_and_made_anew_when_not(tmp_path):
    found = [*read_identity_boxes(sequence(tmp_path / "a", "walk"), 0.2)]
    cache = tmp_path / "people.npz"
    first = gather(found, (32, 16), [], SyntheticIdentities(2, 3), cache)
    for picture in (tmp_path / "a/img1").iterdir():
        picture.unlink()
    again = gather(found, (32, 16), [], SyntheticIdentities(2, 3), cache)
    np.testing.assert_array_equal(again.crops, first.crops)
    with pytest.raises(StreamvisError):
        gather(found, (64, 32), [], SyntheticIdentities(2, 3), cache)


def test_an_unchanged_crop_is_the_box_without_its_border():
    large = np.zeros((40, 20, 3), np.uint8)
    large[4:36, 2:18] = np.random.default_rng(0).integers(256, size=(32, 16, 3))
    out = augmented(large, (32, 16), CropAugment(**NOTHING), np.random.default_rng(0))
    assert np.abs(out.astype(int) - large[4:36, 2:18]).max() <= 1


def test_a_surrounding_changes_margins_only():
    crops = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 40, 3), np.uint8)
    before = crops.copy()
    swap_margins(crops, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(crops[:, :, 10:30], before[:, :, 10:30])
    changed_rows = (crops != before).any((1, 3))  # (10, 40)
    assert changed_rows[:, :10].any()
    assert changed_rows[:, 30:].any()
    swap_margins(before, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(before[:, 0, 0, 0], np.arange(10))


def test_who_is_compared_is_known_and_batches_repeat():
    people = coloured(8, 3)
    mixture = BatchComposition(people=4, views=2, neighbours=1, others=3)
    one, two = (next(batches(people, (32, 16), mixture, CropAugment(), 0, 5)) for _ in range(2))
    torch.testing.assert_close(one.crops, two.crops)
    assert one.crops.shape == (11, 32, 16, 3)
    assert one.same[:8].sum() >= 16
    assert not one.same[8:].any()
    assert not one.other[8:].any()
    assert not (one.same & one.other).any()


class Brightness:
    """A teacher who tells mean colours."""

    path = Path("brightness.onnx")
    size = (20, 10)

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        means = crops.astype(np.float32).mean((1, 2)) + 1
        return means / np.linalg.norm(means, axis=1, keepdims=True)


def test_a_teacher_is_asked_about_each_wardrobe(tmp_path):
    (one,) = read_identity_boxes(sequence(tmp_path / "a", "walk"), 0.2)
    teacher = Brightness()
    people = gather([one], (32, 16), [teacher], SyntheticIdentities(3, 5), tmp_path / "people.npz")
    assert people.teacher_vectors.shape == (len(one) + 5, 3, 1, 3)
    for row in (0, 1, 2, 3, len(one), len(one) + 4):
        for wardrobe in range(3):
            seen = recoloured(people.crops[row], int(people.person[row]), wardrobe)
            expected = teacher(seen[None, 4:36, 2:18])[0]
            assert people.teacher_vectors[row, wardrobe, 0] @ expected > 0.999
    mixture = BatchComposition(people=3, views=2, neighbours=3, others=2)
    batch = next(batches(people, (32, 16), mixture, CropAugment(**NOTHING), 0, 0))
    told = torch.from_numpy(teacher(batch.crops.numpy()))
    assert float((told * batch.teacher_vectors[:, 0]).sum(1).min()) > 0.999


@given(person=st.integers(0, 99), wardrobe=st.integers(1, 9))
def test_a_wardrobe_changes_all_crops_of_a_person_alike_and_greys_stay_grey(person, wardrobe):
    rng = np.random.default_rng(person)
    grey = np.full((20, 10, 3), 90, np.uint8)
    coloured = rng.integers(256, size=(20, 10, 3), dtype=np.uint8)
    assert np.ptp(recoloured(grey, person, wardrobe).astype(int), axis=2).max() <= 1
    once, again = (recoloured(coloured, person, wardrobe) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert (once != recoloured(coloured, person, wardrobe + 1)).any()
    np.testing.assert_array_equal(recoloured(coloured, person, 0), coloured)


def test_a_stranger_is_one_above_and_another_below():
    crops = np.stack([np.full((40, 20, 3), shade, np.uint8) for shade in (10, 100, 200)])
    made = composed(crops, 30)
    assert set(np.unique(made[:, :3])) <= {9, 10, 99, 100, 199, 200}
    assert set(np.unique(made[:, 37:])) <= {9, 10, 99, 100, 199, 200}
    assert (made[:, 5, 5, 0] != made[:, 35, 5, 0]).any()
    np.testing.assert_array_equal(made, composed(crops, 30))


def test_relations_within_a_source_are_what_is_sure():
    apart = [np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], bool), np.zeros((1, 1), bool)]
    people = CropDataset(
        np.zeros((5, 8, 4, 3), np.uint8),
        np.array([0, 1, 2, 3, 0]),
        np.array([0, 0, 0, 1, 0]),
        np.zeros((5, 1, 0, 0)),
        apart,
        np.array([0, 3, 4]),
    )
    same, other = relations(people, np.arange(5))
    assert same.tolist()[0] == [True, False, False, False, True]
    assert other.tolist()[0] == [False, True, False, True, False]
    assert other.tolist()[2] == [False, False, False, True, False]  # perhaps 0 or 1 again
    assert other.tolist()[3] == [True, True, True, False, True]


def test_a_steadied_vector_lies_between_the_look_and_the_person():
    people = coloured(2, 3)._replace(
        teacher_vectors=np.eye(6, dtype=np.float32)[:, None, None]  # (6 crops, 1, 1 teacher, 6)
    )
    mixed = steadied(people, 0.5).teacher_vectors
    np.testing.assert_allclose(np.linalg.norm(mixed, axis=-1), 1, rtol=1e-6)
    expected = np.array([0.5 + 0.5 / 3, 0.5 / 3, 0.5 / 3, 0, 0, 0])
    np.testing.assert_allclose(mixed[0, 0, 0], expected / np.linalg.norm(expected), rtol=1e-5)
    np.testing.assert_array_equal(steadied(people, 0.0).teacher_vectors, people.teacher_vectors)


def test_what_cannot_be_trained_is_said(tmp_path):
    with pytest.raises(ConfigError, match="architecture is 'person-r50'; expected one of"):
        build(quick(architecture="person-r50"))
    alone = coloured(3, 1)
    with pytest.raises(DataError, match="fewer than two people have two crops"):
        next(batches(alone, (32, 16), BatchComposition(), CropAugment(), 0, 0))
    bad = tmp_path / "bad.yaml"
    bad.write_text("architecture: person-r18\nschedule: {steps: 1}\nangular: {reading: both}\n")
    with pytest.raises(ConfigError, match="Invalid enum value 'both'"):
        load_recipe(bad)
