"""Engines say of the future what the network itself says, however the past comes to them."""

import copy

import numpy as np
import pytest
import torch

from streamvis.models import forecast_engines, swiftnet
from streamvis.models.accelerate import cpu_has_bf16, openvino_version
from streamvis.models.forecast_engines import accelerate_forecaster
from streamvis.models.forecasting import Architecture, Forecaster
from streamvis.models.scene_engines import SceneHead
from streamvis.models.swiftnet import SwiftNet

ENGINES = [("torch", "fp32"), ("torch", "bf16"), ("openvino", "fp32"), ("openvino", "bf16")]
SIZE = (90, 120)  # of pictures, padded to 96 × 128
KINDS = {
    "f2mf": {"fold": 2, "warped": 2, "detail": 2, "deformable": False},
    "f2mf deformed": {"warped": 4},
    "deform_f2f": {"kind": "deform_f2f", "fold": 4},
    "conv_f2f": {"kind": "conv_f2f", "residual": False},
}


@pytest.fixture(scope="module")
def segmenter() -> SwiftNet:
    torch.manual_seed(0)
    about = swiftnet.Architecture("untrained", "efficientnet_lite0", tuple("abcd"), (8, 8, 8))
    model = SwiftNet(about).eval()
    torch.nn.init.normal_(model.classes[-1].weight)
    return model


def network(**about) -> Forecaster:
    """Untrained, and of decided opinions."""
    torch.manual_seed(0)
    small = {"width": 16, "trunk": 16, "depth": 2, "radius": 2, "step": 1, "horizon_s": 0.2}
    model = Forecaster(Architecture(name="untrained", channels=8, stride=4, **small | about))
    for name, value in model.named_parameters():
        if value.dim() > 1 and not value.any():
            torch.nn.init.normal_(value, std=0.003 if "offset" in name else 0.05)
    model.fit_to(torch.linspace(-1, 1, 8), torch.linspace(0.5, 2, 8))
    return model.eval()


def maps(count: int, size: tuple[int, int] = (24, 32), seed: int = 0) -> torch.Tensor:
    rough = torch.randn(count, 8, 6, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(rough, size, mode="bicubic")


def told(quick, features, size=SIZE):
    past = []
    for x in features.split(1):
        past.append(quick.remember(x, past[-1] if past else None))
    return quick.forecast(past[-4:], size)


def able(engine: str, precision: str) -> None:
    if engine == "openvino" and openvino_version() is None:
        pytest.skip("openvino is not installed")
    if precision == "bf16" and not cpu_has_bf16():
        pytest.skip("this CPU has no bf16 arithmetic")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_an_engine_says_what_the_network_says(engine, precision, kind, segmenter):
    able(engine, precision)
    model, features = network(**KINDS[kind]), maps(4)
    quick = accelerate_forecaster(copy.deepcopy(model), segmenter, "cpu", precision, engine)
    found = told(quick, features)
    with torch.inference_mode():
        classes, shares = SceneHead(segmenter, SIZE)(model(features[None]))
        now, _ = SceneHead(segmenter, SIZE)(features[-1:])
    assert (classes != now).any()  # it is no copy of the present
    assert found.classes.shape == SIZE
    assert found.shares.shape == (4, 23, 30)
    exact = precision == "fp32"
    assert (found.classes == classes[0].numpy()).mean() > (0.9999 if exact else 0.97)
    np.testing.assert_allclose(found.shares, shares[0].numpy(), atol=1e-4 if exact else 0.06)


@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_moments_glide_past_one_by_one(engine, precision, segmenter):
    able(engine, precision)
    quick = accelerate_forecaster(network(**KINDS["f2mf"]), segmenter, "cpu", precision, engine)
    features = maps(6)
    late, alone = told(quick, features), told(quick, features[2:])
    np.testing.assert_array_equal(late.classes, alone.classes)
    np.testing.assert_array_equal(late.shares, alone.shares)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_before_the_first_moment_nothing_has_moved(engine, kind, segmenter):
    able(engine, "fp32")
    quick = accelerate_forecaster(network(**KINDS[kind]), segmenter, "cpu", "fp32", engine)
    first = quick.remember(maps(1))
    again = quick.remember(maps(1), first)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_flows_lead_as_exactly_far_from_the_first_cell_in_bf16(segmenter):
    able("openvino", "bf16")
    model = network(warped=1, deformable=False)
    with torch.no_grad():
        for part in (model.net.regress, model.net.flow, model.net.weigh):
            torch.nn.init.zeros_(part.conv.weight)
        model.net.flow.conv.bias.fill_(0.3)
        model.net.weigh.conv.bias.copy_(torch.tensor([-20.0, 20.0]))
    features = maps(4, (24, 160))
    quick = accelerate_forecaster(copy.deepcopy(model), segmenter, "cpu", "bf16", "openvino")
    found = told(quick, features, (96, 640))
    with torch.inference_mode():
        _, shares = SceneHead(segmenter, (96, 640))(model(features[None]))
        _, still = SceneHead(segmenter, (96, 640))(features[-1:])
    wrong = np.abs(found.shares - shares[0].numpy()).mean(axis=(0, 1))  # by column
    moved = np.abs(still[0].numpy() - shares[0].numpy()).mean(axis=(0, 1))
    assert wrong[-60:].mean() < 0.1 * moved[-60:].mean()


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_pictures_of_many_sizes_take_turns(engine, segmenter, monkeypatch):
    able(engine, "fp32")
    monkeypatch.setattr(forecast_engines, "MOST_SIZES", 2)
    model = network(**KINDS["conv_f2f"])
    quick = accelerate_forecaster(model, segmenter, "cpu", "fp32", engine)
    seen = {(90 + 32 * i, 64): maps(4, (24 + 8 * i, 16), i) for i in range(3)}
    first = [told(quick, x, size) for size, x in seen.items()]
    kept = [one.shares.copy() for one in first]
    again = [told(quick, x, size) for size, x in seen.items()]
    for one, other, before in zip(first, again, kept, strict=True):
        np.testing.assert_array_equal(one.shares, before)  # in memory of its own
        np.testing.assert_array_equal(one.classes, other.classes)
        np.testing.assert_array_equal(one.shares, other.shares)


def test_a_size_that_shares_its_cells_with_another_is_told_in_full(segmenter):
    able("openvino", "fp32")
    quick = accelerate_forecaster(
        network(**KINDS["conv_f2f"]), segmenter, "cpu", "fp32", "openvino"
    )
    features = maps(4)
    wide, narrow = told(quick, features, (96, 128)), told(quick, features, SIZE)
    np.testing.assert_array_equal(wide.classes[:90, :120], narrow.classes)
    np.testing.assert_allclose(wide.shares[:, :23, :30], narrow.shares, atol=1e-6)
