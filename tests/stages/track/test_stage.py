"""The tracking stage: sources apart, frames without detections, epochs, resolutions, resuming."""

import math

import numpy as np
import pytest
from factories import detections, packet, source

from streamvis.config import Jipda
from streamvis.errors import DataError, RunError
from streamvis.messages import Notice, encode_part
from streamvis.stages.track.stage import TrackStage
from streamvis.synthetic.scene import Camera


def packet_of(name, k, *, x=100.0, seen=True, **changes):
    found = detections([x, 100, x + 30, 190]) if seen else None
    return packet(k, found, source=name, **changes)


def started(*names):
    stage = TrackStage(Jipda())
    for name in names:
        stage.begin(source(name), None)
    return stage


def test_one_answer_for_each_packet_in_order_and_sources_apart():
    stage = started("a", "b")
    packets = [packet_of(name, k, x=x) for k in range(6) for name, x in (("a", 100), ("b", 400))]
    answers = list(stage(packets))
    assert len(answers) == 12
    assert [tracks.ids.tolist() for tracks in answers[-2:]] == [[1], [1]]
    assert answers[-2].boxes[0, 0] == pytest.approx(100, abs=3)
    assert answers[-1].boxes[0, 0] == pytest.approx(400, abs=3)


def test_it_coasts_where_detections_are_absent():
    stage = started("a")
    answers = list(stage([packet_of("a", k, x=100 + 5 * k, seen=k % 3 == 0) for k in range(16)]))
    assert [len(tracks.ids) for tracks in answers[6:]] == [1] * 10
    assert [int(tracks.detection[0]) for tracks in answers[12:]] == [0, -1, -1, 0]
    assert answers[14].boxes[0, 0] == pytest.approx(170, abs=6)


def test_batches_change_nothing():
    packets = [packet_of("a", k, x=100 + 3 * k, seen=k != 4) for k in range(10)]
    together = [encode_part(tracks) for tracks in started("a")(packets)]
    stage = started("a")
    assert [encode_part(tracks) for p in packets for tracks in stage([p])] == together


def test_a_successor_goes_on_exactly():
    packets = [packet_of("a", k, x=100 + 3 * k) for k in range(10)]
    whole = [encode_part(tracks) for tracks in started("a")(packets)]
    for cut in range(10):
        first, second = started("a"), TrackStage(Jipda())
        head = [encode_part(tracks) for tracks in first(packets[:cut])]
        second.begin(source("a"), first.state("a"))
        assert head + [encode_part(tracks) for tracks in second(packets[cut:])] == whole


def test_a_new_stream_epoch_starts_over():
    stage = started("a")
    list(stage([packet_of("a", k) for k in range(6)]))
    stage.notice(Notice(source="a", kind="epoch", media_us=500_000))
    again = [packet_of("a", 6 + k, epoch=2, media_us=k * 100_000) for k in range(4)]
    answers = list(stage(again))
    assert answers[0].first_seen_us.tolist() == [0]
    assert answers[-1].ids.tolist() == [1]
    assert answers[-1].first_seen_us.tolist() == [0]


def test_a_new_resolution_keeps_the_people():
    stage = started("a")
    list(stage([packet_of("a", k) for k in range(6)]))
    larger = packet_of("a", 6, size=(1280, 960))
    larger.parts[0].boxes[:] *= 2
    (tracks,) = stage([larger])
    assert tracks.ids.tolist() == [1]
    # and a successor, told the size the source had at first, goes on with the new one
    second = TrackStage(Jipda())
    second.begin(source("a"), stage.state("a"))
    one, other = packet_of("a", 7, size=(1280, 960)), packet_of("a", 7, size=(1280, 960))
    assert encode_part(*stage([one])) == encode_part(*second([other]))


def test_a_finished_source_is_forgotten():
    stage = started("a", "b")
    stage.finish("a", "eof")
    list(stage([packet_of("b", 0)]))
    with pytest.raises(RunError, match=r"kind jipda got source 'a', .* Begun: b"):
        list(stage([packet_of("a", 0)]))
    stage.close()


def test_a_state_of_something_else_is_refused():
    with pytest.raises(DataError, match="source a"):
        TrackStage(Jipda()).begin(source("a"), b"no")


@pytest.mark.parametrize(("space", "logged"), [("auto", True), ("ground", False)])
def test_the_log_says_why_a_grazing_plane_is_not_used(space, logged, capfd):
    camera = Camera(640, 480, height=1.6, pitch=math.radians(1))
    stage = TrackStage(Jipda(space=space))
    stage.begin(source("gate", ground_plane=tuple(np.ravel(camera.homography).tolist())), None)
    text = capfd.readouterr().err
    assert ("people are associated in the image" in text) == logged
    assert ("gate" in text) == logged
