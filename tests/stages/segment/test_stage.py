"""Scenes in a stage: frame by frame in any batch, and what is lent to its neighbour."""

import cv2
import numpy as np
import pytest
import torch
from factories import packet as packet_of

from streamvis.config import Segment, StageSpec
from streamvis.errors import WeightsError
from streamvis.messages import Packet, Segmentation, decode_part, encode_part
from streamvis.models.swiftnet import SwiftNet, SwiftNetConfig
from streamvis.models.weights import load_segmenter, save
from streamvis.runtime.host import build_stage
from streamvis.stages.protocol import Site
from streamvis.stages.segment.features import SegmenterFeatures, key_of

PICTURES: dict[str, np.ndarray] = {}


def network(**about) -> SwiftNet:
    """Untrained, with norms that have seen pictures."""
    torch.manual_seed(0)
    given = {"widths": (8, 8, 8), "lines": 64, "segments": ("road", "tree", "car")} | about
    model = SwiftNet(SwiftNetConfig("untrained", "efficientnet_lite0", **given))
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        pictures = np.stack([picture(seed, (64, 96)) for seed in range(4)])
        model.train()(model.normalise(pictures))
    return model.eval()


def picture(seed: int, size: tuple[int, int]) -> np.ndarray:
    rough = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    image = cv2.resize(rough, size[::-1], interpolation=cv2.INTER_CUBIC)
    image.flags.writeable = False  # as a slot is
    return image


def packet(n: int, size: tuple[int, int] = (64, 96), name: str = "a") -> Packet:
    slot = f"{n} {size}"
    PICTURES.setdefault(slot, picture(n, size))
    return packet_of(n, source=name, media_us=n, size=size[::-1], slot=slot)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[bool, str]:
    """Without and with a head for what is unknown."""
    folder = tmp_path_factory.mktemp("weights")
    paths = {told: folder / f"untrained-{told}.safetensors" for told in (False, True)}
    for told, path in paths.items():
        save(network(outliers=told), path, {})
    return {told: str(path) for told, path in paths.items()}


@pytest.fixture
def made(weights):
    def make(outliers: bool = False, **settings):
        given = {"weights": weights[outliers], "engine": "torch", "precision": "fp32", **settings}
        site = Site(device="cpu", pixels=lambda frame: PICTURES[frame.slot])
        return build_stage(StageSpec("look", Segment(**given)), site)

    return make


def test_a_frame_is_what_the_network_says(made, weights):
    stage = made()
    (part,) = stage([packet(0)])
    model = load_segmenter(weights[False])
    with torch.inference_mode():
        logits = model(model.normalise(PICTURES[packet(0).frame.slot][None].copy()))
        whole = torch.nn.functional.interpolate(logits, (64, 96), mode="bilinear")
    assert part.labels == ("road", "tree", "car")
    assert (part.classes == whole.argmax(1)[0].numpy()).mean() > 0.999
    assert part.unknown.shape == (0, 0)
    decoded = decode_part(encode_part(part))
    assert isinstance(decoded, Segmentation)
    np.testing.assert_array_equal(decoded.classes, part.classes)


def test_frames_of_a_call_are_the_frames_one_by_one(made):
    stage = made()
    packets = [packet(n, size) for n in range(3) for size in ((64, 96), (48, 48))]
    alone = [part for one in packets for part in stage([one])]
    for one, other in zip(alone, stage(packets), strict=True):
        np.testing.assert_array_equal(one.classes, other.classes)
    assert [*stage([])] == []


@pytest.mark.parametrize(
    ("size", "lines", "shape"),
    [
        ((64, 96), None, (64, 96)),
        ((128, 192), None, (64, 96)),
        ((128, 192), 96, (96, 144)),
        ((32, 33), None, (64, 66)),
    ],
)
def test_pictures_are_looked_at_as_high_as_trained_or_as_asked(made, size, lines, shape):
    stage = made(lines=lines)
    (part,) = stage([packet(0, size)])
    assert part.classes.shape == shape
    assert part.classes.dtype == np.uint8


def test_what_is_unknown_is_told_where_the_weights_can(made):
    stage = made(outliers=True)
    (part,) = stage([packet(0)])
    assert part.unknown.shape == (16, 24)
    assert np.ptp(part.unknown) > 0


def test_what_was_seen_in_the_last_call_is_lent_to_its_neighbours(made, weights):
    stage = made()
    packets = [packet(0), packet(1), packet(1, name="b")]
    parts = [*stage(packets)]
    shared = stage.lent
    assert isinstance(shared, SegmenterFeatures)
    assert shared.weights == weights[False]
    assert [*shared.frames] == [key_of(one.frame) for one in packets]
    for one, part in zip(packets, parts, strict=True):
        np.testing.assert_array_equal(shared.frames[key_of(one.frame)].classes, part.classes)
    first = shared.frames[key_of(packets[0].frame)].features
    assert first.shape == (1, 8, 16, 24)
    kept = first.clone()
    [*stage(packets[1:2])]
    assert [*shared.frames] == [key_of(packets[1].frame)]
    assert torch.equal(first, kept)
    stage.close()


def test_weights_that_find_people_do_not_segment(made):
    with pytest.raises(WeightsError, match=r"detects people.*expected a segmenter"):
        made(weights="person-lite")
