"""Detections and tracks as arrays: made, selected, shown, and refused when they are unsound."""

import msgspec
import numpy as np
import pytest
from factories import detections, tracks
from hypothesis import given
from hypothesis import strategies as st

from streamvis.errors import DataError
from streamvis.messages import Detections, Poses, decode_part, encode_part

BOXES = np.array([[10, 20, 40, 90], [50, 20, 80, 95], [0, 0, 9, 9]])
SCORES = [0.9, 0.8, 0.3]
FOUND = detections(BOXES, SCORES, masks=np.arange(3 * 784).reshape(3, 28, 28).astype(np.uint8))
TRACKED = tracks([4, 7, 9], BOXES, ended=[1, 2], merged=[[4, 3]], velocity=[[1, 2]])
COLUMNS = ("boxes", "scores", "labels", "masks")


@given(
    st.one_of(
        st.integers(-3, 2),
        st.slices(3),
        st.lists(st.booleans(), min_size=3, max_size=3),
        st.lists(st.integers(0, 2), max_size=5),
        st.lists(st.booleans(), min_size=3, max_size=3).map(np.array),
    )
)
def test_rows_are_those_of_every_array(rows):
    listed = [rows] if isinstance(rows, int) else rows
    if isinstance(listed, list) and not listed:
        listed = np.zeros(0, int)
    found, tracked = FOUND[rows], TRACKED[rows]
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(found, name), getattr(FOUND, name)[listed])
    for name in ("ids", "boxes", "velocity", "detection", "first_seen_us"):
        np.testing.assert_array_equal(getattr(tracked, name), getattr(TRACKED, name)[listed])
    assert len(tracked) == len(tracked.ids) == len(found)


def test_what_is_of_the_whole_frame_stays_and_what_is_not_there_too():
    one = TRACKED[TRACKED.ids == 7]
    assert one.ids.tolist() == [7]
    assert one.ended.tolist() == [1, 2]
    assert one.merged.tolist() == [[4, 3]]
    assert one.split is one.ground_velocity is None
    assert detections(BOXES)[:1].masks.shape == (0, 0, 0)


@pytest.mark.parametrize("rows", [3, -4, [0, 3], [True, False], "boxes"])
def test_rows_that_are_not_there_are_an_index_error(rows):
    with pytest.raises(IndexError):
        FOUND[rows]
    with pytest.raises(IndexError):
        TRACKED[rows]


def test_a_loop_goes_over_rows():
    assert [float(one.scores[0]) for one in FOUND] == pytest.approx(SCORES)
    assert [int(one.ids[0]) for one in TRACKED] == [4, 7, 9]


def test_detections_are_made_of_anything_like_arrays():
    made = Detections.of(BOXES.tolist(), SCORES)
    assert [getattr(made, name).dtype.str for name in COLUMNS] == ["<f4", "<f4", "<i4", "|u1"]
    np.testing.assert_array_equal(made.boxes, BOXES)
    assert made.labels.tolist() == [1, 1, 1]
    assert len(Detections.of([], [])) == 0
    assert Detections.of([], []).boxes.shape == (0, 4)
    assert Detections.of(BOXES, SCORES, [1, 2, 3], FOUND.masks)[2].labels.tolist() == [3]
    again = decode_part(encode_part(made))
    assert isinstance(again, Detections)
    np.testing.assert_array_equal(again.boxes, made.boxes)


NAN = float("nan")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ((BOXES[0], [0.9]), r"boxes: found shape \(4,\), expected \(any, 4\)"),
        ((BOXES[:, :3], SCORES), r"boxes: found shape \(3, 3\)"),
        ((BOXES, SCORES[:2]), r"scores: found shape \(2,\), expected \(3,\)"),
        ((BOXES, SCORES, [1]), r"labels: found shape \(1,\)"),
        ((BOXES, SCORES, None, FOUND.masks[:2]), "masks are 2; expected 3, or none"),
        ((BOXES, SCORES, None, FOUND.masks / 255), "masks: found float64, expected .* uint8"),
        ((BOXES, [0.9, NAN, 0.3]), "NaN or infinity"),
        ((BOXES.astype(float) + np.inf, SCORES), "NaN or infinity"),
        ((BOXES, [0.9, 90, 0.3]), "scores reach from 0.3 to 90; expected 0 to 1"),
        ((BOXES, [0.9, -1, 0.3]), "scores reach from -1"),
        (([[100, 20, 30, 90]], [0.9]), r"row 0 is \[100.0, 20.0, 30.0, 90.0\]; .*width, height"),
        ((["a"], [0.9]), r"boxes is \['a'\]; expected an array of numbers: could not convert"),
        ((BOXES, 10**400), r"scores is 10+…; expected an array of numbers: int too large"),
        ((BOXES, SCORES, np.inf), "labels is inf; expected an array of numbers"),
        ((5, [0.9]), r"boxes: found shape \(\), expected \(any, 4\)"),
        ((None, None), r"Detections"),
        (([[1, 2, 3, 4], [1]], [0.9]), r"boxes is \[\[1, 2, 3, 4\], \[1\]\]; expected"),
    ],
)
def test_unsound_detections_are_refused_with_one_error(given, problem):
    with pytest.raises(DataError, match=problem) as caught:
        Detections.of(*given)
    assert "\n" not in str(caught.value)


def test_a_check_finds_arrays_of_another_type():
    for name, value, problem in (
        ("boxes", BOXES.tolist(), "found list, expected a NumPy array of floating point numbers"),
        ("boxes", BOXES, "found int64"),
        ("labels", FOUND.scores, "found float32, expected a NumPy array of integers"),
    ):
        with pytest.raises(DataError, match=f"Detections.{name}: {problem}"):
            msgspec.structs.replace(FOUND, **{name: value}).check()


def test_they_are_shown_in_a_line():
    assert repr(FOUND) == "Detections(3 people, scores 0.30 to 0.90, masks 28x28)"
    assert repr(Detections.of([], [])) == "Detections(0 people)"
    assert repr(TRACKED) == "Tracks(3 people, ids 4, 7, 9, ended [1, 2], image space)"
    assert repr(tracks(range(1, 20))).startswith("Tracks(19 people, ids 1, 2, 3, 4, 5, 6, 7, 8, …,")


def poses(count: int = 3, seed: int = 0) -> Poses:
    rng = np.random.default_rng(seed)
    spread = rng.normal(size=(count, 17, 2, 2))
    return Poses(
        ids=np.arange(1, 2 * count, 2),
        points=rng.uniform(0, 500, (count, 17, 2)).astype(np.float32),
        scores=rng.uniform(0, 1, (count, 17)).astype(np.float32),
        covariances=(spread @ spread.swapaxes(2, 3)).astype(np.float32),
    )


@given(st.integers(0, 5), st.integers(0, 1000))
def test_poses_come_back_as_they_were_and_pass_their_check(count, seed):
    part = poses(count, seed)
    back = decode_part(encode_part(part))
    assert isinstance(back, Poses)
    back.check()
    for name in part.__struct_fields__:
        np.testing.assert_array_equal(getattr(back, name), getattr(part, name))


@pytest.mark.parametrize("rows", [0, -1, slice(1, None), [2, 0], [True, False, True], []])
def test_rows_of_poses_are_those_of_every_array(rows):
    listed = [rows] if isinstance(rows, int) else rows
    listed = (
        listed if isinstance(listed, slice) else np.asarray(listed, bool if True in listed else int)
    )
    part = poses()
    assert (part[rows].postures, part[rows].sampled) == (None, None)
    clear = np.random.default_rng(1).uniform(size=(3, 4)).astype(np.float32)
    part = msgspec.structs.replace(part, postures=clear, sampled=np.array([True, False, True]))
    for name in part.__struct_fields__:
        np.testing.assert_array_equal(getattr(part[rows], name), getattr(part, name)[listed])


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("ids", lambda a: a[:2], r"points: found shape \(3, 17, 2\), expected \(2, 17, 2\)"),
        ("ids", lambda a: a[::-1], r"ids are \[5, 3, 1\]; expected ascending"),
        ("ids", lambda a: a * 0, r"ids are \[0, 0, 0\]; expected ascending ones, each once"),
        ("points", lambda a: a[:, :16], r"points: found shape \(3, 16, 2\)"),
        ("points", lambda a: a * np.nan, "points hold NaN or infinity"),
        ("points", lambda a: a.astype(int), "points: found int64, expected .* floating"),
        ("scores", lambda a: a + 1, "scores reach from 1.* expected 0 to 1"),
        ("covariances", lambda a: -a, "negative variance"),
        ("covariances", lambda a: a + np.float32([[0, 1], [0, 0]]), "not symmetric"),
    ],
)
def test_unsound_poses_are_refused_with_one_error(name, change, problem):
    whole = poses()
    with pytest.raises(DataError, match=f"Poses.*{problem}") as caught:
        msgspec.structs.replace(whole, **{name: change(getattr(whole, name))}).check()
    assert "\n" not in str(caught.value)


def test_poses_are_shown_in_a_line():
    assert repr(poses()).startswith("Poses(3 people, ids 1, 3, 5, scores 0.0")
    assert repr(poses(0)) == "Poses(0 people)"
