"""YOLOX files: made byte by byte here, and the real one of the data."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis.datasets import motchallenge
from streamvis.errors import WeightsError
from streamvis.evaluation.detection import evaluate, truth_of
from streamvis.models.yolox import STRIDES, Yolox, decode, grid, letterbox
from streamvis.sources import open_source, resolve

HEIGHT, WIDTH = 64, 96
CELLS = sum(HEIGHT // s * (WIDTH // s) for s in STRIDES)


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def field(number, value):
    """One field of a protobuf message: a number, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name, values):
    values = np.asarray(values, np.float32)
    dims = b"".join(field(1, n) for n in values.shape)
    return field(5, dims + field(2, 1) + field(8, name) + field(9, values.tobytes()))


def value(number, name, shape):
    dims = b"".join(field(1, field(1, n)) for n in shape)
    return field(number, field(1, name) + field(2, field(1, field(1, 1) + field(2, dims))))


def node(kind, inputs, output, attributes=b""):
    ends = b"".join(field(1, name) for name in inputs) + field(2, output)
    return field(1, ends + field(4, kind) + attributes)


def onnx_file(path, rows, mix=None, size=(HEIGHT, WIDTH), channels=3):
    """A network that answers `rows` (N, 5 + C) plus the means of its channels times `mix`."""
    shape = (1, channels, *size)
    mix = np.zeros((channels, rows.shape[1])) if mix is None else mix
    axes = field(5, field(1, "axes") + field(8, 2) + field(8, 3) + field(20, 7))
    keep = field(5, field(1, "keepdims") + field(3, 0) + field(20, 2))
    graph = (
        node("ReduceMean", ["images"], "means", axes + keep)  # (1, 3)
        + node("MatMul", ["means", "mix"], "shift")  # (1, 5 + C)
        + node("Add", ["rows", "shift"], "output")
        + field(2, "g")
        + tensor("rows", rows[None])
        + tensor("mix", mix)
        + value(11, "images", shape)
        + value(12, "output", (1, *rows.shape))
    )
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13)))
    return path


def empty_rows(classes=3):
    return np.zeros((CELLS, 5 + classes), np.float32)


def cell(stride, column, row):
    """The row of the output that speaks for a cell."""
    before = sum(HEIGHT // s * (WIDTH // s) for s in STRIDES if s < stride)
    return before + row * (WIDTH // stride) + column


def picture(height=HEIGHT, width=WIDTH, colour=(0, 0, 0)):
    return np.full((height, width, 3), colour, np.uint8)


@pytest.mark.parametrize("classes", [1, 80])
def test_a_box_lies_where_its_row_says(tmp_path, classes):
    rows = empty_rows(classes)
    size = np.log([20 / 16, 40 / 16])
    rows[cell(16, 2, 1), :6] = [0.5, 0.25, *size, 0.8, 0.5]  # centre (40, 20), 20×40 pixels
    rows[cell(8, 0, 7), :6] = [0.5, 0.5, 0, 0, 0.9, 0.04]  # too weak
    (found,) = Yolox(onnx_file(tmp_path / "a.onnx", rows))([picture()])
    np.testing.assert_allclose(found.boxes, [[30, 0, 50, 40]], atol=1e-4)
    np.testing.assert_allclose(found.scores, [0.4], atol=1e-6)
    assert found.labels.tolist() == [1]
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == ("f4", "f4", "i4")
    assert found.masks.shape == (0, 0, 0)


def test_boxes_come_back_in_the_pixels_of_each_picture(tmp_path):
    rows = empty_rows()
    rows[cell(32, 1, 0), :6] = [0, 0.5, 0, 0, 1, 1]  # centre (32, 16), 32×32 of 96×64
    detector = Yolox(onnx_file(tmp_path / "a.onnx", rows))
    twice, tall = detector([picture(128, 192), picture(256, 40)])
    np.testing.assert_allclose(twice.boxes, [[32, 0, 96, 64]], atol=1e-3)
    np.testing.assert_allclose(tall.boxes, [[40, 0, 40, 128]], atol=1e-3)  # cut at its border


def test_other_classes_are_not_people(tmp_path):
    rows = empty_rows(3)
    rows[5, 4:] = [1, 0, 1, 0]
    (found,) = Yolox(onnx_file(tmp_path / "a.onnx", rows))([picture()])
    assert len(found.boxes) == 0


def test_the_weaker_of_two_boxes_of_one_person_goes(tmp_path):
    rows = empty_rows()
    rows[cell(16, 0, 0), :6] = [1, 1, 0, 0, 0.6, 1]
    rows[cell(16, 1, 1), :6] = [0, 0, 0, 0, 0.9, 1]  # the same box, surer
    rows[cell(16, 4, 1), :6] = [0, 0, 0, 0, 0.7, 1]
    (found,) = Yolox(onnx_file(tmp_path / "a.onnx", rows))([picture()])
    np.testing.assert_allclose(found.scores, [0.9, 0.7])


def test_the_network_sees_blue_green_red_from_0_to_255_and_grey_beside(tmp_path):
    rows = empty_rows(1)
    rows[3, 5] = 1
    mix = np.zeros((3, 6))
    mix[:, 4] = [1 / 255, 0, 0]  # its objectness is its first channel
    detector = Yolox(onnx_file(tmp_path / "a.onnx", rows, mix))
    blue, red, half = detector(
        [picture(colour=(0, 0, 255)), picture(colour=(255, 0, 0)), picture(64, 48)]
    )
    assert blue.scores == pytest.approx([1])
    assert len(red.scores) == 0
    assert half.scores == pytest.approx([114 / 255 / 2])  # the right half is filled


@given(st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=50)
def test_a_letterboxed_picture_lies_top_left_and_touches_a_side(height, width):
    boxed, ratio = letterbox(picture(height, width, (255, 255, 255)), HEIGHT, WIDTH)
    assert boxed.shape == (HEIGHT, WIDTH, 3)
    filled = (boxed == 255).all(axis=2)
    h, w = int(filled[:, 0].sum()), int(filled[0].sum())
    assert filled.sum() == h * w  # a rectangle at the origin
    assert (boxed[~filled] == 114).all()
    assert max(h / HEIGHT, w / WIDTH) > 0.98
    assert abs(h - height * ratio) <= 1
    assert abs(w - width * ratio) <= 1


def test_encoding_by_hand_and_decoding_agree():
    rng = np.random.default_rng(0)
    cells = grid(HEIGHT, WIDTH)
    assert len(cells) == CELLS
    low = rng.uniform(0, 40, (CELLS, 2))
    boxes = np.concatenate([low, low + rng.uniform(4, 40, (CELLS, 2))], axis=1)
    x, y, stride = cells.numpy().T
    rows = np.zeros((CELLS, 6), np.float32)
    rows[:, 0] = (boxes[:, 0] + boxes[:, 2]) / 2 / stride - x
    rows[:, 1] = (boxes[:, 1] + boxes[:, 3]) / 2 / stride - y
    rows[:, 2] = np.log((boxes[:, 2] - boxes[:, 0]) / stride)
    rows[:, 3] = np.log((boxes[:, 3] - boxes[:, 1]) / stride)
    rows[:, 4:] = rng.uniform(0, 1, (CELLS, 2))
    decoded, scores = decode(torch.from_numpy(rows), cells)
    np.testing.assert_allclose(decoded, boxes, atol=1e-3)
    np.testing.assert_allclose(scores, rows[:, 4] * rows[:, 5], rtol=1e-6)


def test_a_network_gone_wrong_gives_boxes_inside_the_picture_or_none(tmp_path):
    rows = empty_rows()
    rows[0, :6] = [0, 0, 1e9, 1e9, 1, 1]
    rows[1, :6] = [0, 0, 0, 0, np.nan, 1]
    (found,) = Yolox(onnx_file(tmp_path / "a.onnx", rows))([picture()])
    np.testing.assert_allclose(found.boxes, [[0, 0, WIDTH, HEIGHT]])


def refusal(path):
    with pytest.raises(WeightsError) as caught:
        Yolox(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def test_what_is_no_onnx_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("text.onnx", "empty.onnx", "absent.onnx"):
        assert "is not an ONNX file that can be read" in refusal(tmp_path / name)


def test_another_layout_is_refused_with_what_was_found(tmp_path):
    rows = empty_rows()
    assert f"(1, {CELLS - 1}, 8)" in refusal(onnx_file(tmp_path / "rows.onnx", rows[1:]))
    assert f"(1, {CELLS}, 5)" in refusal(onnx_file(tmp_path / "columns.onnx", rows[:, :5]))
    grey = onnx_file(tmp_path / "grey.onnx", rows, channels=1)
    assert "[1, 1, 64, 96]" in refusal(grey)
    odd = onnx_file(tmp_path / "odd.onnx", rows, size=(60, 96))
    assert "multiples of 32" in refusal(odd)


def test_missing_onnxruntime_is_told_with_its_remedy(tmp_path, monkeypatch):
    path = onnx_file(tmp_path / "a.onnx", empty_rows())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install onnxruntime" in refusal(path)


def test_the_real_file_scores_as_it_should(data):
    """AP50 on TUD-Campus is .763 by the data's README, whose overlap for NMS is not known."""
    detector = Yolox(data / "teachers/yolox_nano_416.onnx", min_score=0.01, threads=1)
    sequence = motchallenge.read_sequence(data / "mot/tud-campus")
    (spec,) = resolve([str(sequence.folder)])
    source = open_source(spec)
    try:
        found = [detector([picture.pixels])[0] for picture in source]
    finally:
        source.close()
    assert evaluate(truth_of(sequence), found).ap50 == pytest.approx(0.763, abs=0.02)


def test_onnxruntime_keeps_to_itself(tmp_path):
    """Unless told not to, it keeps a database of reports to its makers in the home directory."""
    path = onnx_file(tmp_path / "a.onnx", empty_rows())
    code = (
        "import os, sys; from pathlib import Path; from streamvis.models.yolox import Yolox; "
        f"Yolox(Path({str(path)!r})); "
        "ends = [os.path.realpath(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')]; "
        "sys.exit(any('onnxruntime' in end for end in ends))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
