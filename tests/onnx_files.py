"""ONNX files of detectors, made byte by byte, whose output is known."""

import numpy as np

ELEMENTS = {np.dtype(np.float32): 1, np.dtype(np.float16): 10}  # of TensorProto
STRIDES = (8, 16, 32)


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def field(number, value):
    """One field of a protobuf message: a number, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name, values):
    dims = b"".join(field(1, n) for n in values.shape)
    kind = ELEMENTS[values.dtype]
    return field(5, dims + field(2, kind) + field(8, name) + field(9, values.tobytes()))


def value(number, name, shape, kind):
    """An input (11) or output (12) of the graph; sizes that are names are free."""
    sizes = [field(1, n) if isinstance(n, int) else field(2, n) for n in shape]
    dims = b"".join(field(1, one) for one in sizes)
    return field(number, field(1, name) + field(2, field(1, field(1, kind) + field(2, dims))))


def node(kind, inputs, output, attributes=b""):
    ends = b"".join(field(1, name) for name in inputs) + field(2, output)
    return field(1, ends + field(4, kind) + attributes)


def onnx_file(path, rows, mix=None, *, size, channels=3, batch=1, outputs=1, dtype=np.float32):
    """Write a network that answers `rows` (R, K), plus the means of its channels times `mix`.

    Names in `size` (height, width) or `batch` make that axis free; `mix` is (channels, K).
    """
    mix = np.zeros((channels, rows.shape[1])) if mix is None else mix
    axes = field(5, field(1, "axes") + field(8, 0) + field(8, 2) + field(8, 3) + field(20, 7))
    keep = field(5, field(1, "keepdims") + field(3, 0) + field(20, 2))
    kind = ELEMENTS[np.dtype(dtype)]
    names = [f"output{n}" for n in range(outputs)]
    graph = (
        node("ReduceMean", ["images"], "means", axes + keep)  # (3,)
        + node("MatMul", ["means", "mix"], "shift")  # (K,)
        + b"".join(node("Add", ["rows", "shift"], name) for name in names)
        + field(2, "g")
        + tensor("rows", rows[None].astype(dtype))
        + tensor("mix", mix.astype(dtype))
        + value(11, "images", (batch, channels, *size), kind)
        + b"".join(value(12, name, (batch, *rows.shape), kind) for name in names)
    )
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13)))
    return path


def cell(size, stride, column, row):
    """The row of YOLOX's output that speaks for a cell of an input (height, width)."""
    height, width = size
    before = sum(height // s * (width // s) for s in STRIDES if s < stride)
    return before + row * (width // stride) + column


def cells(size):
    """How many rows YOLOX's output has for an input (height, width)."""
    return sum(size[0] // s * (size[1] // s) for s in STRIDES)


def yolox_rows(size, boxes, classes=3):
    """Rows that say these boxes (x1, y1, x2, y2, score) in the cells of stride 16 of their centre.

    The score is that of class 0, of an object that is sure.
    """
    rows = np.zeros((cells(size), 5 + classes), np.float32)
    for x1, y1, x2, y2, score in boxes:
        x, y = (x1 + x2) / 2 / 16, (y1 + y2) / 2 / 16
        row = rows[cell(size, 16, int(x), int(y))]
        row[:4] = x % 1, y % 1, *np.log([(x2 - x1) / 16, (y2 - y1) / 16])
        row[4:6] = 1, score
    return rows


def yolov8_columns(boxes, classes=3, candidates=40):
    """Columns that say these boxes (x1, y1, x2, y2, score), of class 0."""
    columns = np.zeros((4 + classes, candidates), np.float32)
    for column, (x1, y1, x2, y2, score) in zip(columns.T, boxes, strict=False):
        column[:5] = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, score
    return columns
