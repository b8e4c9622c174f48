"""Box arithmetic and the ground plane against what can be worked out by hand."""

import json
from unittest import mock

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis import geometry
from streamvis.errors import ConfigError

A = np.array([[0.0, 0, 10, 10], [5, 5, 5, 9]])
B = np.array([[5.0, 0, 15, 10], [20, 20, 30, 30], [0, 0, 10, 10]])
coordinate = st.floats(-100, 100).map(lambda v: round(v, 3))


def test_iou_and_cover_by_hand():
    np.testing.assert_allclose(geometry.iou(A, B), [[1 / 3, 0, 1], [0, 0, 0]])
    np.testing.assert_allclose(geometry.covered(A, B), [[0.5, 0, 1], [0, 0, 0]])


@given(st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=5))
def test_iou_is_symmetric_and_within_one(rows):
    boxes = np.array(rows).reshape(-1, 4)
    overlap = geometry.iou(boxes, boxes)
    np.testing.assert_allclose(overlap, overlap.T)
    assert ((overlap >= 0) & (overlap <= 1 + 1e-12)).all()


few_values = st.sampled_from([0.0, 1, 2, 3, 5, 8, 2.5, -1, np.nan, np.inf, -np.inf])
finite_values = few_values.filter(np.isfinite)
few_pairs = st.sampled_from([0, geometry.FEW])  # beyond which beginnings are sorted


def rows_of(values, width):
    rows = st.lists(st.tuples(*[values] * width), max_size=8)
    return rows.map(lambda rows: np.array(rows, dtype=np.float64).reshape(-1, width))


@given(rows_of(finite_values, 4), rows_of(finite_values, 4), few_pairs)
def test_overlaps_are_what_box_by_box_comparison_finds(a, b, few):
    """Boxes that touch, are empty, inverted or the same among them."""
    expected = []
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            size = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
            if (size > 0).all():
                both, whole = size.prod(), [(box[2:] - box[:2]).prod() for box in (one, other)]
                expected.append((i, j, both / (sum(whole) - both), *(both / w for w in whole)))
    with mock.patch.object(geometry, "FEW", few):
        found = geometry.overlaps(a, b)
    np.testing.assert_allclose(np.column_stack(found), np.reshape(expected, (-1, 5)))


@given(rows_of(few_values, 2), rows_of(few_values, 2), few_pairs)
def test_intervals_meet_where_they_have_a_point_in_common(a, b, few):
    """What has no beginning or no end must not spoil the sorting for the others."""
    with mock.patch.object(geometry, "FEW", few):
        i, j = geometry.meeting(*a.T, *b.T)
    common = np.maximum(a[:, None, 0], b[:, 0]) <= np.minimum(a[:, None, 1], b[:, 1])
    sound = (a[:, 0] <= a[:, 1])[:, None] & (b[:, 0] <= b[:, 1])
    found = sorted(zip(i.tolist(), j.tolist(), strict=True))
    assert len(found) == len(set(found))
    assert [list(pair) for pair in found if sound[pair]] == np.argwhere(common & sound).tolist()


def test_runs_count_on_and_none_runs_backwards():
    row, number = geometry.runs(np.array([3, 5, 9, 0]), np.array([5, 4, 9, 3]))
    assert row.tolist() == [0, 0, 3, 3, 3]
    assert number.tolist() == [3, 4, 0, 1, 2]


def test_the_foot_is_the_middle_of_the_lower_edge():
    assert geometry.foot(B).tolist() == [[10, 10], [25, 30], [5, 10]]


corner = st.tuples(st.integers(0, 12), st.integers(0, 12))


@given(st.lists(corner, min_size=3, max_size=7))
def test_inside_is_what_opencv_finds_point_by_point(corners):
    polygon = np.array(corners)
    points = np.stack(np.meshgrid(np.arange(-1, 14), np.arange(-1, 14)), 2).reshape(-1, 2) / 1
    contour = polygon[:, None].astype(np.float32)
    expected = [cv2.pointPolygonTest(contour, point, measureDist=False) >= 0 for point in points]
    assert geometry.inside(points, polygon).tolist() == expected


def test_the_edge_of_a_region_belongs_to_it_and_a_notch_does_not():
    u = np.array([(0, 0), (1, 0), (1, 1), (0.7, 1), (0.7, 0.5), (0.3, 0.5), (0.3, 1), (0, 1)])
    points = np.array([(0.1, 1), (1, 1), (1, 0.3), (0.3, 0.7), (0.5, 0.7), (0.5, 0.4), (1.01, 0.5)])
    assert geometry.inside(points, u).tolist() == [True, True, True, True, False, True, False]
    assert geometry.inside(points[:0], u).shape == (0,)


def test_the_jacobian_is_the_slope_of_the_projection():
    H = np.array([[0.05, -0.6, 88.0], [-0.14, -0.4, 120.0], [0.0009, 0.0196, 1.0]])
    points = np.array([[300.0, 250.0], [700.0, 500.0]])
    z, J = geometry.to_ground(H, points)
    for axis in range(2):
        step = np.zeros(2)
        step[axis] = 1e-4
        ahead, _ = geometry.to_ground(H, points + step)
        behind, _ = geometry.to_ground(H, points - step)
        np.testing.assert_allclose(J[:, :, axis], (ahead - behind) / 2e-4, rtol=1e-5)
    np.testing.assert_allclose(z[0], (H @ [300, 250, 1])[:2] / (H @ [300, 250, 1])[2])


def test_the_horizon_is_infinitely_far_and_no_exception():
    H = np.array([[1.0, 0, 0], [0, 1, 0], [0, 1, -100]])
    z, _ = geometry.to_ground(H, np.array([[10.0, 100.0]]))
    assert not np.isfinite(z).all()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"image_foot_to_world_m": [[1, 2], [3, 4]]}',
        '{"image_foot_to_world_m": [[0, 0, 0], [0, 0, 0], [0, 0, 0]]}',
        '{"image_foot_to_world_m": [[1, 0, 0], [0, NaN, 0], [0, 0, 1]]}',
        '{"image_foot_to_world_m": "text"}',
    ],
)
def test_a_faulty_ground_plane_names_its_file(text, tmp_path):
    path = tmp_path / "ground_plane.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"ground_plane\.json"):
        geometry.read_ground_plane(path)


def test_a_ground_plane_is_read_row_by_row(tmp_path):
    path = tmp_path / "g.json"
    path.write_text(json.dumps({"image_foot_to_world_m": [[2, 0, 1], [0, 2, 3], [0, 0, 1]]}))
    assert geometry.read_ground_plane(path) == (2, 0, 1, 0, 2, 3, 0, 0, 1)
