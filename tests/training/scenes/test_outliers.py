"""Second heads and exposure: their losses against plain formulas, and what learns by them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.datasets.classes import CAMVID, VOID
from streamvis.errors import ConfigError, DataError
from streamvis.models import weights
from streamvis.models.swiftnet import SwiftNet, SwiftNetConfig, outlier_head
from streamvis.training.scenes import segmenter
from streamvis.training.scenes.outlier_synthesis import UNKNOWN, OutlierObject, PasteAugment
from streamvis.training.scenes.outliers import (
    OutlierTraining,
    exposure_loss,
    head_loss,
    outlier_loss,
    split_labels,
    with_objects,
)
from streamvis.training.scenes.segmenter import build, load_recipe, losses, train, weights_of
from streamvis.training.scenes.street_views import StreetBatch

RECIPE = f"""
architecture:
  name: small-unknown
  body: efficientnet_lite0
  segments: [{", ".join(CAMVID.names)}]
  widths: [16, 16, 16]
  lines: 64
  outliers: true
  outlier_widths: [8]
schedule: {{steps: 3, warmup: 1, save_every: 2}}
size: [64, 96]
batch: 2
precision: fp32
"""
HEAD = "outliers: {learns: head}\n"
EXPOSED = RECIPE.replace("  outliers: true\n  outlier_widths: [8]\n", "")


@pytest.fixture
def streets(tmp_path) -> Path:
    folder = tmp_path / "street"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for n in range(3):
        truth = np.full((64, 96), 3, np.uint8)
        truth[: 20 + n] = 0
        cv2.imwrite(str(folder / "images" / f"{n}.png"), np.dstack([60 * truth + 40] * 3))
        cv2.imwrite(str(folder / "labels" / f"{n}.png"), truth)
    return folder


@pytest.fixture
def things(tmp_path) -> Path:
    folder = tmp_path / "things"
    folder.mkdir()
    picture = np.zeros((30, 30, 4), np.uint8)
    picture[5:25, 5:25] = (200, 10, 240, 255)
    cv2.imwrite(str(folder / "thing.png"), picture)
    return folder


def recipe_of(tmp_path: Path, more: str, text: str = RECIPE) -> segmenter.SegmenterRecipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(text + more)
    return load_recipe(path)


def square(name="square") -> OutlierObject:
    return OutlierObject(
        name, np.full((20, 20, 3), (240, 10, 200), np.uint8), np.ones((20, 20), np.float32), True
    )


def test_labels_part_into_classes_and_what_is_strange():
    classes, strange = split_labels(torch.tensor([[[3, UNKNOWN, VOID]]]))
    assert classes.tolist() == [[[3, VOID, VOID]]]
    assert strange.tolist() == [[[0, 1, VOID]]]


def test_the_loss_of_a_second_head_is_cross_entropy_without_void():
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 5, 7)
    strange = torch.randint(0, 2, (2, 5, 7))
    strange[:, 2:4] = VOID
    expected = F.cross_entropy(logits, strange, ignore_index=VOID)
    torch.testing.assert_close(head_loss(logits, strange), expected)
    everywhere = torch.full_like(strange, VOID)
    assert head_loss(logits, everywhere) == 0


def test_exposure_is_how_far_posteriors_of_strange_pixels_are_from_uniform():
    torch.manual_seed(0)
    logits = torch.randn(2, 11, 4, 6)
    strange = torch.randint(0, 2, (2, 4, 6))
    found = exposure_loss(logits, strange)
    uniform = torch.full((11,), 1 / 11)
    posteriors = logits.softmax(1).permute(0, 2, 3, 1)[strange == 1]  # (N, 11)
    apart = (uniform * (uniform.log() - posteriors.log())).sum(1)
    torch.testing.assert_close(found, apart.mean())
    assert exposure_loss(torch.full_like(logits, 0.3), strange).item() == pytest.approx(0, abs=1e-6)
    assert exposure_loss(logits, torch.zeros_like(strange)) == 0


def test_exposure_teaches_doubt_where_things_are_strange_and_nowhere_else():
    logits = torch.randn(1, 5, 3, 4, requires_grad=True)
    strange = torch.tensor([[[1, 0, VOID, 1]] * 3])
    exposure_loss(logits, strange).backward()
    taught = logits.grad.abs().sum(1) > 0  # (1, 3, 4)
    assert torch.equal(taught, strange == 1)


@pytest.mark.parametrize("way", ["head", "exposure"])
def test_the_term_of_a_step_is_weighted_and_at_full_size(way):
    torch.manual_seed(0)
    about = SwiftNetConfig(
        "x", "efficientnet_lite0", CAMVID.names, (16, 16, 16), 64, outliers=way == "head"
    )
    model = SwiftNet(about).eval()
    features = torch.randn(1, 16, 8, 8)
    logits = model.logits(features)
    strange = torch.zeros(1, 32, 30, dtype=torch.long)  # a picture that was padded
    strange[:, 4:20, 4:20] = 1
    one, double = (
        outlier_loss(model, features, logits, strange, OutlierTraining(way=way, weight=w))
        for w in (1, 2)
    )
    assert one > 0
    torch.testing.assert_close(double, 2 * one)


def test_things_come_into_batches_alike_after_a_stop():
    def plain():
        for _ in range(4):
            labels = torch.full((2, 64, 64), 3)
            yield StreetBatch(torch.full((2, 64, 64, 3), 90, dtype=torch.uint8), labels)

    how = PasteAugment(pictures=1)
    whole = list(with_objects(plain(), [square()], how, 7, 0))
    rest = list(with_objects(iter(list(plain())[2:]), [square()], how, 7, 2))
    for first, again in zip(whole[2:], rest, strict=True):
        assert torch.equal(first.pixels, again.pixels)
        assert torch.equal(first.labels, again.labels)
    assert all((batch.labels == UNKNOWN).any() for batch in whole)
    assert not torch.equal(whole[0].labels, whole[1].labels)


def test_a_head_that_learns_alone_leaves_classes_and_features_as_they_are(
    streets, things, tmp_path
):
    plain = SwiftNet(
        SwiftNetConfig("plain", "efficientnet_lite0", CAMVID.names, (16, 16, 16), lines=64)
    )
    with torch.no_grad():
        plain.body.stem.weight[0] = -0.0
    start = tmp_path / "plain.safetensors"
    weights.save(plain, start, {})
    recipe = recipe_of(tmp_path, HEAD + f"start: {start}\n")
    arguments = [str(tmp_path / "recipe.yaml"), "--data", streets, "--negatives", things]
    command = ["train", "segmenter", *map(str, arguments), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.stderr
    path = Path(result.stdout.strip())
    before, after = (weights.load_segmenter(str(p)).state_dict() for p in (start, path))
    for name, value in before.items():
        assert torch.equal(after.pop(name), value), name
    assert after
    assert all(name.startswith("unknown.") for name in after)
    assert weights.sight(str(path)) == weights.sight(str(start))
    untrained = build(recipe).state_dict()
    assert not torch.equal(after["unknown.1.2.weight"], untrained["unknown.1.2.weight"].half())
    assert weights.verify(str(path)).metadata["negatives"] == "things"


def test_what_ships_sees_classes_as_the_plain_segmenter_does():
    shipped = weights.shipped()
    if not {"street-seg", "street-outlier"} <= set(shipped):
        pytest.skip("street-seg and street-outlier do not both ship")
    assert weights.sight("street-outlier") == weights.sight("street-seg")


@pytest.mark.parametrize("widths", [(), (8,), (8, 12)])
@pytest.mark.parametrize("size", [(64, 96), (90, 122)])
def test_heads_of_any_depth_answer_for_every_cell_of_the_features(widths, size):
    about = SwiftNetConfig(
        "x",
        "efficientnet_lite0",
        CAMVID.names,
        (16, 16, 16),
        64,
        outliers=True,
        outlier_widths=widths,
    )
    model = SwiftNet(about).eval()
    features = model.features(model.normalise(np.zeros((1, *size, 3), np.uint8)))
    found = model.strangeness(features)
    assert found.shape == (1, 2, *features.shape[2:])


def test_deeper_heads_see_further():
    reach = []
    for widths in ((), (8,), (8, 8)):
        torch.manual_seed(0)
        layers = outlier_head(4, widths).eval()
        x = torch.zeros(1, 4, 64, 64, requires_grad=True)
        layers(x + 1)[0, :, 32, 32].sum().backward()
        reach.append(int((x.grad[0].abs().sum(0) > 0).any(0).sum()))
    assert reach[0] == 1
    assert reach[0] < reach[1] < reach[2]


def test_a_second_head_goes_on_from_its_own_weights(tmp_path):
    recipe = recipe_of(tmp_path, "outliers: {}\n")
    path = tmp_path / "own.safetensors"
    weights.save(build(recipe), path, {})
    again = build(recipe_of(tmp_path, f"outliers: {{}}\nseed: 5\nstart: {path}\n")).state_dict()
    kept = weights.load_segmenter(str(path)).state_dict()
    for name, value in kept.items():
        assert torch.equal(again[name], value), name


@pytest.mark.parametrize(
    ("more", "text"), [("outliers: {}\n", RECIPE), ("outliers: {way: exposure}\n", EXPOSED)]
)
def test_the_whole_network_learns_both_ways(more, text, streets, things, tmp_path):
    recipe = recipe_of(tmp_path, more, text)
    model = build(recipe).train()
    pixels = torch.full((2, 64, 96, 3), 90, dtype=torch.uint8)
    labels = torch.full((2, 64, 96), 3)
    labels[:, 16:48, 16:48], pixels[:, 16:48, 16:48, 0] = UNKNOWN, 250
    labels[:, :8], pixels[:, :8] = 0, 200
    batch = StreetBatch(pixels, labels)
    rarity = weights_of(segmenter.gather(recipe, [streets]), 0.0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    found = []
    for _ in range(12):
        terms = losses(model, batch, recipe, rarity)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        found.append({name: term.item() for name, term in terms.items()})
    assert set(found[0]) == {"boundary", "overlap", "outliers"}
    assert found[-1]["outliers"] < 0.7 * max(row["outliers"] for row in found[:6])
    assert found[-1]["boundary"] < found[0]["boundary"]


def test_recipes_and_folders_that_do_not_go_together_are_told(streets, tmp_path):
    with pytest.raises(ConfigError, match="expected `learns: all`"):
        recipe_of(tmp_path, "outliers: {way: exposure, learns: head}\n")
    for text, more in ((RECIPE, ""), (RECIPE, "outliers: {way: exposure}\n"), (EXPOSED, HEAD)):
        with pytest.raises(ConfigError, match=r"architecture\.outliers is .* expected"):
            train(recipe_of(tmp_path, more, text), [streets], tmp_path / "out")
    with pytest.raises(DataError, match="--negatives"):
        train(recipe_of(tmp_path, HEAD), [streets], tmp_path / "out")
