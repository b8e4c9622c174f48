"""Engines say of the future what the network itself says, however the past comes to them."""

import copy

import cv2
import numpy as np
import pytest
import torch

from streamvis.errors import ModelError
from streamvis.models import swiftnet
from streamvis.models.flow_warp import extrapolate, scene_motion
from streamvis.models.forecasting import Forecaster, ForecasterConfig
from streamvis.models.inference import forecasts, plan_cache
from streamvis.models.inference.forecasts import accelerate_forecaster
from streamvis.models.inference.segmentation import SegmentationHead, SegmentedFrame
from streamvis.models.inference.select import cpu_has_bf16, openvino_version
from streamvis.models.swiftnet import SwiftNet
from streamvis.models.warp_calibrator import WarpCalibrator, warp_logits

LABELS = ("road", "tree", "car", "pole")
CAR = LABELS.index("car")
NONE = np.zeros((0, 0), np.uint8)
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
    about = swiftnet.SwiftNetConfig("untrained", "efficientnet_lite0", LABELS, (8, 8, 8))
    model = SwiftNet(about).eval()
    torch.nn.init.normal_(model.classes[-1].weight)
    return model


def network(**about) -> Forecaster:
    """Untrained, and of decided opinions."""
    torch.manual_seed(0)
    small = {"width": 16, "trunk": 16, "depth": 2, "radius": 2, "step": 1, "horizon_s": 0.2}
    model = Forecaster(ForecasterConfig(name="untrained", channels=8, stride=4, **small | about))
    for name, value in model.named_parameters():
        if value.dim() > 1 and not value.any():
            torch.nn.init.normal_(value, std=0.003 if "offset" in name else 0.05)
    model.fit_to(torch.linspace(-1, 1, 8), torch.linspace(0.5, 2, 8))
    return model.eval()


def maps(count: int, size: tuple[int, int] = (24, 32), seed: int = 0) -> torch.Tensor:
    rough = torch.randn(count, 8, 6, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(rough, size, mode="bicubic")


def seen(features: torch.Tensor, size=SIZE) -> SegmentedFrame:
    return SegmentedFrame(features, np.zeros(size, np.uint8), NONE)


def told(quick, features, size=SIZE, times=1):
    pixels, past = np.zeros((*size, 3), np.uint8), []
    for k, x in enumerate(features.split(1)):
        before = past[-1] if past else None
        past.append(quick.encode(200_000 * k, pixels, seen(x, size), before))
    return quick.forecast(past[-4:], times)


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
        classes, shares = SegmentationHead(segmenter, SIZE)(model(features[None]))
        now, _ = SegmentationHead(segmenter, SIZE)(features[-1:])
    assert (classes != now).any()  # it is no copy of the present
    assert found.classes.shape == SIZE
    assert found.shares.shape == (4, 23, 30)
    exact = precision == "fp32"
    assert (found.classes == classes[0].numpy()).mean() > (0.9999 if exact else 0.97)
    np.testing.assert_allclose(found.shares, shares[0].numpy(), atol=1e-4 if exact else 0.06)


@pytest.mark.parametrize("kind", ["f2mf", "conv_f2f"])
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_what_was_told_is_taken_for_seen_to_look_farther(engine, kind, segmenter):
    able(engine, "fp32")
    model, features = network(**KINDS[kind]), maps(4)
    quick = accelerate_forecaster(copy.deepcopy(model), segmenter, "cpu", "fp32", engine)
    found = told(quick, features, times=3)
    with torch.inference_mode():
        for _ in range(3):
            features = torch.cat([features[1:], model(features[None])])
        classes, shares = SegmentationHead(segmenter, SIZE)(features[-1:])
        near, _ = SegmentationHead(segmenter, SIZE)(features[1:2])
    assert (classes != near).any()
    assert (found.classes == classes[0].numpy()).mean() > 0.9999
    np.testing.assert_allclose(found.shares, shares[0].numpy(), atol=1e-4)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_one_that_cannot_go_on_from_what_it_told_says_so(engine, segmenter):
    able(engine, "fp32")
    model = network(**KINDS["conv_f2f"], horizon_s=0.6)
    quick = accelerate_forecaster(model, segmenter, "cpu", "fp32", engine)
    with pytest.raises(ModelError, match=r"a horizon of 0\.6 s and maps 0\.2 s apart"):
        told(quick, maps(4), times=2)


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
    pixels = np.zeros((*SIZE, 3), np.uint8)
    first = quick.encode(0, pixels, seen(maps(1)))
    again = quick.encode(200_000, pixels, seen(maps(1)), first)
    for one, other in zip(first.kept, again.kept, strict=True):
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
        _, shares = SegmentationHead(segmenter, (96, 640))(model(features[None]))
        _, still = SegmentationHead(segmenter, (96, 640))(features[-1:])
    wrong = np.abs(found.shares - shares[0].numpy()).mean(axis=(0, 1))  # by column
    moved = np.abs(still[0].numpy() - shares[0].numpy()).mean(axis=(0, 1))
    assert wrong[-60:].mean() < 0.1 * moved[-60:].mean()


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_pictures_of_many_sizes_take_turns(engine, segmenter, monkeypatch):
    able(engine, "fp32")
    monkeypatch.setattr(plan_cache, "MOST_SIZES", 2)
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


# ---- those that go by motion

WIDE = (120, 190)  # of pictures, padded to 128 × 192
SPEED = 50  # px a second, to the left
BEFORE = [(0, 0.2, 0.4), (0, 0.18, 0.4), (0, 0.22, 0.4), (0.1, 0.4)]  # moments, s


def texture(cell: int, seed: int, count: int = 256) -> np.ndarray:
    """Of squares, wider than a picture."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, count, (16, 40), np.uint8).repeat(cell, 0).repeat(cell, 1)


GROUND = cv2.GaussianBlur(np.stack([texture(9, seed) for seed in range(3)], -1), (0, 0), 3)
PLACES = np.where(texture(12, 3, 2) > 0, np.uint8(3), np.uint8(0))  # roads and poles
BODY = cv2.GaussianBlur(np.stack([texture(5, seed) for seed in range(4, 7)], -1), (0, 0), 1.5)


def moving(horizon_s: float = 0.2) -> WarpCalibrator:
    """Untrained, and of some opinion."""
    torch.manual_seed(0)
    about = {"kind": "moved", "channels": 4, "stride": 4, "width": 8, "depth": 2, "past": 2}
    model = WarpCalibrator(ForecasterConfig(name="untrained", horizon_s=horizon_s, **about))
    torch.nn.init.normal_(model.correct.weight)
    return model.eval()


def quickened(segmenter, engine="torch", precision="fp32", horizon_s=0.2):
    able(engine, precision)
    return accelerate_forecaster(moving(horizon_s), segmenter, "cpu", precision, engine)


def view(seconds: float, size=WIDE) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and classes of a scene that glides by."""
    left = round(SPEED * seconds)
    own = np.s_[: size[0], left : left + size[1]]
    return GROUND[own].copy(), PLACES[own].copy()


def street(seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """A car that goes to the right, before what stands."""
    pixels, classes = view(0)
    own = np.s_[40:72, (left := 20 + round(SPEED * seconds)) : left + 48]
    pixels[own], classes[own] = BODY[:32, :48], CAR
    return pixels, classes


def moments(quick, seconds, scene=view, size=WIDE):
    past = []
    for at in seconds:
        pixels, classes = scene(at) if scene is not view else view(at, size)
        features = maps(1, (-(-size[0] // 32) * 8, -(-size[1] // 32) * 8), seed=round(100 * at))
        now = SegmentedFrame(features, classes, NONE)
        past.append(quick.encode(round(1e6 * at), pixels, now, past[-1] if past else None))
    return past


def agreement(found: np.ndarray, now: np.ndarray, shift: int) -> float:
    """With what is now, so many px to the left."""
    return float((found[:, : now.shape[1] - shift] == now[:, shift:]).mean())


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("seconds", BEFORE)
def test_what_glides_by_goes_on_as_far_as_the_time_is_long(seconds, times, segmenter):
    quick = quickened(segmenter)
    past = moments(quick, seconds)
    found, now = quick.forecast(past, times).classes, past[-1].seen.classes
    by = [agreement(found, now, shift) for shift in range(50)]
    assert np.argmax(by) == times * SPEED * 0.2
    assert max(by) > 0.93  # a pan is taken for a turn, which bends edges


def test_a_longer_horizon_is_as_many_times_a_shorter_one(segmenter):
    near, far = quickened(segmenter), quickened(segmenter, horizon_s=0.6)
    assert near.memory == far.memory
    past = moments(near, BEFORE[1])
    one, other = near.forecast(past, 3), far.forecast(past)
    np.testing.assert_array_equal(one.classes, other.classes)
    np.testing.assert_array_equal(one.shares, other.shares)


@pytest.mark.parametrize("times", [1, 3])
def test_what_moves_by_itself_goes_before_what_stands(times, segmenter):
    quick = quickened(segmenter)
    found = quick.forecast(moments(quick, BEFORE[1], street), times).classes
    _, truth = street(0.4 + 0.2 * times)
    car = found == CAR
    assert (car & (truth == CAR)).sum() > 0.9 * (car | (truth == CAR)).sum()
    stands = (truth != CAR) & (street(0.4)[1] != CAR)
    assert (found == truth)[stands].mean() > 0.95


def test_where_nothing_moves_by_itself_all_stands():
    torch.manual_seed(0)
    about = swiftnet.SwiftNetConfig("untrained", "efficientnet_lite0", ("road", "pole"), (8, 8, 8))
    quick = quickened(SwiftNet(about).eval())
    past = moments(quick, BEFORE[0])
    found = quick.forecast(past, shares=False).classes
    assert agreement(found, past[-1].seen.classes, 10) > 0.95


def test_without_an_earlier_moment_all_stays_where_it_is(segmenter):
    quick = quickened(segmenter)
    first, second = moments(quick, (0, 0.2))
    alone = quick.encode(200_000, view(0.2)[0], second.seen)
    same = quick.encode(0, view(0.2)[0], second.seen, first)
    for past in ([first, first], [first, alone], [first, same], [second, second]):
        found = quick.forecast(past, 3).classes
        np.testing.assert_array_equal(found, past[-1].seen.classes)
    moved = quick.forecast([first, second], 3).classes
    assert (moved != second.seen.classes).any()


@pytest.mark.parametrize(("engine", "precision"), ENGINES)
def test_what_arrives_is_as_probable_as_the_network_says(engine, precision, segmenter):
    quick, model = quickened(segmenter, engine, precision), moving()
    past = moments(quick, BEFORE[2], size=(90, 122))
    found, now = quick.forecast(past), past[-1]
    with torch.inference_mode():
        motion = scene_motion(now.kept.frame.flow, now.seen.classes, np.array(LABELS) == "car")
        source = extrapolate(motion, now.size, 0.2 / 0.18)
        shares, cues = warp_logits(segmenter.logits(now.seen.features), source)
        expected = model(shares, cues).softmax(1)
    assert (found.shares.shape, found.shares.dtype) == ((4, 23, 31), np.float32)
    np.testing.assert_allclose(found.shares.sum(0), 1, atol=1e-5)
    exact = precision == "fp32"
    np.testing.assert_allclose(found.shares, expected[0].numpy(), atol=1e-4 if exact else 0.05)
    assert (expected - shares).abs().max() > 0.1  # else it would tell what it was given


def test_shares_move_with_what_they_are_of(segmenter):
    model = moving()
    torch.nn.init.zeros_(model.correct.weight)
    quick = accelerate_forecaster(model, segmenter, "cpu", "fp32", "torch")
    past = moments(quick, BEFORE[2])
    found, now = quick.forecast(past).shares, past[-1]
    still = segmenter.logits(now.seen.features)[0, :, :30, :48].softmax(0).detach().numpy()
    # 10 px are two cells and a half
    ways = [np.abs(found[:, :, :-8] - still[:, :, k : k - 8 or None]).mean() for k in range(6)]
    assert np.argmin(ways) in (2, 3)


def test_shares_are_told_where_they_are_asked_for(segmenter, monkeypatch):
    quick = quickened(segmenter)
    past = moments(quick, BEFORE[0])
    both = quick.forecast(past)
    monkeypatch.setattr(forecasts, "warp_logits", None)  # nor computed
    alone = quick.forecast(past, shares=False)
    np.testing.assert_array_equal(alone.classes, both.classes)
    assert (both.shares.size, alone.shares.size) == (4 * 30 * 48, 0)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_what_is_kept_and_told_is_in_memory_of_its_own(engine, segmenter):
    quick = quickened(segmenter, engine)
    expected = quick.forecast(moments(quick, BEFORE[1]))
    kept = expected.classes.copy(), expected.shares.copy()
    slot, past = np.empty((*WIDE, 3), np.uint8), []  # one for all pictures
    for at, moment in zip(BEFORE[1], moments(quick, BEFORE[1]), strict=True):
        slot[:] = view(at)[0]
        past.append(quick.encode(moment.at_us, slot, moment.seen, past[-1] if past else None))
        slot[:] = 255
    found = quick.forecast(past)
    quick.forecast(moments(quick, BEFORE[2]), 2)
    for one, other, before in zip(found, expected, kept, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(other, before)
        one[:] = 0  # it is the caller's
    np.testing.assert_array_equal(quick.forecast(past).shares, expected.shares)
    np.testing.assert_array_equal(past[-1].seen.classes, view(0.4)[1])


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_what_moves_in_pictures_of_many_sizes_takes_turns(engine, segmenter, monkeypatch):
    monkeypatch.setattr(plan_cache, "MOST_SIZES", 2)
    quick = quickened(segmenter, engine)
    pasts = [moments(quick, BEFORE[0], size=size) for size in [(90, 120), (96, 128), (61, 33)]]
    first = [quick.forecast(past) for past in pasts]
    for past, one in zip(pasts, first, strict=True):
        again, (height, width) = quick.forecast(past), past[-1].size
        assert one.classes.shape == (height, width)
        assert one.shares.shape == (4, -(-height // 4), -(-width // 4))
        np.testing.assert_array_equal(one.classes, again.classes)
        np.testing.assert_array_equal(one.shares, again.shares)


def test_a_picture_of_another_size_has_nothing_before_it(segmenter):
    quick = quickened(segmenter)
    (small,) = moments(quick, [0], size=(61, 33))
    large = quick.encode(200_000, view(0.2)[0], moments(quick, [0.2])[0].seen, small)
    found = quick.forecast([small, large])
    np.testing.assert_array_equal(found.classes, large.seen.classes)
