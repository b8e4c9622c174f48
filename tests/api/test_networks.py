"""Detector, embedder and segmenter answer as their stages do, alone and in batches."""

import numpy as np
import pytest
from factories import packet
from walkers import DETECTOR, NETWORK, SCENE, assert_same

import streamvis
from streamvis.config import Appearance, MaskRcnn, Segment
from streamvis.errors import DataError, DeviceError, UsageError, WeightsError
from streamvis.stages.protocol import Site

RGB = SCENE.picture(7)
OTHER = np.ascontiguousarray(SCENE.picture(3)[:200, :260])
PICTURES = {"0": RGB, "1": OTHER}
SITE = Site(device="cpu", pixels=lambda frame: PICTURES[frame.slot], masks=True)


def packets(*parts):
    return [
        packet(n, part, size=PICTURES[str(n)].shape[1::-1], slot=str(n))
        for n, part in enumerate(parts)
    ]


@pytest.fixture(scope="module")
def detect(one_thread):
    return streamvis.Detector(min_score=0.3, **DETECTOR)


@pytest.fixture(scope="module")
def embed(looks, one_thread):
    return streamvis.Embedder(looks, **NETWORK)


def test_a_detector_answers_as_its_stage_does(detect):
    found = detect(RGB)
    stage = MaskRcnn(min_score=0.3, **DETECTOR).build(SITE)
    (expected,) = stage(packets(None))
    assert len(found) > 1
    assert_same(found, expected)
    assert repr(detect) == "Detector('person-lite', device='cpu')"


def test_a_batch_is_answered_as_a_batch(detect):
    stage = MaskRcnn(min_score=0.3, **DETECTOR).build(SITE)
    for part, expected in zip(detect([RGB, OTHER]), stage(packets(None, None)), strict=True):
        assert_same(part, expected)
    assert detect([]) == []
    assert len(detect((RGB,))) == 1


def test_the_region_is_the_stages(detect):
    low = [(0, 0.5), (1, 0.5), (1, 1), (0, 1)]
    lower = streamvis.Detector(min_score=0.3, region=[low], masks=False, **DETECTOR)(RGB)
    everyone = detect(RGB)
    expected = everyone[everyone.boxes[:, 3] >= 120]
    np.testing.assert_array_equal(lower.boxes, expected.boxes)
    assert len(lower.masks) == 0


def test_an_embedder_answers_as_its_stage_does(detect, embed, looks):
    found = detect([RGB, OTHER])
    stage = Appearance(weights=looks, on_demand=False, **NETWORK).build(SITE)
    expected = list(stage(packets(*found)))
    for vectors, part in zip(embed([RGB, OTHER], found), expected, strict=True):
        assert_same(vectors, part)
    (alone,) = stage(packets(found[0]))
    assert_same(embed(RGB, found[0]), alone)
    assert embed([], []) == []


@pytest.mark.usefixtures("one_thread")
def test_a_segmenter_answers_as_its_stage_does():
    segment = streamvis.Segmenter(lines=64, **NETWORK)
    stage = Segment(lines=64, **NETWORK).build(SITE)
    for part, expected in zip(segment([RGB, OTHER]), stage(packets(None, None)), strict=True):
        assert_same(part, expected)
    assert segment(RGB).labels == segment.labels
    assert "road" in segment.labels


GREY = RGB[:, :, 0]


@pytest.mark.parametrize(
    ("picture", "problem"),
    [
        (GREY, r"shape \(240, 320\); expected a NumPy array \(height, width, 3\) of uint8, RGB"),
        (np.stack([RGB, RGB]), r"shape \(2, 240, 320, 3\).*give several pictures as a list"),
        (np.dstack([RGB, GREY]), r"shape \(240, 320, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
        (RGB / 255, r"float64.*\(255 \* picture\)\.astype\(np\.uint8\)"),
        (RGB.astype(np.int64), "int64"),
        ("street.jpg", "is a str"),
        (None, "is a NoneType"),
        ([RGB, None], "is a NoneType"),
    ],
)
def test_what_is_no_picture_is_refused_with_one_error(picture, problem, detect):
    with pytest.raises(DataError, match=f"^Detector: the picture .*{problem}") as caught:
        detect(picture)
    assert "\n" not in str(caught.value)


def test_an_embedder_wants_the_detections_of_its_pictures(detect, embed):
    found = detect(RGB)
    for pictures, parts, problem in (
        ([RGB, OTHER], [found], "2 pictures with detections of 1"),
        ([RGB], found, "1 pictures with detections of 1"),
        (RGB, [found], "1 pictures with detections of 1"),
        (RGB, found.boxes, "found a ndarray, expected Detections"),
        (RGB, None, "found a NoneType, expected Detections"),
        ([RGB], [None], "found a NoneType, expected Detections"),
    ):
        with pytest.raises(DataError, match=problem):
            embed(pictures, parts)


@pytest.mark.parametrize(
    ("settings", "error", "problem"),
    [
        ({"weights": "nobody"}, WeightsError, "no weights 'nobody'"),
        ({"weights": "person-r18"}, WeightsError, "expected a detector"),
        ({"weights": None}, UsageError, "^Detector: weights is None; expected a shipped name"),
        ({"device": "cuda:7"}, DeviceError, "cuda:7"),
        ({"device": 0}, UsageError, "^Detector: device is 0; expected a text: cpu, cuda:0"),
        ({"min_scor": 0.5}, UsageError, "^Detector: .*did you mean min_score"),
        ({"min_score": 2}, UsageError, r"^Detector: .*<= 1.*min_score"),
        ({"engine": "magic"}, UsageError, "Allowed: auto, openvino, torch"),
        ({"region": [[(0, 0), (1, 0)]]}, UsageError, "region"),
        ({"tiles": 9}, UsageError, "tiles"),
    ],
)
def test_wrong_settings_are_refused_as_in_a_pipeline(settings, error, problem):
    with pytest.raises(error, match=problem):
        streamvis.Detector(**settings)


def test_numpys_numbers_are_numbers():
    region = np.array([[[0, 0], [1, 0], [1, 1]]])
    made = streamvis.Detector(min_score=np.float32(0.5), region=region)
    assert made.config.min_score == 0.5
    assert made.config.region == ([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)],)
