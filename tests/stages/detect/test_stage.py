"""The detector as a stage: well-formed parts for pictures of any size, alone or in batches."""

from collections.abc import Sequence
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
import torch
from factories import packet as packet_of

from streamvis.config import MaskRcnn
from streamvis.datasets.coco import ImageTruth
from streamvis.evaluation.detection import evaluate
from streamvis.messages import Array, Detections, Packet
from streamvis.models.roi_heads import Instances
from streamvis.stages.detect import stage as module
from streamvis.stages.detect.stage import DetectStage
from streamvis.stages.gate import same_people
from streamvis.stages.protocol import Site
from streamvis.synthetic.render import SyntheticScene

PICTURES: dict[str, Array] = {}


def packet(name: str, pixels: Array) -> Packet:
    pixels.flags.writeable = False  # as a slot is
    PICTURES[name] = pixels
    return packet_of(0, size=pixels.shape[1::-1], slot=name)


def stage(**settings) -> DetectStage:
    site = Site(device="cpu", pixels=lambda frame: PICTURES[frame.slot], masks=True)
    return DetectStage(MaskRcnn(**{"short_side": 240, "precision": "fp32", **settings}), site)


def test_people_of_a_made_up_scene_are_found_with_their_masks():
    scene = SyntheticScene(seed=5, people=4, size=(480, 360), fps=5, seconds=6)
    shown = [scene.picture(n) for n in range(0, 30, 3)]
    parts = list(stage(short_side=360)([packet(str(i), p) for i, p in enumerate(shown)]))
    truths = []
    for n in range(0, 30, 3):
        truth = scene.truth(n)
        hard = truth.visibility < 0.6
        none = (None,) * len(truth.ids)
        crowd = np.zeros(len(truth.ids), bool)
        boxes = truth.visible_boxes.astype(float)
        truths.append(ImageTruth(str(n), 480, 360, boxes, hard, crowd, none))
    assert evaluate(truths, parts).ap50 > 0.7
    for part in parts:
        assert part.masks.shape == (len(part.boxes), 28, 28)
        assert part.masks.dtype == np.uint8


def test_a_coarse_look_finds_the_same_clear_people_in_pixels_of_the_frame():
    scene = SyntheticScene(seed=11, people=2, size=(640, 360), fps=1, seconds=12)
    shown = [scene.picture(n) for n in range(3, 12, 2)]
    detector = stage(short_side=576).detector
    masks, proposals = detector.masks, detector.model.rpn.keep_after
    coarse = [detector.glance(pixels) for pixels in shown]
    full = [detector([pixels])[0] for pixels in shown]  # by networks of their own scale
    assert sum((part.scores >= 0.5).sum() for part in full) >= 5
    agree = [
        same_people(*(np.column_stack([one.boxes, one.scores]) for one in both))
        for both in zip(full, coarse, strict=True)
    ]
    assert sum(agree) >= 4
    assert all(one.masks.size == 0 for one in coarse)
    small = cv2.resize(shown[0], (512, 288))  # of another camera, as large as a coarse look's input
    (here,), (afresh,) = (one([small]) for one in (detector, stage(short_side=576).detector))
    for a, b in zip(everything(here), everything(afresh), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (detector.model.short_side, detector.model.rpn.keep_after) == (576, proposals)
    assert (detector.masks, full[0].masks.shape[1:]) == (masks, (28, 28))


@pytest.mark.parametrize("size", [(48, 64), (241, 97), (40, 900), (5, 5), (700, 33)])
def test_any_size_of_picture_gives_a_well_formed_part(size):
    noise = np.random.default_rng(1).integers(0, 255, (*size, 3), dtype=np.uint8)
    (part,) = stage(min_score=0.0)([packet("noise", noise)])
    assert isinstance(part, Detections)
    assert part.boxes.dtype == part.scores.dtype == np.float32
    assert part.labels.tolist() == [1] * len(part.scores)
    assert (part.boxes >= 0).all()
    assert (part.boxes <= np.array([size[1], size[0]] * 2) + 1e-3).all()
    assert (np.diff(part.scores) <= 0).all()


def test_a_batch_of_different_sizes_is_the_pictures_one_by_one():
    scenes = [SyntheticScene(seed=s, people=3, size=(320, 240), fps=5, seconds=3) for s in (1, 2)]
    pictures = [scenes[0].picture(4), scenes[1].picture(7)[:200, :260].copy()]
    detect = stage(masks=False)
    together = list(detect([packet(str(i), p) for i, p in enumerate(pictures)]))
    for i, part in enumerate(together):
        (alone,) = detect([packet(str(i), pictures[i])])
        sure = alone.scores > 0.5
        np.testing.assert_allclose(part.scores[: sure.sum()], alone.scores[sure], atol=0.05)
        assert part.masks.shape == (0, 0, 0)


def everything(part: Detections) -> list[np.ndarray]:
    return [part.boxes, part.scores, part.labels, part.masks]


def test_auto_looks_at_frames_below_1080p_only_once():
    picture = SyntheticScene(seed=1, people=3, size=(320, 240), fps=5, seconds=3).picture(4)
    (plain,) = stage()([packet("scene", picture)])
    (auto,) = stage(tiles="auto")([packet("scene", picture)])
    for a, b in zip(everything(plain), everything(auto), strict=True):
        np.testing.assert_array_equal(a, b)


def bright(images: Sequence[torch.Tensor], masks: bool) -> list[Instances]:
    """Stands for the detector: bright rectangles on black, the larger the better."""
    return [_bright(image[0].numpy(), 28 if masks else 0) for image in images]


def _bright(image: Array, side: int) -> Instances:
    _, _, rows, _ = cv2.connectedComponentsWithStats(image.copy())
    x, y, w, h = torch.from_numpy(rows[1:, :4]).float().T
    boxes, scores = torch.stack([x, y, x + w, y + h], 1), w * h / image.size
    best = scores.argsort(descending=True)
    labels = torch.ones(len(best), dtype=torch.int64)
    return Instances(boxes[best], scores[best], labels, torch.ones(len(best), side, side))


def look(boxes: list[list[int]], size: tuple[int, int], **settings) -> Detections:
    """What comes out of a picture of this size (height, width) with bright boxes on it."""
    picture = np.zeros((*size, 3), np.uint8)
    for x1, y1, x2, y2 in boxes:
        picture[y1:y2, x1:x2] = 255
    detect = stage(**settings)
    detect.detector.network = bright
    (part,) = detect([packet("boxes", picture)])
    assert len(part.boxes) == len(part.scores) == len(part.labels) == len(part.masks)
    return part


LARGE = [[100, 90, 500, 980], [940, 500, 985, 590], [1700, 30, 1730, 100], [1890, 990, 1920, 1080]]


@pytest.mark.parametrize("tiles", [1, 2, 3, "auto"])
def test_everyone_comes_out_once_and_in_pixels_of_the_frame(tiles):
    found = look(LARGE, (1080, 1920), tiles=tiles, short_side=640)
    assert sorted(found.boxes.tolist()) == LARGE
    assert found.masks.shape == (4, 28, 28)
    assert (found.masks == 255).all()


REGION = [[(0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)], [(0, 0.9), (0.1, 0.9), (0.1, 1)]]


@pytest.mark.parametrize("tiles", [1, 2])
def test_only_people_with_their_feet_in_a_region_are_told(tiles):
    found = look(LARGE, (1080, 1920), tiles=tiles, short_side=640, region=REGION)
    expected = [box for box in LARGE if box[0] + box[2] >= 1920]  # the lower border belongs to it
    assert sorted(found.boxes.tolist()) == expected
    placed = look([[10, 10, 20, 30], [10, 60, 20, 92]], (100, 200), region=REGION)
    assert placed.boxes.tolist() == [[10, 60, 20, 92]]  # the same region of a smaller frame


def test_shorter_people_are_dropped_and_nobody_is_fine():
    assert look(LARGE, (1080, 1920), min_height=90).boxes.tolist() == [LARGE[0], LARGE[1], LARGE[3]]
    assert len(look(LARGE, (1080, 1920), min_height=900).boxes) == 0
    assert len(look([], (100, 200), tiles=2, region=REGION, min_height=5).boxes) == 0


@pytest.mark.parametrize(
    ("settings", "runs", "expected"),
    [
        ({"speed": "fast"}, True, "int8"),
        ({"speed": "fast"}, False, "auto"),
        ({"speed": "fast", "precision": "bf16"}, True, "bf16"),
        ({}, True, "auto"),
    ],
)
def test_fast_is_int8_where_it_runs_and_nothing_else_is_asked_for(
    settings, runs, expected, monkeypatch
):
    asked = []
    monkeypatch.setattr(module, "int8_runs", lambda *_: runs)
    monkeypatch.setattr(module, "accelerate_detector", lambda *given: asked.append(given[2]))
    module.PersonDetector(MaskRcnn(**settings), "cpu")
    assert asked == [expected]


@pytest.mark.parametrize(
    ("min_height", "expected"),
    [(0, (576, 768)), (60, (576, 768)), (120, (288, 384)), (1e6, (1, 1))],
)
def test_auto_scales_no_further_than_the_smallest_person_needs(min_height, expected, monkeypatch):
    """A picture of 576×768 has the size of the network's input: 60 px there are 60 px in it."""
    monkeypatch.setattr(module, "accelerate_detector", lambda model, *_: model)
    detector = module.PersonDetector(MaskRcnn(short_side="auto", min_height=min_height), "cpu")
    assert detector.model.size_of(576, 768) == expected


def test_a_glance_at_an_adapted_scale_is_half_of_it_and_scaled_once(monkeypatch):
    """The network is given half of 288×384, which is the size of its input: it scales nothing."""
    nobody = Instances(*(torch.zeros(shape) for shape in ((0, 4), (0,), (0,), (0, 0, 0))))
    sizes = []

    def built(model, *_):
        def network(images, masks):
            sizes.extend((tuple(one.shape[1:]), model.size_of(*one.shape[1:])) for one in images)
            return [nobody for _ in images]

        return network

    monkeypatch.setattr(module, "accelerate_detector", built)
    detector = module.PersonDetector(MaskRcnn(short_side="auto", min_height=120), "cpu")
    detector.glance(np.zeros((576, 768, 3), np.uint8))
    assert sizes == [((144, 192), (144, 192))]
    assert detector.model.size_of(576, 768) == (288, 384)


@pytest.mark.skipif(find_spec("openvino") is None, reason="there is no OpenVINO here")
def test_one_thread_computes_a_coarse_look():
    from streamvis.models.inference.openvino import CompiledDetector, threads

    with threads(2):
        detector = module.PersonDetector(MaskRcnn(engine="openvino"), "cpu", masks=False)
        pixels = np.zeros((360, 640, 3), np.uint8)
        detector.glance(pixels)
        detector([pixels])
    assert isinstance(detector.network, CompiledDetector)
    found = {
        size: plan.request.get_compiled_model().get_property("INFERENCE_NUM_THREADS")
        for size, plan in detector.network.plans.plans.items()
    }
    assert found == {(288, 512): 1, (576, 1024): 2}
