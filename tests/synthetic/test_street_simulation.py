"""Simulated scenes: the truth fits itself, and detections and embeddings are as described."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from streamvis.synthetic.street_scenes import SCENES
from streamvis.synthetic.street_simulation import simulate, within

SPARSE = next(one for one in SCENES if one.group.startswith("sparse"))
MOVING = next(one for one in SCENES if one.pan)
BUSY = replace(SPARSE, people=6, fps=25.0, seconds=40.0, variation=1.0, things=0)


@pytest.fixture(scope="module")
def busy():
    return simulate(BUSY)


def test_there_are_enough_scenes_of_every_kind():
    groups = Counter(one.group for one in SCENES)
    assert len(SCENES) >= 30
    assert set(groups.values()) == {4}
    assert {one.fps for one in SCENES} == {5, 10, 15, 30}
    assert len({one.name for one in SCENES}) == len({one.seed for one in SCENES}) == len(SCENES)


def test_a_scene_is_the_same_each_time_and_another_seed_another_one():
    one, same, other = simulate(SPARSE), simulate(SPARSE), simulate(replace(SPARSE, seed=5000))
    for a, b in zip(one.frames, same.frames, strict=True):
        np.testing.assert_array_equal(a.detections.boxes, b.detections.boxes)
        np.testing.assert_array_equal(a.embeddings.vectors, b.embeddings.vectors)
    assert any(
        not np.array_equal(a.truth.boxes, b.truth.boxes)
        for a, b in zip(one.frames, other.frames, strict=True)
    )


def test_detections_are_sound_and_clipped_at_the_picture(busy):
    width, height = busy.size
    for frame in busy.frames:
        frame.detections.check()
        assert (frame.detections.boxes >= 0).all()
        assert (frame.detections.boxes <= [width, height, width, height]).all()
        assert (np.diff(frame.detections.scores) <= 0).all()
        seen = frame.person[frame.person >= 0]
        assert len(set(seen.tolist())) == len(seen)
        assert set(seen.tolist()) <= set(frame.truth.ids.tolist())
        lengths = np.linalg.norm(frame.embeddings.vectors, axis=1)
        np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_people_in_full_view_are_missed_as_often_as_set(busy):
    clear = found = 0
    for frame in busy.frames:
        whole = (frame.truth.visible == 1) & (within(frame.truth.boxes, busy.size) == 1)
        clear += int(whole.sum())
        found += int(np.isin(frame.truth.ids[whole], frame.person).sum())
    assert found / clear == pytest.approx(BUSY.p_detect, abs=0.04)


def distances(frames, lag: int) -> tuple[list[float], list[float]]:
    """Distances of the same person `lag` frames apart, and of others; crops in full view."""
    same, other = [], []
    for a, b in zip(frames, frames[lag:], strict=False):
        rows, columns = (
            np.isin(one.person, one.truth.ids[one.truth.visible == 1]) for one in (a, b)
        )
        d = 1 - a.embeddings.vectors[rows] @ b.embeddings.vectors[columns].T
        equal = a.person[rows][:, None] == b.person[columns]
        same += d[equal].tolist()
        other += d[~equal].tolist()
    return same, other


def test_looks_of_one_person_differ_more_and_more_as_measured(busy):
    for lag, expected in ((1, 0.06), (12, 0.27), (50, 0.41)):
        same, _ = distances(busy.frames, lag)
        assert np.mean(same) == pytest.approx(expected, abs=0.06)
    _, other = distances(busy.frames, 1)
    assert np.mean(other) == pytest.approx(0.75, abs=0.06)


def test_similar_clothes_are_close():
    """Of three groups of clothes, a third of the pairs of people share one."""
    steady = replace(BUSY, seconds=8.0, variation=0.05)
    _, apart = distances(simulate(steady).frames, 1)
    _, alike = distances(simulate(replace(steady, alike=0.7)).frames, 1)
    assert np.quantile(alike, 0.1) < np.quantile(apart, 0.1) - 0.1


def test_the_measured_motion_carries_the_truth_from_frame_to_frame():
    """Who stands still on the ground stands still in the picture after the warp."""
    scene = simulate(MOVING)
    residuals, shifts = [], []
    for before, after in zip(scene.frames, scene.frames[1:], strict=False):
        motion = after.motion
        assert motion is not None
        still = {
            int(who): row
            for row, who in enumerate(before.truth.ids)
            if who in after.truth.ids
            and np.allclose(
                before.truth.ground[row],
                after.truth.ground[after.truth.ids.tolist().index(who)],
                atol=1e-9,
            )
        }
        for who, row in still.items():
            foot = before.truth.boxes[row, [0, 3]]
            now = after.truth.boxes[after.truth.ids.tolist().index(who), [0, 3]]
            residuals.append(np.abs(motion.warp @ [*foot, 1] - now).max() * (motion.support > 0))
            shifts.append(np.abs(foot - now).max())
    assert max(shifts) > 10  # px: the camera does move
    assert max(residuals) < 2


def test_people_nearer_to_the_camera_hide_those_behind():
    scene = simulate(next(one for one in SCENES if one.group == "crowded"))
    for frame in scene.frames[::20]:
        covered = frame.truth.visible < 1
        assert covered.any()
        for row in np.flatnonzero(frame.truth.hidden_by >= 0):
            by = frame.truth.hidden_by[row]
            assert frame.truth.ground[by, 1] < frame.truth.ground[row, 1]
            assert covered[row]
