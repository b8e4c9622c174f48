"""Detectors from ONNX files: files made byte by byte, and the real one of the data."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from onnx_files import (
    brightness_file,
    cell,
    cells,
    onnx_file,
    yolov8_columns,
    yolox_rows,
)

from streamvis.datasets import motchallenge
from streamvis.errors import DeviceError, ModelError, WeightsError
from streamvis.evaluation.detection import evaluate, truth_of
from streamvis.models.inference import onnx_networks
from streamvis.models.inference.hardware import cpu_has_bf16
from streamvis.models.inference.onnx_networks import EngineChoice
from streamvis.models.yolox import OnnxDetector
from streamvis.sources import open_source, resolve

SIZE = HEIGHT, WIDTH = 64, 96
CELLS = cells(SIZE)
BOX = (30, 0, 50, 40, 0.5)


def needs(engine):
    """Skip where the engine is absent; importing it here would start its telemetry."""
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"pip install {engine}")


@pytest.fixture(params=["openvino", "onnxruntime"])
def choice(request):
    needs(request.param)
    return EngineChoice("cpu", request.param, "fp32", 1)


def made(folder, rows, mix=None, **options):
    return onnx_file(folder / "a.onnx", rows, mix, **{"size": SIZE, **options})


def picture(height=HEIGHT, width=WIDTH, colour=(0, 0, 0)):
    return np.full((height, width, 3), colour, np.uint8)


@pytest.mark.parametrize("classes", [1, 80])
def test_a_box_lies_where_its_row_says(tmp_path, choice, classes):
    rows = np.zeros((CELLS, 5 + classes), np.float32)
    size = np.log([20 / 16, 40 / 16])
    rows[cell(SIZE, 16, 2, 1), :6] = [0.5, 0.25, *size, 0.8, 0.5]  # centre (40, 20), 20×40 pixels
    rows[cell(SIZE, 8, 0, 7), :6] = [0.5, 0.5, 0, 0, 0.9, 0.04]  # too weak
    (found,) = OnnxDetector(made(tmp_path, rows), choice=choice)([picture()])
    np.testing.assert_allclose(found.boxes, [[30, 0, 50, 40]], atol=1e-4)
    np.testing.assert_allclose(found.scores, [0.4], atol=1e-6)
    assert found.labels.tolist() == [1]
    assert found.masks.shape == (0, 0, 0)
    found.check()


@pytest.mark.parametrize("layout", ["yolox", "yolov8"])
def test_boxes_come_back_in_the_pixels_of_each_picture(tmp_path, choice, layout):
    boxes = [(16, 0, 48, 32, 0.9), (66, 10, 90, 60, 0.8)]
    rows = yolox_rows(SIZE, boxes) if layout == "yolox" else yolov8_columns(boxes)
    detector = OnnxDetector(made(tmp_path, rows), choice=choice, layout=layout)
    twice, wide, tall = detector([picture(128, 192), picture(32, 96), picture(128, 64)])
    np.testing.assert_allclose(twice.boxes, [[32, 0, 96, 64], [132, 20, 180, 120]], atol=1e-3)
    if layout == "yolox":  # the picture is at the upper left, and boxes are cut at its border
        np.testing.assert_allclose(wide.boxes, [[16, 0, 48, 32], [66, 10, 90, 32]], atol=1e-3)
        np.testing.assert_allclose(tall.boxes, [[32, 0, 64, 64]], atol=1e-3)
    else:  # in the middle: 16 px of grey above, or 32 px at the left
        np.testing.assert_allclose(wide.boxes, [[16, 0, 48, 16], [66, 0, 90, 32]], atol=1e-3)
        np.testing.assert_allclose(tall.boxes, [[0, 0, 32, 64]], atol=1e-3)


def test_only_the_classes_that_are_asked_for_are_people(tmp_path, choice):
    rows = yolox_rows(SIZE, [BOX])
    rows[cell(SIZE, 16, 5, 3), 4:] = [1, 0, 0.75, 0.9]
    path = made(tmp_path, rows)
    scores = [
        OnnxDetector(path, choice=choice, classes=classes)([picture()])[0].scores.tolist()
        for classes in ((0,), (1,), (0, 2))
    ]
    assert scores == [pytest.approx([0.5]), pytest.approx([0.75]), pytest.approx([0.9, 0.5])]
    with pytest.raises(WeightsError, match="`classes` has 3, but the network has 3 classes"):
        OnnxDetector(path, choice=choice, classes=(0, 3))


def test_the_weaker_of_two_boxes_of_one_person_goes(tmp_path, choice):
    rows = np.zeros((CELLS, 8), np.float32)
    rows[cell(SIZE, 16, 0, 0), :6] = [1, 1, 0, 0, 0.6, 1]
    rows[cell(SIZE, 16, 1, 1), :6] = [0, 0, 0, 0, 0.9, 1]  # the same box, surer
    rows[cell(SIZE, 16, 4, 1), :6] = [0, 0, 0, 0, 0.7, 1]
    (found,) = OnnxDetector(made(tmp_path, rows), choice=choice)([picture()])
    np.testing.assert_allclose(found.scores, [0.9, 0.7])


def test_yolox_sees_blue_green_red_from_0_to_255_and_grey_beside(tmp_path, choice):
    rows = np.zeros((CELLS, 6), np.float32)
    rows[3, 5] = 1
    mix = np.zeros((3, 6))
    mix[:, 4] = [1 / 255, 0, 0]  # its objectness is its first channel
    detector = OnnxDetector(made(tmp_path, rows, mix), choice=choice)
    blue, red, half = detector(
        [picture(colour=(0, 0, 255)), picture(colour=(255, 0, 0)), picture(64, 48)]
    )
    assert blue.scores == pytest.approx([1])
    assert len(red.scores) == 0
    assert half.scores == pytest.approx([114 / 255 / 2])  # the right half is filled


def test_yolov8_sees_red_green_blue_from_0_to_1(tmp_path, choice):
    columns = yolov8_columns([(30, 10, 50, 40, 0.0)])
    mix = np.zeros((3, columns.shape[1]))
    mix[:, 0] = [0.5, 0.25, 0]  # is added to all numbers of the first candidate
    detector = OnnxDetector(made(tmp_path, columns, mix), choice=choice)
    red, green, blue = detector([picture(colour=tuple(one)) for one in 255 * np.eye(3, dtype=int)])
    assert red.scores == pytest.approx([0.5])
    assert green.scores == pytest.approx([0.25])
    assert len(blue.scores) == 0


def test_pictures_together_are_the_pictures_one_by_one(tmp_path, choice):
    rows = yolox_rows(SIZE, [BOX])
    mix = np.zeros((3, 8))
    mix[:, 5] = 1 / 2000
    detector = OnnxDetector(made(tmp_path, rows, mix), choice=choice)
    shown = [picture(40 + n, 70 - n, (n, 2 * n, 3 * n)) for n in range(7)]
    together = detector(shown)
    assert len({float(one.scores[0]) for one in together}) == 7
    for one, found in zip(shown, together, strict=True):
        (alone,) = detector([one])
        np.testing.assert_array_equal(found.boxes, alone.boxes)
        np.testing.assert_array_equal(found.scores, alone.scores)
    assert detector([]) == []


def test_any_batch_any_size_and_half_precision_are_read(tmp_path, choice):
    rows = yolox_rows(SIZE, [BOX])
    for options in (
        {"batch": "N"},
        {"batch": "N", "size": ("height", "width")},
        {"dtype": np.float16},
    ):
        path = made(tmp_path, rows, **options)
        given = SIZE if "size" in options else None
        (found,) = OnnxDetector(path, choice=choice, input_size=given)([picture()])
        np.testing.assert_allclose(found.boxes, [BOX[:4]], atol=0.05)
        np.testing.assert_allclose(found.scores, [0.5], atol=1e-3)


@pytest.mark.parametrize("layout", ["yolox", "yolov8"])
def test_bf16_moves_boxes_by_less_than_a_pixel(tmp_path, layout):
    if not cpu_has_bf16():
        pytest.skip("the CPU has no bf16 arithmetic")
    needs("openvino")
    boxes = [(16.3, 0.4, 48.1, 32.9, 0.9), (66.2, 10.7, 90.9, 60.1, 0.8)]
    rows = yolox_rows(SIZE, boxes) if layout == "yolox" else yolov8_columns(boxes)
    path = made(tmp_path, rows)
    (found,) = OnnxDetector(path, choice=EngineChoice("cpu", "openvino", "bf16", 1))([picture()])
    np.testing.assert_allclose(found.boxes, [box[:4] for box in boxes], atol=0.8)
    np.testing.assert_allclose(found.scores, [0.9, 0.8], atol=0.01)


def test_a_network_gone_wrong_gives_boxes_inside_the_picture_or_none(tmp_path, choice):
    rows = np.zeros((CELLS, 8), np.float32)
    rows[0, :6] = [0, 0, 1e9, 1e9, 1, 1]
    rows[1, :6] = [0, 0, 0, 0, np.nan, 1]
    rows[2, :6] = [np.nan, 0, 0, 0, 1, 1]
    rows[3, :6] = [-1e6, 0, 0, 0, 1, 1]
    (found,) = OnnxDetector(made(tmp_path, rows), choice=choice)([picture()])
    np.testing.assert_allclose(found.boxes, [[0, 0, WIDTH, HEIGHT]])


LESS_GREY = {  # pictures (height, width) in a network of 128×128, and the sizes that it then has
    "yolox": (
        [(64, 96), (30, 96), (100, 300), (64, 40), (300, 100), (18, 200)],
        {(96, 128), (64, 128), (128, 96), (128, 64), (32, 128)},
    ),
    "yolov8": ([(128, 128), (30, 70), (100, 300), (300, 100)], {(128, 128), (64, 128), (128, 64)}),
}  # in the middle, cells lie as before if the margins differ by whole ones


@pytest.mark.parametrize("layout", LESS_GREY)
@pytest.mark.parametrize("sized", [False, True])
def test_grey_beside_a_picture_is_left_out_and_changes_nothing(tmp_path, layout, sized):
    """ONNX Runtime is the oracle: it runs the network at the size of the file."""
    needs("openvino")
    needs("onnxruntime")
    shapes, sizes = LESS_GREY[layout]
    path = brightness_file(tmp_path / "a.onnx", layout, size=(128, 128), sized=sized)
    rules = {"min_score": 0.46, "overlap": 1.0}  # grey has 114 / 255
    whole = OnnxDetector(path, choice=EngineChoice("cpu", "onnxruntime"), **rules)
    ours = OnnxDetector(path, choice=EngineChoice("cpu", "openvino", "fp32", 1), **rules)
    rng = np.random.default_rng(3)
    shown = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    for one in shown:
        one[:, one.shape[1] // 2 :] //= 4
    for found, expected in zip(ours(shown), whole(shown), strict=True):
        assert len(expected.boxes) > 3
        order, other = (np.lexsort((*one.boxes.T.round(2),)) for one in (found, expected))
        np.testing.assert_allclose(found.boxes[order], expected.boxes[other], atol=1e-3)
        np.testing.assert_allclose(found.scores[order], expected.scores[other], atol=1e-5)
    run = {plan.network.size for plan in ours._plans.plans.values()}
    assert run == ({(128, 128)} if sized else sizes)


def refusal(path, choice, **settings):
    with pytest.raises(WeightsError) as caught:
        OnnxDetector(path, choice=choice, **settings)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def test_what_is_no_onnx_file_is_refused_in_one_line(tmp_path, choice):
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("text.onnx", "empty.onnx"):
        assert "is not an ONNX file that can be read" in refusal(tmp_path / name, choice)
    assert "there is no file" in refusal(tmp_path / "absent.onnx", choice)
    assert "there is no file" in refusal(tmp_path, choice)


def test_another_layout_is_refused_with_what_was_found(tmp_path, choice):
    rows = np.zeros((CELLS, 8), np.float32)
    assert f"(1, {CELLS - 1}, 8)" in refusal(made(tmp_path, rows[1:]), choice)
    assert f"(1, {CELLS}, 5)" in refusal(made(tmp_path, rows[:, :5]), choice)
    assert "images f32 (1, 1, 64, 96)" in refusal(made(tmp_path, rows, channels=1), choice)
    assert "96×60 pixels; expected multiples" in refusal(
        made(tmp_path, rows, size=(60, 96)), choice
    )
    assert "images f32 (4, 3, 64, 96)" in refusal(made(tmp_path, rows, batch=4), choice)
    assert "has 2 outputs: output0 f32" in refusal(made(tmp_path, rows, outputs=2), choice)


def test_the_size_is_needed_where_the_file_leaves_it_free_and_refused_otherwise(tmp_path, choice):
    rows = np.zeros((CELLS, 8), np.float32)
    free = made(tmp_path, rows, size=("height", "width"))
    assert "of any height and width; set `input_size`" in refusal(free, choice)
    fixed = made(tmp_path, rows)
    wrong = refusal(fixed, choice, input_size=(128, 96))
    assert "`input_size` is [128, 96], but the input of the network is images" in wrong


def test_without_openvino_it_is_onnxruntime_and_without_both_the_remedy(tmp_path, monkeypatch):
    needs("onnxruntime")
    path = made(tmp_path, np.zeros((CELLS, 8), np.float32))
    monkeypatch.setitem(sys.modules, "streamvis.models.inference.openvino_core", None)
    assert OnnxDetector(path).network.engine == "onnxruntime"
    with pytest.raises(ModelError, match="engine openvino: it cannot be imported"):
        OnnxDetector(path, choice=EngineChoice(engine="openvino"))
    with pytest.raises(ModelError, match="precision bf16: onnxruntime on 'cpu' has no bf16"):
        OnnxDetector(path, choice=EngineChoice(precision="bf16"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install onnxruntime" in refusal(path, EngineChoice())


def test_a_gpu_that_the_engine_cannot_use_is_an_error(tmp_path, monkeypatch):
    needs("onnxruntime")
    path = made(tmp_path, np.zeros((CELLS, 8), np.float32))
    with pytest.raises(ModelError, match="engine openvino runs on the cpu, not on 'cuda:0'"):
        OnnxDetector(path, choice=EngineChoice("cuda:0", "openvino"))
    with pytest.raises(
        DeviceError, match="expected CUDAExecutionProvider; install onnxruntime-gpu"
    ):
        OnnxDetector(path, choice=EngineChoice("cuda:0"))
    monkeypatch.setattr(onnx_networks, "cpu_has_bf16", lambda: False)
    with pytest.raises(ModelError, match="precision bf16: openvino on 'cpu' has no bf16"):
        OnnxDetector(path, choice=EngineChoice("cpu", "openvino", "bf16"))


def test_the_real_file_scores_as_it_should(data, choice):
    """AP50 on TUD-Campus is .763 by the data's README, whose overlap for NMS is not known."""
    detector = OnnxDetector(data / "teachers/yolox_nano_416.onnx", min_score=0.01, choice=choice)
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
    path = made(tmp_path, np.zeros((CELLS, 8), np.float32))
    code = (
        "import os, sys; from pathlib import Path; from streamvis.models.yolox import *; "
        f"OnnxDetector(Path({str(path)!r}), choice=EngineChoice(engine='onnxruntime')); "
        "ends = [os.path.realpath(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')]; "
        "sys.exit(any('onnxruntime' in end for end in ends))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_neither_torch_nor_telemetry_is_loaded(tmp_path):
    needs("openvino")
    path = made(tmp_path, np.zeros((CELLS, 8), np.float32))
    code = (
        "import sys; from pathlib import Path; from streamvis.models.yolox import OnnxDetector; "
        f"OnnxDetector(Path({str(path)!r})); "
        "print([name for name in sys.modules if name.startswith('openvino_telemetry.')], "
        "'torch' in sys.modules, 'onnxruntime' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[] False False\n"
