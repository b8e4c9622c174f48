"""The changed ends of a graph against the graph as it was, and against NumPy."""

import itertools

import numpy as np
import pytest

pytest.importorskip("streamvis.models.inference.openvino_core", reason="pip install openvino")

import openvino.opset13 as ops
from openvino import Model, Type

from streamvis.models.inference.openvino_core import core_of
from streamvis.models.inference.openvino_graph import (
    sorted_squares,
    with_pixels,
    without_last_transpose,
)

SIZE = HEIGHT, WIDTH = 4, 6
YOLOX = ((0, 0), (1, 0), (0, 1), (1, 1))  # row and column of each pixel of a square, in its order
ORDERS = list(itertools.permutations(YOLOX))


def sliced(given, axis, first):
    numbers = [np.array([n]) for n in (first, 2**31 - 1, 2, axis)]
    return ops.slice(given, *numbers)


def network(order, kind=Type.f32, *, read_twice=False):
    """Sorts squares in this order; its output is (1, pixels of a channel, channels)."""
    planes = ops.parameter([1, 3, *SIZE], kind, name="images")
    squares = [sliced(sliced(planes, 2, row), 3, column) for row, column in order]
    joined = ops.concat(squares, axis=1)
    columns = ops.reshape(joined, np.array([1, 3 * len(order), -1]), special_zero=False)
    if read_twice:
        mean = ops.reduce_mean(planes, np.array([0, 1, 2, 3]), keep_dims=False)
        columns = ops.add(columns, mean)
    rows = ops.transpose(columns, np.array([0, 2, 1]))
    return Model([rows], [planes])


def answer(model, given):
    return core_of("f32", 1).compile_model(model, "CPU")(given)[0].copy()


def pixels(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (1, *SIZE, 3), np.uint8)


@pytest.mark.parametrize("order", [*ORDERS[:6], YOLOX[:2]])
@pytest.mark.parametrize("scale", [1.0, 1 / 255])
def test_a_changed_graph_answers_as_the_graph_before(order, scale):
    shown = pixels()
    planes = shown.transpose(0, 3, 1, 2).astype(np.float32) * np.float32(scale)
    expected = answer(network(order), planes)
    by_hand = np.concatenate([planes[:, :, r::2, c::2] for r, c in order], axis=1)
    np.testing.assert_array_equal(expected, by_hand.reshape(1, 3 * len(order), -1).mT)
    changed = with_pixels(network(order), SIZE, scale)
    np.testing.assert_allclose(answer(changed, shown), expected, rtol=1e-6)
    assert without_last_transpose(changed)
    np.testing.assert_allclose(answer(changed, shown).mT, expected, rtol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_squares_are_found_in_the_order_of_yolox_alone(order):
    model = network(order)
    (planes,) = model.get_parameters()
    assert (sorted_squares(planes, SIZE) is not None) == (order == YOLOX)


def test_an_input_that_is_read_elsewhere_too_stays_whole():
    shown = pixels()
    planes = shown.transpose(0, 3, 1, 2).astype(np.float32)
    expected = answer(network(YOLOX, read_twice=True), planes)
    found = answer(with_pixels(network(YOLOX, read_twice=True), SIZE, 1.0), shown)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_half_precision_comes_out_as_float32():
    shown = pixels()
    found = answer(with_pixels(network(YOLOX, Type.f16), SIZE, 1.0), shown)
    assert found.dtype == np.float32
    planes = shown.transpose(0, 3, 1, 2).astype(np.float32)
    np.testing.assert_array_equal(found, answer(network(YOLOX), planes))


def test_only_a_transpose_at_the_end_is_left_out():
    planes = ops.parameter([1, 3, *SIZE], Type.f32)
    columns = ops.reshape(planes, np.array([1, 3, -1]), special_zero=False)
    turned = ops.transpose(columns, np.array([0, 2, 1]))
    assert not without_last_transpose(Model([ops.relu(turned)], [planes]))
    moved = ops.transpose(columns, np.array([1, 0, 2]))
    assert not without_last_transpose(Model([moved], [planes]))
