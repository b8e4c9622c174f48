"""The pose stage with a stand-in for its network: whom it estimates when, in batches, restarts."""

import msgspec
import numpy as np
import pytest
from factories import packet, source, tracks

from streamvis.config import PoseEstimation, StageSpec
from streamvis.errors import DataError, RunError
from streamvis.messages import Packet, Poses, encode_part
from streamvis.runtime.host import build_stage
from streamvis.stages.pose import stage as pose_stage
from streamvis.stages.protocol import Site

SIZE = (640, 480)
SHAPE = np.stack([np.linspace(0.2, 0.8, 17), np.linspace(0.05, 0.95, 17)], axis=1)  # of the box
CALLS: list[list[np.ndarray]] = []  # the boxes of each image of each call


class StandIn:
    """Places the keypoints at shares of the box, and notes what it was asked."""

    def estimate(self, images, boxes):
        CALLS.append([np.array(one) for one in boxes])
        assert all(image.shape == (SIZE[1], SIZE[0], 3) for image in images)
        return [self._answer(np.asarray(one, np.float64)) for one in boxes]

    def _answer(self, boxes):
        sides = boxes[:, None, 2:] - boxes[:, None, :2]
        n = len(boxes)
        return (
            (boxes[:, None, :2] + SHAPE * sides).astype(np.float32),
            np.full((n, 17), 0.8, np.float32),
            np.broadcast_to(np.float32(4 * np.eye(2)), (n, 17, 2, 2)),
        )


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(pose_stage.PoseNetwork, "load", lambda *_: StandIn())
    CALLS.clear()


def pixels(frame):
    return np.zeros((frame.height, frame.width, 3), np.uint8)


def stage(*sources: str, **settings):
    config = StageSpec("pose", PoseEstimation(**settings))
    made = build_stage(config, Site(device="cpu", pixels=pixels))
    for name in sources or ("a",):
        made.begin(source(name, size=SIZE), None)
    return made


def box(who: int, k: float, height: float = 120.0) -> list[float]:
    x, y = 40 + 50 * who + 4 * k, 100 + 10 * who
    return [x, y, x + height / 3, y + height]


def walking(k, people=(1, 2), name="a", fps=10, heights=None, **changes) -> Packet:
    tall = heights or dict.fromkeys(people, 120.0)
    boxes = np.array([box(who, 10 * k / fps, tall[who]) for who in people]).reshape(-1, 4)
    given = {key: changes.pop(key) for key in ("epoch", "media_us") if key in changes}
    part = tracks(people, boxes, **changes)
    return packet(k, part, source=name, fps=fps, size=SIZE, **given)


def run(made, packets) -> list[Poses]:
    out = [part for one in packets for part in made([one])]
    for part in out:
        part.check()
    return out


def sampled(parts) -> list[list[int]]:
    return [part.ids[part.sampled].tolist() for part in parts]


@pytest.mark.parametrize("fps", [4, 10, 30])
def test_people_are_estimated_at_their_interval_at_any_frame_rate(fps):
    parts = run(stage(), [walking(k, fps=fps) for k in range(3 * fps)])
    every = [k for k, ids in enumerate(sampled(parts)) if ids]
    assert every == [k for k in range(3 * fps) if fps <= 5 or k % (fps // 5) == 0]
    assert all(part.ids.tolist() == [1, 2] for part in parts)


def test_frames_between_are_predicted_and_near():
    parts = run(stage(), [walking(k, fps=20) for k in range(40)])
    for k, part in enumerate(parts[12:], 12):
        at = np.array([box(who, k / 2) for who in (1, 2)])
        truth = at[:, None, :2] + SHAPE * (at[:, None, 2:] - at[:, None, :2])
        np.testing.assert_allclose(part.points, truth, atol=1.5)
    assert parts[13].scores.max() < parts[12].scores.min()
    assert np.isnan(parts[13].postures).all()


def test_all_people_of_a_call_are_one_batch():
    made = stage("a", "b", "c")
    packets = [walking(0, (1, 2), "a"), walking(0, (), "b"), walking(0, (1, 2, 3), "c")]
    packets.append(walking(1, (1, 2), "a"))  # not due
    together = list(made(packets))
    assert [[len(one) for one in call] for call in CALLS] == [[2, 3]]
    apart = run(stage("a", "b", "c"), packets)
    assert [encode_part(one) for one in together] == [encode_part(one) for one in apart]


def test_the_largest_are_taken_and_stay():
    made, heights = stage(people=2), {1: 100.0, 2: 120.0, 3: 110.0, 4: 30.0}
    parts = run(made, [walking(0, (1, 2, 3, 4), heights=heights)])
    assert sampled(parts) == [[2, 3]]
    parts = run(made, [walking(2, (1, 2, 3), heights={**heights, 1: 130.0})])
    assert sampled(parts) == [[2, 3]]  # not larger by a quarter
    parts = run(made, [walking(4, (1, 2, 3), heights={**heights, 1: 140.0})])
    assert sampled(parts) == [[1, 2]]
    assert parts[0].ids.tolist() == [1, 2, 3]  # who was estimated a while ago is predicted
    small = run(stage(), [walking(0, (4,), heights=heights)])
    assert len(small[0]) == 0


def test_predicted_boxes_are_not_looked_at():
    unseen = {"detection": [-1, 0]}
    assert sampled(run(stage(), [walking(0, **unseen)])) == [[2]]


def test_people_who_stand_in_a_still_picture_are_not_estimated_again():
    made = stage()
    first = run(made, [walking(0)])[0]
    still = {"detection": [-1, -1], "held": [True, True]}
    parts = run(
        made,
        [
            msgspec.structs.replace(walking(0, **still), frame=one.frame)
            for one in (walking(k) for k in range(1, 200))
        ],
    )
    assert len(CALLS) == 1
    assert sampled(parts)[1] == [1, 2]  # they still decide
    np.testing.assert_array_equal(parts[-1].points, first.points)
    np.testing.assert_array_equal(parts[-1].scores, first.scores)
    run(made, [walking(200), walking(202)])
    assert len(CALLS) == 3


def test_corrections_move_and_drop_people():
    made = stage()
    run(made, [walking(k) for k in range(3)])
    merged = run(made, [walking(3, (2, 5), merged=[[1, 5]])])[0]
    assert merged.ids.tolist() == [2, 5]
    split = run(made, [walking(3.5, (2, 5), split=[[2, 9, 0]])])[0]
    assert split.ids.tolist() == [5]
    ended = run(made, [walking(3.75, (5,), ended=[5])])[0]
    assert len(ended) == 0


def test_without_tracks_there_is_nothing():
    (part,) = stage()([packet(0, size=SIZE)])
    part.check()
    assert len(part) == 0


def test_keypoints_outside_of_the_picture_are_not_measured():
    one = tracks([1], [[-60, 100, 60, 300]])
    (part,) = stage()([packet(0, one, size=SIZE)])
    outside = part.points[0, :, 0] < 0
    assert outside.any()
    np.testing.assert_array_equal(part.scores[0] == 0, outside)


@pytest.mark.parametrize("cut", [1, 2, 7, 13])
def test_a_successor_continues_exactly(cut):
    packets = [walking(k, (1, 2) if k < 9 else (2, 3), fps=12) for k in range(20)]
    packets[11] = walking(11, (3, 5), fps=12, merged=[[2, 5]])
    undisturbed = run(stage(), packets)
    made = stage()
    before = run(made, packets[:cut])
    successor = build_stage(StageSpec("pose", PoseEstimation()), Site(device="cpu", pixels=pixels))
    successor.begin(source("a", size=SIZE), made.state("a"))
    after = run(successor, packets[cut:])
    assert [encode_part(one) for one in undisturbed] == [
        encode_part(one) for one in [*before, *after]
    ]
    assert successor.state("a") == _end_state(packets)


def _end_state(packets) -> bytes:
    made = stage()
    run(made, packets)
    return made.state("a")


def test_another_stream_epoch_begins_anew_also_within_a_call():
    made = stage()
    packets = [walking(k) for k in range(4)]
    packets += [walking(k, epoch=2, media_us=k * 100_000) for k in range(3)]
    together = list(made(packets))
    fresh = run(stage(), packets[4:])
    assert [encode_part(one) for one in together[4:]] == [encode_part(one) for one in fresh]
    assert [encode_part(one) for one in together[:4]] == [
        encode_part(one) for one in run(stage(), packets[:4])
    ]


def test_a_source_that_ends_is_forgotten_and_a_wrong_state_refused():
    made = stage()
    run(made, [walking(0)])
    made.finish("a", "eof")
    with pytest.raises(RunError, match="kind pose got source 'a', which has not begun or has"):
        list(made([walking(1)]))
    with pytest.raises(DataError, match="not the state of a stage of kind pose"):
        made.begin(source("a"), b"\x00")
