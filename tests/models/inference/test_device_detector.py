"""The detector for devices, here on the CPU, against the model that it takes over."""

import numpy as np
import pytest
import torch

from streamvis.models import fixed_shapes
from streamvis.models.inference.device_detector import DeviceDetector, batches_of
from streamvis.models.mask_rcnn import MaskRcnn
from streamvis.models.roi_heads import Instances
from streamvis.models.weights import load_detector
from streamvis.stages.detect import MaskRcnn as Settings
from streamvis.stages.detect.stage import PersonDetector
from streamvis.synthetic.render import SyntheticScene

SCENE = SyntheticScene(seed=5, people=4, size=(320, 240), fps=5, seconds=4)
PICTURES = [SCENE.picture(5), SCENE.picture(12)[10:, :290], SCENE.picture(15)]


def model() -> MaskRcnn:
    loaded = load_detector("person-lite")
    loaded.short_side, loaded.long_side, loaded.roi_heads.min_score = 192, 320, 0.1
    return loaded


def close(found: list[Instances], expected: list[Instances]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert len(other.boxes) > 1
        torch.testing.assert_close(one.boxes, other.boxes, atol=2e-3, rtol=1e-4)
        torch.testing.assert_close(one.scores, other.scores)
        assert torch.equal(one.labels, other.labels)
        torch.testing.assert_close(one.masks, other.masks, atol=1 / 255, rtol=0)


@pytest.mark.parametrize("masks", [True, False])
def test_pictures_of_any_sizes_come_in_their_order(masks):
    images = [torch.from_numpy(np.array(one)).permute(2, 0, 1) for one in PICTURES]
    with torch.inference_mode():
        expected = model()(images, masks)
    detector = DeviceDetector(model(), "cpu")
    close(detector(images, masks), expected)
    assert detector.repeated == 0
    assert detector([], masks) == []


def test_what_is_not_exact_is_computed_again(monkeypatch):
    monkeypatch.setattr(fixed_shapes, "CANDIDATES", 1)
    images = [one.transpose(2, 0, 1) for one in PICTURES]
    detector = DeviceDetector(model(), "cpu")
    found = detector(images)
    assert detector.repeated == 3
    with torch.inference_mode():
        close(found, model()([torch.from_numpy(np.array(image)) for image in images]))


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ("", []),
        ("a", [[0]]),
        ("aa", [[0, 1]]),
        ("abab", [[0, 2], [1, 3]]),
        ("aaaaab", [[0, 1, 2], [3, 4], [5]]),
        ("a" * 20, [[*range(8)], [*range(8, 16)], [*range(16, 20)]]),
    ],
)
def test_batches_are_of_one_shape_and_leave_something_to_upload(shapes, expected):
    assert batches_of([(ord(shape), 9, 3) for shape in shapes]) == expected


def test_the_stage_gives_pictures_as_they_lie_in_slots():
    settings = Settings(tiles=2, short_side=192, precision="fp32", engine="torch", min_score=0.3)
    plain, on_device = PersonDetector(settings, "cpu"), PersonDetector(settings, "cpu")
    on_device.network = DeviceDetector(on_device.model, "cpu")
    on_device.device = "cuda:0"  # the way that pictures take to a GPU
    pictures = [np.array(PICTURES[0])]
    for one in pictures:
        one.flags.writeable = False
    for found, expected in zip(on_device(pictures), plain(pictures), strict=True):
        assert len(expected.boxes) > 1
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=2e-3)
        np.testing.assert_allclose(found.masks.astype(int), expected.masks, atol=1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU and a torch with CUDA")
def test_a_gpu_finds_the_same_with_graphs():
    images = [one.transpose(2, 0, 1) for one in PICTURES]
    on_gpu = load_detector("person-lite", "cuda:0")
    on_gpu.short_side, on_gpu.long_side, on_gpu.roi_heads.min_score = 192, 320, 0.1
    torch.backends.cudnn.allow_tf32 = False
    detector = DeviceDetector(on_gpu, "cuda:0")
    with torch.inference_mode():
        expected = model()([torch.from_numpy(np.array(image)) for image in images])
    for _ in range(3):
        close(detector(images), expected)
    plans = detector.runs[True].plans.plans.values()
    assert [plan.replay is not None for plan in plans] == [True, True]
