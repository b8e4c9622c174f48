"""Gradients against NumPy, the constraint of flow, streams against clips, the published sums."""

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate, gaussian_filter

from streamvis.errors import WeightsError
from streamvis.models import weights
from streamvis.models.bn_inception import from_tsn
from streamvis.models.layers import fuse
from streamvis.models.off import (
    CHANNELS,
    KERNELS,
    LEVELS,
    Calibration,
    FrameFeatures,
    Gradient,
    MotionClassifier,
    Off,
    OffConfig,
    _motions,
    consensus,
    widen,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = OffConfig(
    name="small",
    actions=("fight", "normal"),
    spatial=2,
    temporal=4,
    widths=(4, 4, 8),
    size=(64, 96),
)
PUBLISHED = OffConfig(name="published", actions=tuple(map(str, range(101))), body="bn_inception")
BODIES = ("bn_inception", "efficientnet_lite0", "resnet18", "resnet50")


def made(architecture: OffConfig = SMALL, seed: int = 0) -> Off:
    torch.manual_seed(seed)
    model = Off(architecture)
    for linear in (model.head, *(model.guided.classify if model.guided else ())):
        torch.nn.init.normal_(linear.weight)  # else all scores are nearly zero
    return model.eval()


def clip(t: int, b: int = 1, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (b, t, *SMALL.size, channels)
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def on_meta(architecture: OffConfig) -> Off:
    with torch.device("meta"):
        return Off(architecture)


# Gradients


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_are_numpys_correlations(kind, channels):
    x = np.random.default_rng(0).normal(size=(2, channels, 6, 7))
    found = Gradient(kind, channels)(torch.from_numpy(x)).numpy()
    kernels = [np.array(rows) for rows in KERNELS[kind]]
    expected = [correlate(m, k, mode="constant") for b in x for m in b for k in kernels]
    np.testing.assert_allclose(found, np.reshape(expected, found.shape), atol=1e-12)


def test_diag_is_right_minus_left_plus_up_minus_down():
    x = np.random.default_rng(1).normal(size=(8, 8))
    found = Gradient("diag", 1)(torch.from_numpy(x)[None, None])[0, 0].numpy()
    sums = (x[1:-1, 2:] - x[1:-1, :-2]) + (x[:-2, 1:-1] - x[2:, 1:-1])
    np.testing.assert_allclose(found[1:-1, 1:-1], sums, atol=1e-12)


def test_sobel_gives_slopes_per_pixel():
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(9.0), indexing="ij")
    found = Gradient("sobel_xy", 1)((3 * x - 2 * y)[None, None])[0, :, 1:-1, 1:-1]
    torch.testing.assert_close(found, torch.tensor([3.0, -2.0])[:, None, None].expand_as(found))


@settings(max_examples=20)
@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.integers(0, 1000))
def test_a_moving_texture_obeys_the_constraint_of_optical_flow(vx, vy, seed):
    """f(x, y, t) = g(x − vx·t, y − vy·t): f_x·vx + f_y·vy + f_t = 0, to the second order of v.

    f_t is later minus earlier and the slopes are those of the middle of both, which cancels the
    error that is linear in v.
    """
    random = np.random.default_rng(seed)
    waves = random.normal(scale=0.25, size=(12, 2))  # rad/px: a texture far coarser than pixels
    phases = random.uniform(0, 2 * np.pi, 12)
    y, x = np.mgrid[:24, :24].astype(float)

    def texture(t: float) -> torch.Tensor:
        moved = [a * (x - vx * t) + b * (y - vy * t) for (a, b) in waves]
        return torch.from_numpy(
            np.sum([np.cos(m + p) for m, p in zip(moved, phases, strict=True)], 0)
        )

    gradient = Gradient("sobel_xy", 1)
    before, now = texture(0)[None, None], texture(1)[None, None]
    fx, fy = gradient((before + now) / 2)[0, :, 2:-2, 2:-2]
    ft = (now - before)[0, 0, 2:-2, 2:-2]
    residual = fx * vx + fy * vy + ft
    size = (fx**2 + fy**2).mean().sqrt() * np.hypot(vx, vy)
    assert residual.pow(2).mean().sqrt() <= 0.15 * size + 1e-9
    # with the earlier picture's slopes alone, as OFF has them, it still holds to the first order
    fx, fy = gradient(before)[0, :, 2:-2, 2:-2]
    assert (fx * vx + fy * vy + ft).pow(2).mean().sqrt() <= 0.4 * size + 1e-9


def test_features_of_a_trunk_obey_it_too():
    """Smoothed noise through a smooth filter bank and no stride: OFF sees motion in features."""
    random = np.random.default_rng(0)
    wide = gaussian_filter(random.normal(size=(40, 80)), 3)
    bank = gaussian_filter(random.normal(size=(4, 1, 5, 5)), (0, 0, 1, 1))
    before, now = (torch.from_numpy(wide[None, None, :, i : i + 40].copy()) for i in (1, 0))
    maps = [torch.nn.functional.conv2d(x, torch.from_numpy(bank)) for x in (before, now)]  # vx = 1
    fx = Gradient("sobel_xy", 4)((maps[0] + maps[1]) / 2)[0, ::2, 2:-2, 2:-2]
    ft = (maps[1] - maps[0])[0, :, 2:-2, 2:-2]
    assert (fx + ft).pow(2).mean() < 0.02 * ft.pow(2).mean()


def test_gradient_filters_are_never_trained_and_not_in_files():
    model = made()
    assert not [name for name, _ in model.named_parameters() if "kernel" in name]
    assert not [name for name in model.state_dict() if "kernel" in name]


# The sums of the published network


@pytest.mark.parametrize(("modality", "millions"), [("rgb", 9.87), ("diff", 8.83), ("flow", 8.83)])
def test_parameters_of_the_off_part(modality, millions):
    model = on_meta(msgspec.structs.replace(PUBLISHED, modality=modality))
    count = sum(p.numel() for p in model.guided.parameters())
    assert round(count / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("gradients", "modality", "inputs"),
    [
        ("diag", "rgb", (320, 1056, 832)),
        ("sobel_xy", "rgb", (384, 1216, 896)),
        ("diag", "diff", (256, 896, 768)),
    ],
)
def test_inputs_of_the_three_stacks(gradients, modality, inputs):
    model = on_meta(msgspec.structs.replace(PUBLISHED, gradients=gradients, modality=modality))
    stacks = (model.guided.fine, model.guided.middle, model.guided.coarse)
    assert tuple(stack[0].in_channels for stack in stacks) == inputs


def test_taps_of_bn_inception():
    model = on_meta(PUBLISHED)
    maps = model.body(torch.zeros(1, 3, 224, 224, device="meta"))
    expected = [(256, 28), (320, 28), *[(576, 14)] * 3, *[(608, 14)] * 2, *[(1024, 7)] * 2]
    assert [(m.shape[1], m.shape[2]) for m in maps] == expected


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("modality", CHANNELS)
def test_every_trunk_is_tapped_at_three_strides(body, modality):
    model = on_meta(msgspec.structs.replace(SMALL, body=body, modality=modality))
    maps = model.body(torch.zeros(1, CHANNELS[modality], 224, 224, device="meta"))
    taps = [c for level in model.body.levels for c in level]
    found = maps[model.body.skip :][: len(taps)]
    assert [m.shape[1] for m in found] == taps
    sides = [
        side for side, level in zip((28, 14, 7), model.body.levels, strict=True) for _ in level
    ]
    assert [m.shape[-1] for m in found] == sides
    assert maps[-1].shape[1] == model.body.outputs
    scores = model(torch.zeros(2, 3, CHANNELS[modality], 64, 96, device="meta"))
    assert {name: tuple(x.shape) for name, x in scores.items()} == {
        "frame": (2, 3, 2),
        **dict.fromkeys(LEVELS, (2, 2, 2)),
    }


def test_tsn_files_fit_by_name():
    """Caffe's names, prefixes of TSN's code, norms with an axis too many."""
    body = made(msgspec.structs.replace(SMALL, body="bn_inception")).body
    state = body.state_dict()
    published = {
        f"module.base_model.{key}": value[None] if "_bn." in key else value
        for key, value in state.items()
    }
    published["module.base_model.conv1_7x7_s2_bn.num_batches_tracked"] = torch.tensor(1)
    published["module.new_fc.weight"] = torch.zeros(101, 1024)
    found = from_tsn(published)
    assert found.keys() == state.keys()
    body.load_state_dict(found)
    slashed = {key.replace("3a_", "3a/").replace("conv2_", "conv2/"): v for key, v in state.items()}
    assert from_tsn(slashed).keys() == state.keys()


def test_biases_of_convolutions_survive_frozen_norms():
    """Caffe's convolutions have a bias before the norm, where torchvision's have none."""
    model = made(msgspec.structs.replace(SMALL, body="bn_inception"))
    torch.manual_seed(1)
    for name, value in model.body.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            value.normal_()
    x = torch.rand(1, 3, 64, 64)
    conv, norm = model.body.conv1_7x7_s2, model.body.conv1_7x7_s2_bn
    plain = torch.nn.functional.batch_norm(
        conv(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-5
    )
    torch.testing.assert_close(
        model.body._conv(x, "conv1_7x7_s2"), plain.relu(), atol=1e-5, rtol=1e-5
    )
    before = model.body(x)[-1]
    after = fuse(model).body(x)[-1]
    torch.testing.assert_close(after, before, atol=1e-3, rtol=1e-3)


# Streams and clips


def as_stream(model: Off, pictures: np.ndarray) -> dict[str, torch.Tensor]:
    """Scores of pictures (T, H, W, C), one at a time, keeping two moments only."""
    rows, before, earlier = {"frame": [], **{level: [] for level in LEVELS}}, None, None
    for picture in pictures:
        now = model.project(model.normalise(picture[None]))
        rows["frame"].append(now.frame)
        if before is not None:
            for level, logits in model.pair(before, now, earlier).items():
                rows[level].append(logits)
        before, earlier = now, before
    return {name: torch.stack(row, 1) for name, row in rows.items() if row}


@torch.inference_mode()
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("classifier", ["paper", "motion"])
def test_a_stream_gives_what_its_clip_gives(body, classifier):
    model = made(msgspec.structs.replace(SMALL, body=body, classifier=classifier))
    pictures = clip(5)
    together = model(model.normalise(pictures))
    alone = as_stream(model, pictures[0])
    assert alone.keys() == together.keys()
    for name, scores in together.items():
        torch.testing.assert_close(alone[name], scores, atol=2e-4, rtol=1e-3)
    probabilities = [model.calibration.probabilities(consensus(s)) for s in (together, alone)]
    torch.testing.assert_close(*probabilities, atol=1e-4, rtol=1e-3)


@torch.inference_mode()
@settings(max_examples=5)
@given(st.integers(2, 5), st.integers(1, 3), st.integers(0, 99))
def test_clips_of_a_batch_do_not_mix(t, b, seed):
    model = made()
    pictures = clip(t, b, seed=seed)
    together = model(model.normalise(pictures))
    for i in range(b):
        for name, scores in model(model.normalise(pictures[i : i + 1])).items():
            torch.testing.assert_close(together[name][i : i + 1], scores, atol=2e-4, rtol=1e-3)


@torch.inference_mode()
def test_differences_are_later_minus_earlier_and_gradients_the_earlier_s():
    model = made()
    seen = []
    model.guided.fine[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    first, second = (model.project(model.normalise(clip(1, seed=i)[0])) for i in range(2))
    model.pair(first, second)
    gradients, differences = seen[0].split([2, 4], 1)
    torch.testing.assert_close(gradients, first.gradients[0])
    torch.testing.assert_close(differences, second.features[0] - first.features[0])


@torch.inference_mode()
def test_what_stands_still_has_no_differences():
    model = made()
    now = model.project(model.normalise(clip(1)[0]))
    still = FrameFeatures(now.frame, now.features, tuple(map(torch.zeros_like, now.gradients)))
    other = model.project(model.normalise(clip(1, seed=1)[0]))
    blank = FrameFeatures(other.frame, other.features, still.gradients)
    for a, b in zip(
        model.pair(still, now).values(), model.pair(blank, other).values(), strict=True
    ):
        torch.testing.assert_close(a, b)


# Motion, solved for


def waves(x: np.ndarray, y: np.ndarray, channels: int = 3) -> torch.Tensor:
    """Features (1, C, h, w) that are coarse against places."""
    random = np.random.default_rng(0)
    k, phases = random.normal(scale=0.3, size=(channels, 6, 2)), random.uniform(0, 6, (channels, 6))
    phase = k[..., 0, None, None] * x + k[..., 1, None, None] * y + phases[..., None, None]
    return torch.from_numpy(np.cos(phase).sum(1)[None])


def motion() -> MotionClassifier:
    return MotionClassifier([(3,), (3,), (3,)], SMALL)


def motion_of(f: torch.Tensor, ft: torch.Tensor) -> torch.Tensor:
    """Numbers of one tap: of speed and of normal flow mean and largest, deviations."""
    return _motions(motion().double()._products(f, ft)[:, None])[0]


@given(st.floats(0.05, 0.7), st.floats(0, 2 * np.pi), st.floats(0.1, 100))
@settings(max_examples=20)
def test_a_translation_is_found_whatever_the_contrast(speed, angle, contrast):
    y, x = np.mgrid[:16, :20].astype(float)
    vx, vy = speed * np.cos(angle), speed * np.sin(angle)
    before, now = contrast * waves(x, y), contrast * waves(x - vx, y - vy)
    found = motion_of(before, now - before)
    mean, _, _, _, spread, *_ = found.tolist()
    assert mean == pytest.approx(speed, rel=0.35)
    assert spread < 0.5 * speed


def test_what_goes_two_ways_is_not_one_motion():
    y, x = np.mgrid[:16, :20].astype(float)
    way = np.where(x < 10, 0.4, -0.4)
    before = waves(x, y)
    one, two = (motion_of(before, waves(x - v, y) - before) for v in (np.full_like(x, 0.4), way))
    assert two[5] > 2 * one[5]  # deviation of v_x over places


def test_numbers_of_a_level_are_those_of_numpy():
    random = np.random.default_rng(0)
    a, b, c = random.normal(size=(3, 2, 3, 5, 6))
    found = motion().level(0, *map(torch.from_numpy, (b, c - b, b - a))).exp().numpy()
    sizes = np.abs(c - b), np.abs(c - 2 * b + a)
    expected = [pool(size, (2, 3)) for size in sizes for pool in (np.mean, np.max)]
    np.testing.assert_allclose(found[:, :12], np.concatenate(expected, 1) + 1e-3, rtol=1e-4)


def test_what_stands_still_has_no_motion():
    f = torch.rand(1, 3, 5, 6)
    still = torch.zeros_like(f)
    found = motion().level(0, f, still, still)
    torch.testing.assert_close(found.exp(), torch.full_like(found, 1e-3))


def test_what_counts_before_anything_is_learnt():
    """Channels and motions half each; and of each half, every tap as much."""
    levels = [(40,), (80, 112), (192, 320)]
    prior = MotionClassifier(levels, SMALL).prior()
    assert [len(x) for x in prior] == [4 * 40 + 7, 4 * 192 + 14, 4 * 512]
    assert float(torch.cat(prior).sum()) == pytest.approx(2, abs=1e-5)
    assert float(prior[1][-14:].sum()) == pytest.approx(2 / 3, abs=1e-5)
    assert float(prior[1][:80].sum()) == pytest.approx(1 / 20, abs=1e-6)


def test_taps_are_scaled_to_their_spread():
    model = made()
    before = [conv.weight.detach().clone() for conv in model.guided.reduce]
    model.guided.fit_to([1.0, 2.0, 4.0, 8.0, 0.5])
    ratios = [
        float((b / c.weight.detach()).mean())
        for b, c in zip(before, model.guided.reduce, strict=True)
    ]
    np.testing.assert_allclose(ratios, [1, 2, 4, 8, 0.5], rtol=1e-5)


def test_one_picture_has_a_score_but_no_motion():
    model = made()
    assert model(model.normalise(clip(1))).keys() == {"frame"}
    alone = made(msgspec.structs.replace(SMALL, guided=False))
    assert alone(alone.normalise(clip(3))).keys() == {"frame"}
    assert alone.pair(*[alone.project(alone.normalise(clip(1)[0]))] * 2) == {}


# What goes in


def test_inputs_of_the_published_network_are_blue_green_red_minus_means():
    model = made(msgspec.structs.replace(SMALL, body="bn_inception"))
    pixels = clip(1)
    blue_first = pixels[..., ::-1].astype(np.float32) - (104, 117, 123)
    found = model.normalise(pixels).movedim(-3, -1)
    np.testing.assert_allclose(found.numpy(), blue_first, atol=1e-3)


@pytest.mark.parametrize("body", ["bn_inception", "efficientnet_lite0"])
def test_differences_of_pictures_are_those_of_normalised_ones(body):
    rgb, diff = (
        made(msgspec.structs.replace(SMALL, body=body, modality=m)) for m in ("rgb", "diff")
    )
    pixels = clip(1, channels=18)
    six = rgb.normalise(pixels.reshape(*pixels.shape[:-1], 6, 3).transpose(0, 1, 4, 2, 3, 5))
    expected = (six[:, :, 1:] - six[:, :, :-1]).flatten(2, 3)
    torch.testing.assert_close(diff.normalise(pixels), expected, atol=1e-4, rtol=1e-4)


def test_no_flow_is_zero():
    model = made(msgspec.structs.replace(SMALL, modality="flow"))
    assert model.normalise(np.full((1, 1, 64, 96, 10), 128, np.uint8)).abs().max() < 1e-6


def test_a_widened_kernel_answers_grey_as_the_first_one():
    kernel = torch.randn(4, 3, 3, 3)
    grey = torch.rand(1, 1, 8, 8)
    wide = torch.nn.functional.conv2d(grey.expand(1, 15, 8, 8), widen(kernel, 15)) * 3 / 15
    torch.testing.assert_close(wide, torch.nn.functional.conv2d(grey.expand(1, 3, 8, 8), kernel))


# Scores


def test_the_mean_of_a_window_is_of_its_last_moments():
    scores = {"coarse": torch.arange(10.0).reshape(1, 5, 2)}
    torch.testing.assert_close(consensus(scores)["coarse"], torch.tensor([[4.0, 5.0]]))


def test_probabilities_are_calibrated_weighted_means():
    streams = {"frame": torch.tensor([[1.0, 0.0]]), "coarse": torch.tensor([[0.0, 4.0]])}
    calibration = Calibration(weights={"frame": 1.0, "coarse": 3.0}, scale=0.5, shift=(0.1, -0.1))
    found = calibration.probabilities(streams)
    logits = 0.5 * np.array([0.25, 3.0]) + (0.1, -0.1)
    np.testing.assert_allclose(found[0], np.exp(logits) / np.exp(logits).sum(), rtol=1e-5)
    frame = Calibration().probabilities({"frame": streams["frame"]})
    torch.testing.assert_close(frame, streams["frame"].softmax(-1))


# Files


def test_files_bring_back_the_network_and_its_calibration(tmp_path):
    model = made(msgspec.structs.replace(SMALL, every_s=0.2, window=12))
    model.calibration = Calibration(weights={"coarse": 1.0}, scale=0.7, shift=(0.2, -0.2))
    path = tmp_path / "small.safetensors"
    weights.save(model, path, {"data": "none"})
    loaded = weights.load_actions(str(path))
    assert (loaded.architecture, loaded.calibration) == (model.architecture, model.calibration)
    assert not loaded.training
    with torch.inference_mode():
        x = model.normalise(clip(3))
        for name, scores in model(x).items():
            torch.testing.assert_close(loaded(x)[name], scores, atol=0.05, rtol=0.05)  # fp16
    assert weights.verify(str(path)).architecture == "small"
    assert not weights.difference(str(path)).missing


def test_a_wrong_file_says_what_it_is(tmp_path):
    with pytest.raises(WeightsError, match="detects people; expected an action network"):
        weights.load_actions("person-lite")
    path = tmp_path / "small.safetensors"
    weights.save(made(), path, {})
    with pytest.raises(WeightsError, match="recognises actions; expected a detector"):
        weights.load_detector(str(path))
    with pytest.raises(WeightsError, match="recognises actions; expected an embedder"):
        weights.load_embedder(str(path))


@pytest.mark.parametrize("text", ["[]", '{"scale": "x"}', '{"shift": [0.0]}', '{"weight": {}}'])
def test_a_damaged_calibration_is_told(tmp_path, text):
    from safetensors.torch import save_file

    path = tmp_path / "small.safetensors"
    model = made()
    about = {"architecture": msgspec.json.encode(SMALL).decode(), "calibration": text}
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path, about)
    with pytest.raises(WeightsError, match="calibration"):
        weights.load_actions(str(path))


@torch.inference_mode()
def test_what_ships_tells_fights_and_is_calibrated():
    model = weights.load_actions("fight-off")
    assert model.architecture.actions == ("fight", "normal")
    assert model.calibration.scale != 1.0
    x = model.normalise(np.full((1, 3, *model.size, 3), 90, np.uint8))
    p = model.calibration.probabilities(consensus(model(x)))
    assert p[0, 1] > 0.5  # grey walls do not fight
