"""The recogniser answers as the stage `off` does, for people and for whole frames."""

import msgspec
import numpy as np
import pytest
import torch
from factories import packet, source, tracks
from walkers import NETWORK, SCENE, assert_same

import streamvis
from streamvis.config import OffActions
from streamvis.errors import DataError, UsageError
from streamvis.models.off import Off, OffConfig
from streamvis.models.weights import save
from streamvis.stages.protocol import Site

FPS, FRAMES, SIZE = 5, 10, (320, 240)
PICTURES = [SCENE.picture(n) for n in range(FRAMES)]
FOUND = [tracks(SCENE.truth(n).ids, SCENE.truth(n).visible_boxes) for n in range(FRAMES)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory, one_thread) -> str:
    """Untrained ones for small pictures."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    about = OffConfig(name="untrained", actions=("fight", "normal"), every_s=0.4, window=3)
    save(Off(msgspec.structs.replace(about, size=(64, 64))).eval(), path, {})
    return str(path)


def staged(weights, given, **settings):
    act = OffActions(weights=weights, min_height=20, **NETWORK, **settings).build(
        Site(device="cpu", pixels=lambda frame: PICTURES[frame.seq])
    )
    act.begin(source(size=SIZE, fps=FPS), None)
    for n, part in enumerate(given):
        yield from act([packet(n, part, fps=FPS, size=SIZE)])


@pytest.mark.parametrize("scope", ["people", "both", "frame"])
def test_probabilities_are_the_stages(scope, weights):
    given = [None] * FRAMES if scope == "frame" else FOUND
    recognise = streamvis.ActionRecogniser(weights, FPS, scope=scope, min_height=20, **NETWORK)
    answered = 0
    for n, expected in enumerate(staged(weights, given, scope=scope)):
        actions = recognise(PICTURES[n], given[n])
        assert_same(actions, expected)
        answered += len(actions.ids)
    assert answered > 0
    assert recognise.labels == ("fight", "normal")


def test_times_stand_for_the_rate(weights):
    steady, told = (
        streamvis.ActionRecogniser(weights, fps, scope="frame", **NETWORK) for fps in (FPS, None)
    )
    for n in range(4):
        assert_same(steady(PICTURES[n]), told(PICTURES[n], time_s=n / FPS))


def test_what_is_no_input_is_refused(weights):
    recognise = streamvis.ActionRecogniser(weights, FPS, **NETWORK)
    nowhere = msgspec.structs.replace(FOUND[0], boxes=FOUND[0].boxes * np.nan)
    with pytest.raises(UsageError, match="scope 'people' needs the tracks of the frame"):
        recognise(PICTURES[0])
    with pytest.raises(DataError, match="expected four finite numbers"):
        recognise(PICTURES[0], nowhere)
    with pytest.raises(DataError, match="expected Tracks"):
        recognise(PICTURES[0], FOUND[0].boxes)
    with pytest.raises(DataError, match=r"^ActionRecogniser: the picture"):
        recognise(PICTURES[0] / 255, FOUND[0])
    with pytest.raises(UsageError, match="the time of the frame is unknown"):
        streamvis.ActionRecogniser(weights, scope="frame", **NETWORK)(PICTURES[0])
    with pytest.raises(UsageError, match="make `end` the smaller"):
        streamvis.ActionRecogniser(weights, begin=0.2, end=0.5)
