"""The embedder's contract, torchvision's names, and the files that hold it."""

import json
import re

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from streamvis.errors import WeightsError
from streamvis.models import weights
from streamvis.models.embedding import ARCHITECTURES, Embedder
from streamvis.models.layers import fuse
from streamvis.models.resnet import ResNet18

SMALL = msgspec.structs.replace(ARCHITECTURES["person-r18"], size=(64, 32), stripes=1, power=1.0)


def made(stripes: int = 1, train_norms: bool = False, **changes) -> Embedder:
    torch.manual_seed(0)
    architecture = msgspec.structs.replace(SMALL, stripes=stripes, **changes)
    model = Embedder(architecture, train_norms)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return model


def crops(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(count, 64, 32, 3), dtype=np.uint8)


def torchvision_resnet18() -> dict[str, torch.Tensor]:
    """A published file's names and shapes, from the paper's table 1, as torchvision spells them."""
    state = {"conv1.weight": torch.randn(64, 3, 7, 7)}
    norms = {"bn1": 64}
    inputs = 64
    for layer, width in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            name = f"layer{layer}.{block}"
            first = inputs if block == 0 else width
            state[f"{name}.conv1.weight"] = torch.randn(width, first, 3, 3)
            state[f"{name}.conv2.weight"] = torch.randn(width, width, 3, 3)
            norms |= {f"{name}.bn1": width, f"{name}.bn2": width}
            if layer > 1 and block == 0:
                state[f"{name}.downsample.0.weight"] = torch.randn(width, inputs, 1, 1)
                norms[f"{name}.downsample.1"] = width
        inputs = width
    for name, width in norms.items():
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{part}"] = torch.rand(width)
        state[f"{name}.num_batches_tracked"] = torch.tensor(1)
    return state | {"fc.weight": torch.randn(1000, 512), "fc.bias": torch.randn(1000)}


@settings(max_examples=10)
@given(count=st.integers(0, 5), stripes=st.sampled_from([1, 2, 4, 8]), seed=st.integers(0, 99))
def test_vectors_are_of_unit_length_and_each_of_its_crop_alone(count, stripes, seed):
    model = made(stripes).eval()
    shown = crops(count, seed)
    with torch.inference_mode():
        vectors = model(model.normalise(shown))
        assert vectors.shape == (count, 128 * stripes) == (count, model.outputs)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(count))
        for i in range(count):
            alone = model(model.normalise(shown[i : i + 1]))[0]
            torch.testing.assert_close(vectors[i], alone, atol=1e-5, rtol=1e-4)


def test_stripes_are_from_head_to_foot():
    model = made(stripes=4).eval()
    x = model.normalise(crops(1))
    with torch.inference_mode():
        vectors = model(x)[0].reshape(4, 128)
        pooled = ResNet18.forward(model, x)[0].reshape(128, 4, -1).mean(2).T  # (4, 128)
    torch.testing.assert_close(vectors, pooled / pooled.norm())


@pytest.mark.parametrize("power", [1.0, 3.0])
def test_pooling_is_the_generalised_mean(power):
    model = Embedder(msgspec.structs.replace(SMALL, stripes=2, power=power))
    x = torch.rand(3, 128, 8, 4, dtype=torch.float64)
    expected = torch.stack([x[:, :, :4], x[:, :, 4:]], 2).flatten(3).pow(power).mean(3)
    torch.testing.assert_close(model.pool(x)[..., 0], expected.pow(1 / power))


def test_pooling_nothing_has_a_slope():
    model = Embedder(msgspec.structs.replace(SMALL, power=3.0))
    x = torch.zeros(1, 128, 8, 4, requires_grad=True)
    model.pool(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_normalise_is_imagenets():
    model = made()
    pixel = np.full((1, 64, 32, 3), (255, 0, 128), np.uint8)
    x = model.normalise(pixel)
    assert x.shape == (1, 3, 64, 32)
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (128 / 255 - 0.406) / 0.225]
    np.testing.assert_allclose(x[0, :, 5, 5], expected, rtol=1e-5)
    torch.testing.assert_close(x, model.normalise(torch.from_numpy(pixel)))


@settings(max_examples=10)
@given(st.floats(0.3, 1), st.integers(0, 60), st.integers(0, 99))
def test_standardised_crops_do_not_show_how_much_light_there_was(gain, offset, seed):
    model = made(layers=3, vector=32, standardise=True).eval()
    assert model.outputs == 32
    shown = (crops(2, seed) // 2 + 40).astype(float)
    lit = np.clip(gain * shown + offset, 0, 255).astype(np.uint8)
    x = model.normalise(shown.astype(np.uint8))
    torch.testing.assert_close(x.mean((1, 2, 3)), torch.zeros(2), atol=1e-4, rtol=0)
    with torch.inference_mode():
        one, other = (model(model.normalise(c)) for c in (shown.astype(np.uint8), lit))
    assert float((one * other).sum(1).min()) > 0.98
    torch.testing.assert_close(one.norm(dim=1), torch.ones(2))


def test_a_crop_of_one_colour_is_nothing_to_standardise():
    x = made(standardise=True).normalise(np.full((1, 64, 32, 3), 200, np.uint8))
    torch.testing.assert_close(x, torch.zeros_like(x), atol=1e-5, rtol=0)


def test_a_published_resnet18_loads_and_its_second_half_is_left_out(tmp_path):
    published = torchvision_resnet18()
    path = tmp_path / "resnet18-f37072fd.pth"
    torch.save(published, path)
    model = weights.load_embedder(str(path))
    assert model.architecture == ARCHITECTURES["person-r18"]
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, published[key])
    assert weights.describe(str(path)).architecture == "person-r18"
    assert weights.verify(str(path)).tensors > 0


def test_frozen_norms_say_what_trained_ones_say_in_evaluation():
    trained = made(train_norms=True)
    x = trained.normalise(crops(6))
    trained.train()(x)  # fills the running statistics
    state = weights.embedder_state(trained.state_dict(), trained.architecture)
    frozen = made()
    frozen.load_state_dict(state)
    with torch.inference_mode():
        expected = trained.eval()(x)
        torch.testing.assert_close(frozen(x), expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(fuse(frozen)(x), expected, atol=1e-4, rtol=1e-3)


def test_what_is_saved_loads_with_its_size_and_stripes(tmp_path):
    model = made(stripes=4).eval()
    path = tmp_path / "mine.safetensors"
    weights.save(model, path, {"steps": "3"})
    again = weights.load_embedder(str(path))
    assert again.architecture == model.architecture
    x = model.normalise(crops(3))
    with torch.inference_mode():
        torch.testing.assert_close(again(x), model(x), atol=2e-3, rtol=0.02)  # kernels are fp16
    info = weights.verify(str(path))
    assert (info.architecture, info.metadata) == ("person-r18", {"steps": "3"})
    assert not weights.difference(str(path)).shapes


def test_a_detector_is_no_embedder_nor_the_reverse(tmp_path):
    path = tmp_path / "mine.safetensors"
    weights.save(made(), path, {})
    with pytest.raises(
        WeightsError, match=r"which computes appearance embeddings.*expected a detector"
    ):
        weights.load_detector(str(path))
    with pytest.raises(WeightsError, match=r"which detects people.*expected an embedder"):
        weights.load_embedder("person-lite")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": [8, 48]}, "Expected `int` >= 32"),
        ({"stripes": 0}, "Expected `int` >= 1"),
        ({"power": 0.5}, "Expected `float` >= 1"),
        ({"layers": 4}, "Expected `int` <= 3"),
        ({"vector": 0}, "Expected `int` >= 1"),
        ({"depth": 3}, "unknown field `depth`"),
    ],
)
def test_a_file_of_impossible_architecture_is_refused(tmp_path, change, message):
    about = json.loads(msgspec.json.encode(made().architecture)) | change
    path = tmp_path / "odd.safetensors"
    save_file(
        weights.embedder_state(made().state_dict(), made().architecture),
        path,
        {"architecture": json.dumps(about)},
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        weights.load_embedder(str(path))


@pytest.mark.parametrize("fault", ["absent", "shape", "nan"])
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path, fault):
    state = weights.embedder_state(made().state_dict(), made().architecture)
    key = "layer2.0.conv1.weight"
    if fault == "absent":
        del state[key]
    else:
        state[key] = torch.full((128, 64, 3, 3) if fault == "nan" else (128, 64, 1, 1), torch.nan)
    path = tmp_path / "bad.safetensors"
    save_file(state, path, {"architecture": msgspec.json.encode(made().architecture).decode()})
    with pytest.raises(WeightsError, match=r"layer2\.0\.conv1\.weight (is|holds)"):
        weights.load_embedder(str(path))


def test_the_shipped_embedder_is_the_one_of_the_table_and_has_a_card():
    assert weights.verify("person-r18").architecture == "person-r18"
    model = weights.load_embedder("person-r18")
    assert model.architecture == ARCHITECTURES["person-r18"]
    card = weights.shipped()["person-r18"].with_suffix(".md").read_text(encoding="utf-8")
    assert card.startswith("# person-r18")
    assert f"{model.outputs} numbers" in card


def test_the_shipped_embedder_knows_shirts_again():
    model = weights.load_embedder("person-r18")
    shirts = np.array([(200, 40, 40), (40, 60, 180), (230, 230, 230)])
    trousers = np.array([(40, 40, 40), (90, 80, 60), (30, 30, 60)])
    looks = []
    for light in (1.0, 0.8):
        for shirt, legs in zip(shirts, trousers, strict=True):
            crop = np.full((128, 48, 3), 120, np.uint8)
            crop[25:70, 8:40] = (shirt * light).astype(np.uint8)
            crop[70:120, 12:36] = (legs * light).astype(np.uint8)
            looks.append(crop)
    with torch.inference_mode():
        vectors = model(model.normalise(np.stack(looks)))
    assert (vectors[:3] @ vectors[3:].T).argmax(1).tolist() == [0, 1, 2]
