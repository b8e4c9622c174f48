"""The tracker computes the embeddings that it needs, and tracks as with those of everybody."""

import msgspec
import numpy as np
import pytest
import torch
from factories import detections, packet, source
from walkers import SCENE

from streamvis.config import Appearance, Jipda
from streamvis.errors import WeightsError
from streamvis.messages import Packet, encode_part
from streamvis.models.embedding import ARCHITECTURES, Embedder
from streamvis.models.weights import save
from streamvis.stages.protocol import Site
from streamvis.stages.track.stage import TrackStage

FPS, FRAMES, SIZE = 5, 15, (320, 240)
PICTURES = [SCENE.picture(n) for n in range(FRAMES)]
FOUND = [detections(SCENE.truth(n).visible_boxes) for n in range(FRAMES)]


@pytest.fixture(scope="module")
def appearance(tmp_path_factory) -> Appearance:
    """An untrained embedder of a quarter of the usual pixels."""
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    torch.manual_seed(0)
    architecture = msgspec.structs.replace(ARCHITECTURES["person-r18"], size=(64, 32))
    save(Embedder(architecture), path, {})
    return Appearance(weights=str(path), engine="torch", precision="fp32")


def site(*above: Appearance) -> Site:
    return Site(device="cpu", pixels=lambda frame: PICTURES[frame.seq], above=above)


def packets(appearance: Appearance) -> list[Packet]:
    """The frames with their people, and with what the stage of these settings writes."""
    seen = [packet(n, FOUND[n], fps=FPS, size=SIZE) for n in range(FRAMES)]
    for one, part in zip(seen, appearance.build(site())(seen), strict=True):
        one.parts.append(part)
    return seen


def tracking(appearance: Appearance, **settings) -> TrackStage:
    stage = Jipda(**settings).build(site(appearance))
    assert isinstance(stage, TrackStage)
    stage.begin(source(size=SIZE, fps=FPS), None)
    return stage


def test_tracks_are_those_with_the_embeddings_of_everybody(appearance):
    eager = msgspec.structs.replace(appearance, on_demand=False)
    expected = tracking(eager)(packets(eager))
    count = 0
    for tracks, other in zip(tracking(appearance)(packets(appearance)), expected, strict=True):
        assert tracks.ids.tolist() == other.ids.tolist()
        np.testing.assert_allclose(tracks.boxes, other.boxes, atol=1e-2)
        count += len(tracks)
    assert count > FRAMES


def test_the_network_gets_the_people_that_are_asked_for(appearance):
    crops = {}
    for refresh_s in (0.0, 0.5):
        stage, sizes = tracking(appearance, refresh_s=refresh_s), []
        embedder = stage.embedder
        assert embedder is not None
        network = embedder.network
        embedder.network = lambda some, run=network, to=sizes: to.append(len(some)) or run(some)
        list(stage(packets(appearance)))
        crops[refresh_s] = sum(sizes)
    assert crops[0.0] == sum(map(len, FOUND))
    assert 0 < crops[0.5] < crops[0.0]


def test_neither_batches_nor_a_successor_change_a_bit(appearance):
    seen = packets(appearance)
    whole = [encode_part(tracks) for tracks in tracking(appearance)(seen)]
    for cut in (1, 4, 9):
        first, second = tracking(appearance), Jipda().build(site(appearance))
        assert isinstance(second, TrackStage)
        head = [encode_part(tracks) for one in seen[:cut] for tracks in first([one])]
        second.begin(source(size=SIZE, fps=FPS), first.state("a"))
        assert head + [encode_part(tracks) for tracks in second(seen[cut:])] == whole


def test_the_stage_itself_computes_nothing_and_weights_are_the_trackers(appearance):
    absent = msgspec.structs.replace(appearance, weights="nobody")
    assert [one.parts[1].vectors.size for one in packets(absent)] == [0] * FRAMES
    with pytest.raises(WeightsError, match="no weights 'nobody'"):
        tracking(absent)


def test_frames_that_the_stage_left_out_have_no_embeddings(appearance):
    stage = tracking(appearance)
    list(stage([packet(n, FOUND[n], fps=FPS, size=SIZE) for n in range(FRAMES)]))
    assert stage.sources["a"].tracks.width == 0
