"""Speeds of the detector: size of the input, number of regions, and who keeps their own."""

import math

import msgspec
import pytest
import torch

from streamvis.models.detector_speed import MIN_OBJECTNESS, SPEEDS, set_speed
from streamvis.models.mask_rcnn import ARCHITECTURES, MaskRcnn
from streamvis.models.rpn import RegionProposals

LITE = ARCHITECTURES["person-lite"]


def lite(**changes) -> MaskRcnn:
    return MaskRcnn(msgspec.structs.replace(LITE, **changes))


def test_fast_shrinks_the_input_and_short_side_decides_where_it_is_given():
    model = lite()
    set_speed(model, "fast")
    assert (model.short_side, model.long_side) == (384, 683)
    model = lite()
    set_speed(model, "fast", short_side=288)
    assert (model.short_side, model.long_side) == (288, 512)


@pytest.mark.parametrize(
    ("image", "size"),
    [
        ((1080, 1920), (864, 1536)),
        ((720, 1280), (720, 1280)),  # all that it has
        ((576, 768), (576, 768)),
        ((480, 640), (576, 768)),  # as trained
        ((500, 2000), (384, 1536)),  # by the longer side
    ],
)
def test_accurate_sees_more_of_large_images_and_never_enlarges_beyond_the_training_size(
    image, size
):
    model = lite()
    set_speed(model, "accurate")
    assert model.size_of(*image) == size
    model.most_scale = 0.5
    assert model.size_of(*image) == (image[0] // 2, image[1] // 2)
    model = lite()
    set_speed(model, "accurate", short_side=288)
    assert min(model.size_of(1080, 1920)) == 288


@pytest.mark.parametrize("name", SPEEDS)
def test_regions_are_limited_for_people_and_left_alone_for_many_classes(name):
    model, many = lite(), lite(classes=91)
    most = set_speed(model, name).proposals
    set_speed(many, name)
    assert many.rpn.keep_after == LITE.proposals[1]
    assert many.rpn.min_logit == -math.inf
    assert model.rpn.keep_after == (most or LITE.proposals[1])


def test_a_speed_never_asks_for_more_regions_than_the_weights():
    model = lite(proposals=(20, 10))
    set_speed(model, "balanced")
    assert (model.rpn.keep_before, model.rpn.keep_after) == (20, 10)


def test_a_limit_of_objectness_keeps_the_same_regions_down_to_it():
    """Greedy suppression goes from the best on: what is cut off below changes nothing above."""
    torch.manual_seed(0)
    rpn = RegionProposals(8, [(16.0,), (32.0,)], (1.0, 2.0), 300, 200)
    grids = [torch.zeros(1, 8, 12, 16), torch.zeros(1, 8, 6, 8)]
    anchors = rpn.anchors(grids, (96, 128))
    logits = [torch.randn(1, len(a)) * 2 - 3 for a in anchors]
    deltas = [torch.randn(1, len(a), 4) * 0.2 for a in anchors]
    (every,) = rpn.propose(logits, deltas, anchors, [(96, 128)])
    rpn.min_logit = math.log(MIN_OBJECTNESS / (1 - MIN_OBJECTNESS))
    (likely,) = rpn.propose(logits, deltas, anchors, [(96, 128)])
    assert 0 < len(likely) < len(every)
    assert torch.equal(likely, every[: len(likely)])
