"""Looks row for row with the detections, of whole calls at once, whatever there is to look at."""

import msgspec
import numpy as np
import pytest
import torch
from factories import packet as packet_of

from streamvis.config import Appearance, StageSpec
from streamvis.errors import DeviceError, WeightsError
from streamvis.messages import Detections, Embeddings, Packet, decode_part, encode_part
from streamvis.models.crops import crop
from streamvis.models.embedding import ARCHITECTURES, Embedder
from streamvis.models.weights import save
from streamvis.runtime.host import build_stage
from streamvis.stages.embed.stage import EmbedStage
from streamvis.stages.protocol import Site

PICTURES: dict[str, np.ndarray] = {}
WIDTH = ARCHITECTURES["person-r18"].stripes * 128


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    """An untrained embedder of a quarter of the usual pixels: it tells colours apart."""
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    torch.manual_seed(0)
    architecture = msgspec.structs.replace(ARCHITECTURES["person-r18"], size=(64, 32))
    save(Embedder(architecture), path, {})
    return str(path)


@pytest.fixture
def stage(weights):
    def make(**settings) -> EmbedStage:
        given = {"weights": weights, "engine": "torch", "precision": "fp32", **settings}
        given["on_demand"] = False
        spec = StageSpec("embed", Appearance(**given))
        made = build_stage(spec, Site(device="cpu", pixels=lambda frame: PICTURES[frame.slot]))
        assert isinstance(made, EmbedStage)
        return made

    return make


def found(boxes, scores=None, masks=None) -> Detections:
    n = len(boxes)
    return Detections(
        boxes=np.array(boxes, np.float32).reshape(n, 4),
        scores=np.full(n, 0.9, np.float32) if scores is None else np.array(scores, np.float32),
        labels=np.ones(n, np.int32),
        masks=np.zeros((0, 0, 0), np.uint8) if masks is None else masks,
    )


def packet(name: str, part: Detections | None, seed: int = 0) -> Packet:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    pixels = np.repeat(np.repeat(pixels, 20, 0), 20, 1)  # (240, 320, 3) in patches of colour
    pixels.flags.writeable = False  # as a slot is
    PICTURES[name] = pixels
    return packet_of(0, part, size=(320, 240), slot=name)


BOXES = [[10, 20, 60, 180], [100, 30, 160, 200], [200, 10, 260, 170], [-20, 50, 30, 260]]


def test_everyone_looked_at_has_a_vector_of_unit_length(stage):
    scores = [0.9, 0.8, 0.29, 0.5]
    (part,) = stage()([packet("one", found(BOXES, scores))])
    assert part.vectors.shape == (4, WIDTH)
    assert part.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(part.vectors, axis=1), [1, 1, 0, 1], atol=1e-6)
    assert isinstance(decode_part(encode_part(part)), Embeddings)


def test_a_vector_is_the_networks_word_on_the_crop(stage):
    embed = stage()
    (part,) = embed([packet("one", found(BOXES))])
    crops = crop(PICTURES["one"], np.array(BOXES), (64, 32))
    np.testing.assert_allclose(part.vectors, embed.embedder.network(crops), atol=1e-5)
    alike = part.vectors @ part.vectors.T
    assert (alike[~np.eye(4, dtype=bool)] < 0.9999).all()


def test_frames_of_a_call_are_the_frames_one_by_one(stage):
    embed = stage()
    many = [[x, 20, x + 40, 140] for x in range(0, 240, 6)]  # more than one batch
    frames = [
        packet("a", found(BOXES), 1),
        packet("b", found([]), 2),
        packet("c", found(many), 3),
        packet("d", None, 4),
        packet("e", found([BOXES[0]], [0.1]), 5),
        packet("f", found(BOXES[:1]), 6),
    ]
    together = list(embed(frames))
    assert [len(part.vectors) for part in together] == [4, 0, 40, 0, 1, 1]
    for part, frame in zip(together, frames, strict=True):
        (alone,) = embed([frame])
        assert alone.vectors.shape == (len(part.vectors), WIDTH)
        np.testing.assert_allclose(part.vectors, alone.vectors, atol=1e-5)
    assert list(embed([])) == []


def test_scraps_are_not_looked_at(stage):
    scraps = [[10, 10, 13, 90], [10, 10, 90, 13], [50, 50, 40, 90], [np.nan, 0, 9, 90]]
    (part,) = stage()([packet("one", found([*scraps, BOXES[0]]))])
    assert np.linalg.norm(part.vectors, axis=1).round(5).tolist() == [0, 0, 0, 0, 1]


def test_masks_hide_the_background_if_wanted(stage):
    box = [[100, 40, 180, 200]]
    masks = np.zeros((1, 28, 28), np.uint8)
    masks[0, 7:21, 7:21] = 255
    part = found(box, masks=masks)
    frames = [packet(name, part) for name in ("first", "second")]
    for name, shade in (("first", 250), ("second", 0)):
        pixels = np.full((240, 320, 3), shade, np.uint8)
        pixels[70:170, 112:168] = PICTURES[name][70:170, 112:168]  # a little more than the mask
        PICTURES[name] = pixels
    plain = np.concatenate([part.vectors for part in stage()(frames)])
    masked = np.concatenate([part.vectors for part in stage(masks=True)(frames)])
    assert plain[0] @ plain[1] < 0.99
    assert masked[0] @ masked[1] > 0.9999
    (without,) = stage(masks=True)([msgspec.structs.replace(frames[0], parts=[found(box)])])
    np.testing.assert_allclose(without.vectors, plain[:1], atol=1e-5)


def test_what_cannot_look_is_told(stage, weights):
    with pytest.raises(WeightsError, match="which detects people; expected an embedder"):
        stage(weights="person-lite")
    with pytest.raises(WeightsError, match="no weights 'nobody'"):
        stage(weights="nobody")
    with pytest.raises(DeviceError, match="'cuda:7' is not there"):
        EmbedStage(Appearance(weights=weights), Site(device="cuda:7", pixels=lambda frame: None))
