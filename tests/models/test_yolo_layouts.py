"""Decoding against a plain loop, and the shapes that make a layout."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_files import STRIDES, cells, yolov8_columns, yolox_rows

from streamvis.errors import WeightsError
from streamvis.models.yolo_layouts import Decoder, check_output, find_layout, grid, suppress

SIZE = (64, 96)
CELLS = cells(SIZE)


def layout(shape, name="auto"):
    return find_layout(shape, SIZE, name, "a.onnx")


def plain_yolox(rows, classes, min_score):
    """YOLOX's decoding as its paper has it, number by number."""
    found, index = [], 0
    for stride in STRIDES:
        for y in range(SIZE[0] // stride):
            for x in range(SIZE[1] // stride):
                row = [float(v) for v in rows[index]]
                score = row[4] * max(row[5 + one] for one in classes)
                if score >= min_score:
                    cx, cy = (row[0] + x) * stride, (row[1] + y) * stride
                    w, h = math.exp(row[2]) * stride, math.exp(row[3]) * stride
                    found.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score))
                index += 1
    return found


def plain_yolov8(columns, classes, min_score):
    found = []
    for n in range(columns.shape[1]):
        cx, cy, w, h = (float(v) for v in columns[:4, n])
        score = max(float(columns[4 + one, n]) for one in classes)
        if score >= min_score:
            found.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score))
    return found


cases = st.tuples(
    st.integers(0, 2**31),
    st.integers(1, 80),
    st.floats(0, 1),
    st.data(),
)


def compared(plain, output, name, classes, min_score):
    decoder = Decoder(layout(output[None].shape, name), SIZE, classes, min_score)
    boxes, scores = decoder(output[None])
    expected = np.array(plain(output, classes, min_score), np.float64).reshape(-1, 5)
    near = np.abs(expected[:, 4] - min_score) < 1e-6  # rounding decides on these
    if not near.any():
        assert len(boxes) == len(expected)
        np.testing.assert_allclose(boxes, expected[:, :4], rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(scores, expected[:, 4], rtol=1e-5)


@given(cases)
@settings(max_examples=40)
def test_rows_of_yolox_are_decoded_as_by_a_plain_loop(case):
    seed, count, min_score, data = case
    classes = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=4))
    rng = np.random.default_rng(seed)
    rows = rng.uniform(0, 1, (CELLS, 5 + count)).astype(np.float32)
    rows[:, :4] = rng.normal(0, 1.5, (CELLS, 4))
    compared(plain_yolox, rows, "yolox", classes, min_score)


@given(cases)
@settings(max_examples=40)
def test_columns_of_yolov8_are_decoded_as_by_a_plain_loop(case):
    seed, count, min_score, data = case
    classes = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=4))
    rng = np.random.default_rng(seed)
    columns = rng.uniform(0, 1, (4 + count, 4 + count + 30)).astype(np.float32)
    columns[:4] *= 96
    compared(plain_yolov8, columns, "yolov8", classes, min_score)


def test_the_grid_is_fine_first_and_row_by_row():
    expected = [
        (x, y, s) for s in STRIDES for y in range(SIZE[0] // s) for x in range(SIZE[1] // s)
    ]
    np.testing.assert_array_equal(grid(*SIZE), expected)


def plain_suppression(boxes, scores, overlap):
    """Greedy non-maximum suppression, pair by pair."""

    def iou(a, b):
        w = min(a[2], b[2]) - max(a[0], b[0])
        h = min(a[3], b[3]) - max(a[1], b[1])
        common = max(w, 0) * max(h, 0)
        both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
        return common / (both - common)

    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[k]) <= overlap for k in kept):
            kept.append(i)
    return kept


@given(st.integers(0, 2**31), st.integers(0, 60), st.sampled_from([0.3, 0.45, 0.65, 1.0]))
@settings(max_examples=60)
def test_suppression_is_that_of_a_plain_loop(seed, count, overlap):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 40, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 30, (count, 2))], axis=1)
    scores = rng.permutation(count) / max(count, 1)
    found = suppress(boxes, scores, overlap, 1000)
    assert found.tolist() == plain_suppression(boxes.tolist(), scores, overlap)
    assert suppress(boxes, scores, 1.0, 5).tolist() == np.argsort(-scores)[:5].tolist()


def test_the_shape_tells_the_layout():
    assert layout((1, CELLS, 85)).name == "yolox"
    assert layout((1, CELLS, 85)).classes == 80
    assert layout((1, 84, CELLS)).name == "yolov8"
    assert layout((1, 5, 8400)).classes == 1


@pytest.mark.parametrize(
    ("shape", "name", "text"),
    [
        ((1, CELLS - 1, 8), "auto", f"(1, {CELLS - 1}, 8); expected (1, {CELLS}, 5 + classes)"),
        ((1, 3 * CELLS, 85), "yolox", f"{CELLS} being the cells of an input of 96×64"),
        ((1, 300, 6), "auto", "export the network without non-maximum suppression"),
        ((-1, -1, 6), "auto", "(any, any, 6)"),
        ((1, 84, CELLS), "yolox", "it fits `layout: yolov8`"),
        ((1, CELLS, 85), "yolov8", "(1, 4 + classes, N) with N > 4 + classes"),
        ((1, CELLS, 85), "yolov8", "it fits `layout: yolox`"),
        ((4, CELLS, 85), "auto", f"(4, {CELLS}, 85)"),
        ((1, CELLS), "auto", f"(1, {CELLS})"),
    ],
)
def test_another_shape_is_refused_with_what_was_found_and_expected(shape, name, text):
    with pytest.raises(WeightsError) as caught:
        layout(shape, name)
    assert str(caught.value).startswith("a.onnx: the output of the network is ")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def refused(output):
    decoder = Decoder(layout(output[None].shape), SIZE, [0], 0.1)
    with pytest.raises(WeightsError) as caught:
        check_output(output[None], decoder, "a.onnx")
    return str(caught.value)


def test_numbers_that_are_no_probabilities_are_refused():
    rows = yolox_rows(SIZE, [(10, 10, 30, 50, 0.5)])
    decoder = Decoder(layout(rows[None].shape), SIZE, [0], 0.1)
    check_output(rows[None], decoder, "a.onnx")
    rows[:, 4:] = np.linspace(-9, 3, rows[:, 4:].size).reshape(rows[:, 4:].shape)
    assert "between -9 and 3; expected probabilities" in refused(rows)
    columns = yolov8_columns([(10, 10, 30, 50, 7.0)])
    assert "between 0 and 7" in refused(columns)


def test_boxes_that_are_decoded_already_are_refused():
    rows = yolox_rows(SIZE, [])
    rows[:, :2] = (grid(*SIZE)[:, :2] + 0.5) * grid(*SIZE)[:, 2:]
    assert "without --decode_in_inference" in refused(rows)
