"""Both ends of a detector's graph, changed for OpenVINO: cheaper, with the same results.

    model = with_pixels(model, (416, 416), scale=1.0)  # (1, H, W, 3) uint8, channels as trained
    swapped = without_last_transpose(model)

YOLOX begins by sorting the pixels of each 2×2 square into channels. Its slices take as long as a
tenth of the smallest network; one permutation of bytes does the same. Exported files end by making
rows of columns, which costs more than reading the columns.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from streamvis.models.inference import openvino_core  # noqa: F401 - keeps telemetry out

import openvino.opset13 as ops  # isort: skip
from openvino import Model, PartialShape, Tensor, Type  # isort: skip

Size = tuple[int, int]  # height and width, px
SLICES = ("Slice", "StridedSlice")


def with_pixels(model: Model, size: Size, scale: float) -> Model:
    """Return the model for pixels (1, H, W, 3) uint8 times `scale`, and with an output in f32.

    The only input of `model` is (1, 3, H, W).
    """
    (planes,) = model.get_parameters()
    kind = planes.get_element_type()
    pixels = ops.parameter([1, *size, 3], Type.u8, name=planes.get_friendly_name())
    squares = sorted_squares(planes, size)
    if squares is None:
        changed = ops.transpose(pixels, np.array([0, 3, 1, 2]))
    else:
        height, width = size[0] // 2, size[1] // 2
        parts = ops.reshape(pixels, np.array([height, 2, width, 2, 3]), special_zero=False)
        parts = ops.transpose(parts, np.array([3, 1, 4, 0, 2]))
        changed = ops.reshape(parts, np.array([1, 12, height, width]), special_zero=False)
    changed = ops.convert(changed, kind.get_type_name())
    if scale != 1:
        changed = ops.multiply(changed, ops.constant(scale, kind))
    for reader in (squares or planes.output(0)).get_target_inputs():
        reader.replace_source_output(changed.output(0))
    (found,) = (result.input(0).get_source_output() for result in model.get_results())
    if found.get_element_type() != Type.f32:
        found = ops.convert(found, "f32").output(0)
    return Model([found], [pixels])


def sorted_squares(planes: Any, size: Size) -> Any:
    """Return the output that has pixel (2y + i, 2x + j) of channel c at (6j + 3i + c, y, x).

    None if the network does not begin so, or reads its input `planes` (1, 3, H, W) elsewhere.
    """
    readers = {one.get_friendly_name(): one for one in _readers(planes)}
    if [one.get_type_name() for one in readers.values()] != ["Concat"]:
        return None
    (joined,) = (one.output(0) for one in readers.values())
    kind = planes.get_element_type().to_dtype()
    given = np.random.default_rng(0).random((1, 3, *size)).astype(kind)
    height, width = size[0] // 2, size[1] // 2
    expected = given.reshape(3, height, 2, width, 2).transpose(4, 2, 0, 1, 3)
    expected = expected.reshape(1, 12, height, width)
    if joined.get_partial_shape() != PartialShape(list(expected.shape)):
        return None
    found = Tensor(np.zeros_like(expected))
    Model([joined], [planes]).evaluate([found], [Tensor(given)])
    return joined if np.array_equal(found.data, expected) else None


def _readers(node: Any) -> Iterator[Any]:
    """Yield the nodes that read this one, through slices."""
    for target in node.output(0).get_target_inputs():
        reader = target.get_node()
        if reader.get_type_name() in SLICES:
            yield from _readers(reader)
        else:
            yield reader


def without_last_transpose(model: Model) -> bool:
    """Have the only output (1, A, B) as (1, B, A) where it is transposed last; whether it was."""
    (result,) = model.get_results()
    last = result.input(0).get_source_output().get_node()
    if last.get_type_name() != "Transpose" or _order(last) != [0, 2, 1]:
        return False
    result.input(0).replace_source_output(last.input(0).get_source_output())
    model.validate_nodes_and_infer_types()
    return True


def _order(transpose: Any) -> list[int] | None:
    order = transpose.input(1).get_source_output().get_node()
    return order.get_data().tolist() if order.get_type_name() == "Constant" else None
