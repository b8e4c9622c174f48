"""The recipe from labelled streets to weights that load and segment."""

import itertools
from collections import OrderedDict
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
from published_hrnets import published_classifier
from torch import nn
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.datasets.classes import CAMVID, CITYSCAPES, VOID
from streamvis.errors import ConfigError, DataError, StreamvisError, WeightsError
from streamvis.models import weights
from streamvis.models.resnet import ResNet18Whole
from streamvis.models.swiftnet import SwiftNet, SwiftNetConfig
from streamvis.training.loop import read_log
from streamvis.training.pretrained import imagenet
from streamvis.training.scenes import segmenter
from streamvis.training.scenes.segmenter import (
    build,
    gather,
    load_recipe,
    losses,
    train,
    weights_of,
)
from streamvis.training.scenes.street_views import StreetBatch

ROOT = Path(__file__).parents[3]
RECIPE = f"""
architecture:
  name: small-street
  body: efficientnet_lite0
  segments: [{", ".join(CAMVID.names)}]
  widths: [16, 16, 16]
  lines: 64
schedule: {{steps: 3, warmup: 1, save_every: 2}}
size: [64, 96]
batch: 2
settle: 1
precision: fp32
"""


@pytest.fixture
def streets(tmp_path) -> Path:
    """Bands of colours: sky above buildings above a road."""
    folder = tmp_path / "street"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for n in range(4):
        truth = np.zeros((64, 96), np.uint8)
        truth[20 + n :], truth[44 - n :], truth[50:56, 20 * n : 20 * n + 12] = 1, 3, 8
        truth[:2] = 11
        picture = 20 * truth[..., None] + np.array([10, 40, 20], np.uint8)
        cv2.imwrite(str(folder / "images" / f"{n}.jpg"), picture)
        cv2.imwrite(str(folder / "labels" / f"{n}.png"), truth)
    return folder


def recipe_of(tmp_path: Path, more: str = "", text: str = RECIPE) -> segmenter.SegmenterRecipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(text + more)
    return load_recipe(path)


def resnet18(path: Path) -> dict[str, torch.Tensor]:
    """A file as torchvision publishes it: a classifier, with counters of its norms."""
    torch.manual_seed(3)
    state = ResNet18Whole(train_norms=True).state_dict()
    state = {n: torch.rand_like(v) if v.is_floating_point() else v for n, v in state.items()}
    state |= {"fc.weight": torch.rand(1000, 512), "fc.bias": torch.rand(1000)}
    torch.save(OrderedDict(state), path)
    return state


def test_every_shipped_recipe_of_a_segmenter_loads():
    paths = (ROOT / "configs/training").glob("*.yaml")
    ours = [path for path in paths if "train segmenter" in path.read_text()]
    assert ours
    for path in ours:
        recipe = load_recipe(path)
        assert recipe.settle < recipe.schedule.steps
        assert recipe.architecture.segments in (CAMVID.names, CITYSCAPES.names)


def test_a_recipe_ends_in_curves_and_weights_that_load(streets, tmp_path):
    recipe_of(tmp_path)
    out = tmp_path / "out"
    arguments = ["train", "segmenter", str(tmp_path / "recipe.yaml"), "--data", str(streets)]
    result = CliRunner().invoke(app, [*arguments, "--out", str(out)])
    assert result.exit_code == 0, result.stderr
    path = Path(result.stdout.strip())
    info = weights.verify(str(path))
    assert (info.architecture, info.metadata["steps"]) == ("small-street", "3")
    assert info.metadata["data"] == "street"
    assert cv2.imread(str(out / "curves.png")) is not None
    model = weights.load_segmenter(str(path))
    with torch.inference_mode():
        logits = model(model.normalise(np.zeros((1, 64, 96, 3), np.uint8)))
    assert logits.shape == (1, 11, 16, 24)
    twice = CliRunner().invoke(app, [*arguments, "--data", str(streets), "--out", str(out)])
    assert twice.exit_code == 2
    assert f"another training: --data was {streets} (" in twice.stderr


def test_a_stopped_training_goes_on_as_if_it_had_not_been(streets, tmp_path, monkeypatch):
    recipe = recipe_of(tmp_path)
    whole = train(recipe, [streets], tmp_path / "whole").state_dict()

    count = itertools.count()

    def stopping(*args):
        if next(count) == 2:
            raise KeyboardInterrupt
        return losses(*args)

    monkeypatch.setattr(segmenter, "losses", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, [streets], tmp_path / "parts")
    monkeypatch.undo()
    parts = train(recipe, [streets], tmp_path / "parts").state_dict()
    for name, value in whole.items():
        assert torch.equal(parts[name], value), name


def test_training_learns(streets, tmp_path):
    recipe = recipe_of(tmp_path)
    model = build(recipe).train()
    data = gather(recipe, [streets])
    labels = torch.from_numpy(np.stack(data.labels)).long()
    batch = StreetBatch(torch.from_numpy(np.stack(data.pictures)), labels)
    rarity = weights_of(data, recipe.loss.rare)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    totals = []
    for _ in range(10):
        loss = torch.stack(list(losses(model, batch, recipe, rarity).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(loss.item())
    assert totals[-1] < 0.6 * totals[0]


@pytest.mark.parametrize("about", [{"levels": 2}, {"skips": False}], ids=str)
def test_other_architectures_learn_by_the_same_recipe(about, streets, tmp_path):
    recipe = recipe_of(tmp_path)
    whole = msgspec.structs.replace(recipe.architecture, **about)
    recipe = msgspec.structs.replace(recipe, architecture=whole, size=(64, 96))
    data = gather(recipe, [streets])
    batch = StreetBatch(
        torch.from_numpy(np.stack(data.pictures[:2])),
        torch.from_numpy(np.stack(data.labels[:2])).long(),
    )
    model = build(recipe).train()
    terms = losses(model, batch, recipe, weights_of(data, 0.25))
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(term) for term in terms.values())
    taught = [p.grad is not None and bool((p.grad != 0).any()) for p in model.parameters()]
    assert np.mean(taught) > 0.95


def test_the_trunk_starts_from_imagenet(tmp_path):
    state = build(recipe_of(tmp_path)).body.state_dict()
    for name, value in imagenet().items():
        assert torch.equal(state[name], value), name


@pytest.mark.parametrize("levels", [1, 3])
def test_resnet_starts_from_a_published_file_alike_on_all_levels(levels, tmp_path):
    published = resnet18(tmp_path / "resnet18.pth")
    text = RECIPE.replace("efficientnet_lite0", "resnet18").replace(
        "  lines", f"  levels: {levels}\n  lines"
    )
    recipe = recipe_of(tmp_path, f"start: {tmp_path / 'resnet18.pth'}", text)
    filled = {n: v for n, v in build(recipe).body.state_dict().items() if "num_batches" not in n}
    norms = 17 * 4 * (levels - 1)
    assert len(filled) == sum("num_batches" not in n for n in published) - 2 + norms
    for name, value in filled.items():
        level = name.find(".norms.")
        there = name if level < 0 else name[:level] + name[level + len(".norms.0") :]
        assert torch.equal(value, published[there]), name


def test_a_start_that_does_not_fit_is_told(tmp_path):
    text = RECIPE.replace("efficientnet_lite0", "resnet18")
    with pytest.raises(ConfigError, match=r"expected `start: PATH` of torchvision's resnet18"):
        build(recipe_of(tmp_path, "", text))
    state = resnet18(tmp_path / "resnet18.pth")
    start = f"start: {tmp_path / 'resnet18.pth'}"
    with pytest.raises(
        WeightsError, match=r"resnet18\.pth does not fit the trunk EfficientNetLite0"
    ):
        build(recipe_of(tmp_path, start))
    state["layer3.0.conv1.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "resnet18.pth")
    with pytest.raises(WeightsError, match=r"layer3\.0\.conv1\.weight is \(1,\), expected finite"):
        build(recipe_of(tmp_path, start, text))
    state["layer3.0.conv1.weight"] = torch.full((256, 128, 3, 3), torch.nan)
    torch.save(state, tmp_path / "resnet18.pth")
    with pytest.raises(WeightsError, match=r"layer3\.0\.conv1\.weight"):
        build(recipe_of(tmp_path, start, text))
    with pytest.raises(WeightsError, match="neither a file nor the name of any that are shipped"):
        build(recipe_of(tmp_path, "start: nowhere"))


def test_training_goes_on_from_a_segmenter(tmp_path):
    recipe = recipe_of(tmp_path)
    torch.manual_seed(1)
    before = SwiftNet(recipe.architecture)
    weights.save(before, tmp_path / "first.safetensors", {})
    after = build(recipe_of(tmp_path, f"start: {tmp_path / 'first.safetensors'}"))
    for name, value in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], value, rtol=1e-3, atol=1e-6)


def test_rarer_classes_weigh_more_and_all_pixels_one_in_the_mean(streets, tmp_path):
    data = gather(recipe_of(tmp_path), [streets])
    found = weights_of(data, 0.25).double().numpy()
    there = np.flatnonzero(data.share)
    assert there.tolist() == [0, 1, 3, 8]
    order = np.argsort(data.share[there])
    assert (np.diff(found[there][order]) < 0).all()
    assert (found * data.share).sum() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(weights_of(data, 0.0), 1)


def test_pixels_without_a_class_teach_nothing(tmp_path):
    recipe = recipe_of(tmp_path)
    torch.manual_seed(0)
    model = SwiftNet(recipe.architecture).eval()
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
    labels = torch.randint(0, 11, (2, 64, 96))
    labels[:, :, 48:] = VOID
    batch = StreetBatch(torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8), labels)
    taken = []
    model.classes.register_forward_hook(lambda *a: taken.append(a[-1]))
    with torch.enable_grad():
        terms = losses(model, batch, recipe, torch.ones(11))
        (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), taken)
    assert (gradient[..., 13:] == 0).all()  # beyond what bilinear growth reaches
    assert (gradient[..., :12] != 0).any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("architecture: {name: x}", "missing required field"),
        (RECIPE + "rates: {body: fast}", "Expected `float`"),
        (RECIPE + "stpes: 3", "unknown field `stpes`"),
        (RECIPE.replace("efficientnet_lite0", "resnet101"), "resnet101"),
        (RECIPE.replace("size: [64, 96]", "size: [80, 96]"), "multiple of 32"),
        (RECIPE.replace("[16, 16, 16]", "[32, 16, 16]\n  levels: 3"), "have to be equal"),
        ("[", "recipe.yaml"),
    ],
)
def test_a_faulty_recipe_gets_one_line(text, words, tmp_path):
    with pytest.raises(StreamvisError) as caught:
        recipe_of(tmp_path, "", text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ConfigError)


def test_data_with_other_classes_is_refused(streets, tmp_path):
    text = RECIPE.replace(", ".join(CAMVID.names), ", ".join(CITYSCAPES.names))
    recipe = recipe_of(tmp_path, "", text)
    with pytest.raises(ConfigError, match=r"street is labelled with camvid-11, but the recipe's"):
        gather(recipe, [streets])
    with pytest.raises(DataError, match="no data to train on"):
        gather(recipe, [])


def test_architectures_say_what_they_are_in_yaml():
    about = msgspec.to_builtins(load_recipe(ROOT / "configs/training/street-seg.yaml").architecture)
    assert about["segments"] == CAMVID.names
    assert (about["levels"], about["skips"]) == (1, True)
    assert msgspec.convert(about, SwiftNetConfig).widths == (128, 128, 64)


def test_hrnet_learns_from_a_published_classifier(streets, tmp_path):
    file = tmp_path / "hrnetv2_w8_imagenet.pth"
    torch.save(published_classifier(8), file)
    text = RECIPE.replace("efficientnet_lite0", "hrnet\n  trunk_width: 8").replace(
        "steps: 3", "steps: 8"
    )
    recipe = recipe_of(tmp_path, f"start: {file}\nrates: {{body: 1.0e-3, heads: 3.0e-3}}\n", text)
    model = train(recipe, [streets], tmp_path / "out")
    losses = [
        sum(row[n] for n in ("boundary", "overlap"))
        for row in read_log(tmp_path / "out/log.jsonl").values()
    ]
    assert len(losses) == 8
    assert np.mean(losses[-2:]) < 0.9 * np.mean(losses[:2])
    assert model.channels == 120
    imagenet_start = msgspec.structs.replace(recipe, start="imagenet")
    with pytest.raises(ConfigError, match="no package has ImageNet weights of hrnet"):
        build(imagenet_start)
