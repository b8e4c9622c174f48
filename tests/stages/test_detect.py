"""The detector as a stage: well-formed parts for pictures of any size, alone or in batches."""

import numpy as np
import pytest

from streamvis.config import MaskRcnn
from streamvis.evaluation.coco import Truth
from streamvis.evaluation.detection import evaluate
from streamvis.messages import Array, Detections, Frame, Packet, Site
from streamvis.sources.synthetic import Scene
from streamvis.stages.detect import DetectStage

PICTURES: dict[str, Array] = {}


def packet(name: str, pixels: Array) -> Packet:
    pixels.flags.writeable = False  # as a slot is
    PICTURES[name] = pixels
    height, width = pixels.shape[:2]
    size = {"width": width, "height": height}
    return Packet(frame=Frame(source="a", seq=0, n=0, media_us=0, slot=name, **size))


def stage(**settings) -> DetectStage:
    site = Site(device="cpu", pixels=lambda frame: PICTURES[frame.slot])
    return DetectStage(MaskRcnn(**{"short_side": 240, "precision": "fp32", **settings}), site)


def test_people_of_a_made_up_scene_are_found_with_their_masks():
    scene = Scene(seed=5, people=4, size=(480, 360), fps=5, seconds=6)
    shown = [scene.picture(n) for n in range(0, 30, 3)]
    parts = list(stage(short_side=360)([packet(str(i), p) for i, p in enumerate(shown)]))
    truths = []
    for n in range(0, 30, 3):
        truth = scene.truth(n)
        hard = truth.visibility < 0.6
        none = (None,) * len(truth.ids)
        crowd = np.zeros(len(truth.ids), bool)
        boxes = truth.visible_boxes.astype(float)
        truths.append(Truth(str(n), 480, 360, boxes, hard, crowd, none))
    assert evaluate(truths, parts).ap50 > 0.7
    for part in parts:
        assert part.masks.shape == (len(part.boxes), 28, 28)
        assert part.masks.dtype == np.uint8


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
    scenes = [Scene(seed=s, people=3, size=(320, 240), fps=5, seconds=3) for s in (1, 2)]
    pictures = [scenes[0].picture(4), scenes[1].picture(7)[:200, :260].copy()]
    detect = stage(masks=False)
    together = list(detect([packet(str(i), p) for i, p in enumerate(pictures)]))
    for i, part in enumerate(together):
        (alone,) = detect([packet(str(i), pictures[i])])
        sure = alone.scores > 0.5
        np.testing.assert_allclose(part.scores[: sure.sum()], alone.scores[sure], atol=0.05)
        assert part.masks.size == 0
