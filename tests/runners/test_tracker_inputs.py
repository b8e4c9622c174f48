"""What pictures add comes with the detections of the same frame, whichever of them are there."""

from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch

from streamvis.config import Jipda, MaskRcnn
from streamvis.datasets.motchallenge import SequenceInfo, read_info
from streamvis.errors import DataError, UsageError
from streamvis.messages import Detections
from streamvis.models.crops import crop
from streamvis.models.embedding import ARCHITECTURES, Embedder
from streamvis.models.inference.select import accelerate_embedder
from streamvis.models.weights import load_embedder, save
from streamvis.runners import tracker_inputs
from streamvis.runners.tracker_inputs import Cues
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence

FRAMES, SIZE = 8, (64, 32)


@pytest.fixture(scope="module")
def looks(tmp_path_factory) -> str:
    """An untrained embedder: it tells colours apart."""
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    torch.manual_seed(0)
    save(Embedder(msgspec.structs.replace(ARCHITECTURES["person-r18"], size=SIZE)), path, {})
    return str(path)


@pytest.fixture
def sequence(tmp_path) -> Path:
    scene = SyntheticScene(seed=3, people=3, size=(160, 120), fps=8, seconds=FRAMES / 8)
    return write_sequence(tmp_path / "made-up", scene, images=True)


def described(sequence: Path) -> SequenceInfo:
    return read_info(sequence / "seqinfo.ini")


def boxes(number: int) -> np.ndarray:
    """As many boxes as the frame's number modulo 4 says."""
    return np.array([[10.0 * k, 20, 10 * k + 30, 90] for k in range(number % 4)]).reshape(-1, 4)


def parts(count: int) -> list[Detections]:
    return [
        Detections(
            boxes=boxes(number).astype(np.float32),
            scores=np.full(number % 4, 0.9, np.float32),
            labels=np.ones(number % 4, np.int32),
            masks=np.zeros((0, 0, 0), np.uint8),
        )
        for number in range(1, count + 1)
    ]


def test_looks_are_those_of_the_picture_with_the_frames_number(sequence, looks):
    (sequence / "img1/000005.jpg").unlink()
    info = described(sequence)
    inputs = tracker_inputs.from_detections(
        info, info.video, parts(FRAMES), Cues(looks, camera=True)
    )
    embed = accelerate_embedder(load_embedder(looks), "cpu")
    assert [one.number for one in inputs.frames] == list(range(1, FRAMES + 1))
    assert inputs.frames[4].embeddings is inputs.frames[4].motion is None  # its picture is missing
    for one in inputs.frames[:4] + inputs.frames[5:]:
        bgr = cv2.imread(str(sequence / f"img1/{one.number:06}.jpg"))
        expected = embed(crop(bgr[..., ::-1], boxes(one.number), SIZE))
        np.testing.assert_allclose(one.embeddings.vectors, expected, atol=1e-3)
        assert one.media_us == (one.number - 1) * 125_000
        assert one.motion is not None


def test_pictures_numbered_from_nought_are_those_of_frames_from_one(sequence):
    for number in range(1, FRAMES + 1):
        (sequence / f"img1/{number:06}.jpg").rename(sequence / f"img1/{number - 1:06}.jpg")
    info = described(sequence)
    inputs = tracker_inputs.from_detections(info, info.video, parts(FRAMES), Cues(camera=True))
    assert all(one.motion is not None for one in inputs.frames)


@pytest.mark.parametrize(
    ("length", "note"),
    [
        (FRAMES, None),
        (FRAMES - 3, f"3 pictures come after frame {FRAMES - 3} and are left out"),
        (FRAMES + 2, f"2 of {FRAMES + 2} frames have no picture"),
    ],
)
def test_more_and_fewer_pictures_than_frames_are_noted(sequence, length, note):
    info = replace(described(sequence), length=length)
    inputs = tracker_inputs.from_detections(info, info.video, parts(length), Cues(camera=True))
    assert [one.motion is not None for one in inputs.frames] == [n < FRAMES for n in range(length)]
    assert note in inputs.note if note else inputs.note is None


def test_our_own_detections_end_with_the_sequence(sequence, looks):
    info = replace(described(sequence), length=3)
    inputs = tracker_inputs.from_detector(
        info, sequence, MaskRcnn(short_side=120, masks=False), Cues(looks)
    )
    assert [(one.number, one.media_us) for one in inputs.frames] == [
        (1, 0),
        (2, 125_000),
        (3, 250_000),
    ]
    assert all(len(one.embeddings.vectors) == len(one.detections.boxes) for one in inputs.frames)
    assert all(one.motion is None for one in inputs.frames)
    assert "5 pictures come after frame 3" in inputs.note


def test_pictures_of_another_size_are_refused(sequence):
    info = replace(described(sequence), width=320, height=240)
    with pytest.raises(DataError, match=r"160x120 .* 320x240"):
        tracker_inputs.from_detections(info, info.video, parts(FRAMES), Cues(camera=True))


def test_without_cues_the_pictures_are_not_read(sequence):
    inputs = tracker_inputs.from_detections(
        described(sequence), Path("nowhere.mp4"), parts(FRAMES), Cues()
    )
    assert [one.number for one in inputs.frames] == list(range(1, FRAMES + 1))
    assert all(one.embeddings is None and one.motion is None for one in inputs.frames)


@pytest.mark.parametrize(
    ("cues", "config"),
    [
        (Cues(), Jipda(mode="jipda_embed")),
        (Cues(camera=True), Jipda(mode="gnn_embed")),
        (Cues("person-r18"), Jipda(camera="moving")),
    ],
)
def test_a_tracker_that_wants_more_than_it_gets_is_refused(cues, config):
    with pytest.raises(UsageError, match="--looks"):
        cues.check(config)
    Cues("person-r18", camera=True).check(config)
