"""Engines say of pictures what the network itself says, of any size, in memory of their own."""

import copy

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.errors import WeightsError
from streamvis.models.inference.plan_cache import MOST_SIZES
from streamvis.models.inference.segmentation import (
    SegmentationHead,
    accelerate_segmenter,
    argmax_classes,
    cells,
    resize_to_lines,
)
from streamvis.models.inference.select import cpu_has_bf16, openvino_version
from streamvis.models.swiftnet import SwiftNet, SwiftNetConfig, full_size
from streamvis.models.weights import find, load_segmenter

SIZE = (72, 100)  # no multiple of cells
ENGINES = [("torch", "fp32"), ("torch", "bf16"), ("openvino", "fp32"), ("openvino", "bf16")]


def network(**about) -> SwiftNet:
    """An untrained one whose norms have seen pictures, so that its classes differ."""
    torch.manual_seed(0)
    about = {"body": "efficientnet_lite0", "widths": (16, 16, 16), "lines": SIZE[0]} | about
    model = SwiftNet(SwiftNetConfig("untrained", segments=("a", "b", "c", "d"), **about))
    for part in model.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None
    model.train()
    with torch.no_grad():
        model(model.normalise(np.stack([picture(seed) for seed in range(4)])))
        features = model.eval().features(model.normalise(picture(0)[None]))
        for head in (model.classes, model.unknown):
            if head is not None:  # as likely as each other in the mean
                head[-1].bias -= head(features).mean((0, 2, 3))
    return model


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    rough = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(rough, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)


def able(engine: str, precision: str) -> None:
    if engine == "openvino" and openvino_version() is None:
        pytest.skip("openvino is not installed")
    if precision == "bf16" and not cpu_has_bf16():
        pytest.skip("this CPU has no bf16 arithmetic")


def engine_of(model: SwiftNet, engine: str, precision: str, **more):
    able(engine, precision)
    return accelerate_segmenter(copy.deepcopy(model), "cpu", precision, engine, **more)


@pytest.fixture(scope="module")
def plain() -> SwiftNet:
    return network()


@pytest.fixture(scope="module")
def wary() -> SwiftNet:
    return network(outliers=True)


@pytest.fixture(scope="module", params=ENGINES, ids="-".join)
def quick(wary, request):
    """An engine of `wary`, compiled once."""
    return engine_of(wary, *request.param)


def test_an_engine_says_what_the_network_says(wary, quick):
    exact = quick.dtype == torch.float32
    pixels = picture()
    seen = quick.segment(pixels)
    with torch.inference_mode():
        features = wary.features(wary.normalise(pixels[None]))
        logits = full_size(wary.logits(features), SIZE)
        strange = wary.strangeness(features).softmax(1)[0, 1, :18, :25]
    assert len(logits.argmax(1).unique()) == 4  # the picture has them all
    assert seen.features.shape == features.shape == (1, 16, 24, 32)
    apart = (seen.features.float() - features).abs().max()
    assert apart < (1e-3 if exact else 0.2) * features.abs().max()
    assert seen.classes.shape == SIZE
    assert seen.classes.dtype == seen.unknown.dtype == np.uint8
    alike = (seen.classes == logits.argmax(1)[0].numpy()).mean()
    assert alike > (0.9995 if exact else 0.95)  # what is untrained is undecided
    assert seen.unknown.shape == (18, 25)
    assert np.abs(seen.unknown - 255 * strange.numpy()).mean() < (0.6 if exact else 8)


def test_a_picture_is_read_alike_whatever_came_before(quick):
    first = quick.segment(picture(0))
    classes, unknown, features = first.classes.copy(), first.unknown.copy(), first.features.clone()
    assert not np.array_equal(quick.segment(picture(1)).classes, classes)
    for found in (first, quick.segment(picture(0))):
        assert np.array_equal(found.classes, classes)
        assert np.array_equal(found.unknown, unknown)
        assert torch.equal(found.features, features)


def test_only_the_last_few_compiled_sizes_are_kept(plain, monkeypatch):
    quick = engine_of(plain, "openvino", "fp32")
    compiled = []

    def compile_(part, examples, dtype, types):
        compiled.append(part.size)
        return lambda x: [torch.zeros(1, 16, 24, 32), torch.zeros(1, 4, 24, 32)]

    monkeypatch.setattr(quick, "compile", compile_)
    sizes = [(SIZE[0], 64 + 4 * i) for i in range(MOST_SIZES + 1)]
    for size in (*sizes[:-1], sizes[0], sizes[-1], sizes[0], sizes[1]):
        assert quick.segment(picture(0, size)).classes.shape == size
    assert compiled == [*sizes, sizes[1]]  # which was looked at longest ago when the last came
    assert len(quick.plans.plans) == MOST_SIZES


@pytest.mark.parametrize(
    ("about", "precision"),
    [({"levels": 2}, "fp32"), ({"skips": False}, "fp32"), ({"skips": False}, "bf16")],
    ids=str,
)
def test_engines_agree_on_other_architectures(about, precision):
    model, pixels = network(**about), picture()
    ours, theirs = (engine_of(model, e, precision).segment(pixels) for e in ("torch", "openvino"))
    assert ours.features.shape == theirs.features.shape
    exact = precision == "fp32"
    apart = (ours.features.float() - theirs.features.float()).abs().max()
    assert apart < (1e-3 if exact else 0.2) * ours.features.abs().max()
    assert (ours.classes == theirs.classes).mean() > (0.9995 if exact else 0.8)


def test_frames_of_any_size_are_looked_at_as_trained(plain):
    quick = engine_of(plain, "torch", "fp32")
    large = picture(0, (3 * SIZE[0], 3 * SIZE[1]))
    large.flags.writeable = False  # as shared memory is
    small = cv2.resize(large, SIZE[::-1], interpolation=cv2.INTER_AREA)
    assert np.array_equal(quick.segment(large).classes, quick.segment(small).classes)
    assert engine_of(plain, "torch", "fp32", lines=96).segment(large).classes.shape == (96, 133)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90))
def test_fitting_keeps_the_aspect_to_a_pixel(height, width, lines):
    pixels = np.full((height, width, 3), 77, np.uint8)
    found = resize_to_lines(pixels, lines)
    assert found.shape == (lines, max(1, round(width * lines / height)), 3)
    assert (found == 77).all()
    assert not np.shares_memory(found, pixels)


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(2, 6), st.integers(0, 9))
def test_the_likeliest_is_the_first_largest_of_the_whole_picture(height, width, classes, seed):
    rng = np.random.default_rng(seed)
    shape = (2, classes, -(-height // 32) * 8, -(-width // 32) * 8)
    logits = torch.from_numpy(rng.integers(-3, 3, shape).astype(np.float32))  # many are equal
    found = argmax_classes(logits, (height, width))
    expected = full_size(logits, (height, width)).numpy().argmax(1)
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.numpy(), expected)


def test_the_head_reads_any_number_of_maps(plain):
    head = SegmentationHead(plain, SIZE)
    features = torch.randn(3, 16, 24, 32)
    with torch.inference_mode():
        classes, shares = head(features)
        logits = plain.logits(features)
    assert torch.equal(classes, full_size(logits, SIZE).argmax(1).to(torch.uint8))
    rows, columns = cells(SIZE)
    torch.testing.assert_close(shares, logits.softmax(1)[:, :, :rows, :columns])


def test_bf16_says_of_a_street_what_fp32_says(data):
    if not cpu_has_bf16() or openvino_version() is None:
        pytest.skip("no bf16 arithmetic, or no openvino")
    folder = data / "camvid" / "sequence_0016E5_first" / "images"
    paths = sorted(folder.glob("*"))
    if not paths:
        pytest.skip(f"no pictures at {folder}")
    try:
        name = str(find("street-seg"))
    except WeightsError:
        pytest.skip("street-seg is not shipped")
    pixels = cv2.imread(str(paths[20]), cv2.IMREAD_COLOR_RGB)
    exact, rough = (
        accelerate_segmenter(load_segmenter(name), "cpu", *how).segment(pixels)
        for how in (("fp32", "torch"), ("bf16", "openvino"))
    )
    assert (exact.classes == rough.classes).mean() > 0.99
