"""ONNX files of detectors, made byte by byte, whose output is known."""

import numpy as np

ELEMENTS = {np.dtype(np.float32): 1, np.dtype(np.int64): 7, np.dtype(np.float16): 10}  # TensorProto
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


def integers(name, *values):
    """An attribute: a list of integers."""
    return field(5, field(1, name) + b"".join(field(8, n) for n in values) + field(20, 7))


def integer(name, value):
    return field(5, field(1, name) + field(3, value) + field(20, 2))


def graph_file(path, graph):
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13)))
    return path


def onnx_file(path, rows, mix=None, *, size, channels=3, batch=1, outputs=1, dtype=np.float32):
    """Write a network that answers `rows` (R, K), plus the means of its channels times `mix`.

    Names in `size` (height, width) or `batch` make that axis free; `mix` is (channels, K).
    """
    mix = np.zeros((channels, rows.shape[1])) if mix is None else mix
    axes, keep = integers("axes", 0, 2, 3), integer("keepdims", 0)
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
    return graph_file(path, graph)


def brightness_file(path, layout, *, size, sized=False):
    """Write a network that has a box of two cells' size on each cell, whose score is its red / 255.

    It runs at any size, though the file says one; if `sized`, sizes within are constants.
    """
    parts, graph = [], field(2, "g")
    numbers = 6 if layout == "yolox" else 5
    for s in STRIDES:
        pooled = integers("kernel_shape", s, s) + integers("strides", s, s)
        graph += node("AveragePool", ["images"], f"mean{s}", pooled)
        weights, bias = np.zeros((numbers, 3, 1, 1), np.float32), np.zeros(numbers, np.float32)
        if layout == "yolox":  # blue comes first; the size is in cells, as a logarithm
            weights[4, 2], bias[:] = 1 / 255, [0.5, 0.5, np.log(2), np.log(2), 0, 1]
        else:  # in pixels; columns and rows are counted below
            weights[4, 0], bias[:] = 1, [1, 1, 2 * s, 2 * s, 0]
        graph += tensor(f"weights{s}", weights) + tensor(f"bias{s}", bias)
        graph += node("Conv", [f"mean{s}", f"weights{s}", f"bias{s}"], f"values{s}")
        shape = [1, numbers, cells(size, [s]) if sized else -1]
        graph += tensor(f"shape{s}", np.array(shape, np.int64))
        last = f"values{s}"
        if layout == "yolov8":
            graph += tensor(f"parts{s}", np.array([1, 1, 3], np.int64))
            split = (
                field(1, f"values{s}")
                + field(1, f"parts{s}")
                + b"".join(field(2, f"{name}{s}") for name in ("ones", "rows_of", "rest"))
            )
            graph += field(1, split + field(4, "Split") + integer("axis", 1))
            for name, ones, axis in (("x", "ones", 3), ("y", "rows_of", 2)):
                graph += tensor(f"axis_{name}{s}", np.array(axis, np.int64))
                graph += node("CumSum", [f"{ones}{s}", f"axis_{name}{s}"], f"{name}_count{s}")
                graph += tensor(f"half_{name}{s}", np.float32(-0.5) * np.ones(1, np.float32))
                graph += tensor(f"step_{name}{s}", s * np.ones(1, np.float32))
                graph += node("Add", [f"{name}_count{s}", f"half_{name}{s}"], f"{name}_cells{s}")
                graph += node("Mul", [f"{name}_cells{s}", f"step_{name}{s}"], f"{name}{s}")
            last = f"all{s}"
            graph += node("Concat", [f"x{s}", f"y{s}", f"rest{s}"], last, integer("axis", 1))
        graph += node("Reshape", [last, f"shape{s}"], f"columns{s}")
        parts.append(f"columns{s}")
    graph += node("Concat", parts, "columns", integer("axis", 2))
    if layout == "yolox":
        graph += node("Transpose", ["columns"], "output", integers("perm", 0, 2, 1))
        shown = (1, cells(size), numbers)
    else:
        graph += node("Identity", ["columns"], "output")
        shown = (1, numbers, cells(size))
    graph += value(11, "images", (1, 3, *size), 1) + value(12, "output", shown, 1)
    return graph_file(path, graph)


def cell(size, stride, column, row):
    """The row of YOLOX's output that speaks for a cell of an input (height, width)."""
    height, width = size
    before = sum(height // s * (width // s) for s in STRIDES if s < stride)
    return before + row * (width // stride) + column


def cells(size, strides=STRIDES):
    """How many rows YOLOX's output has for an input (height, width)."""
    return sum(size[0] // s * (size[1] // s) for s in strides)


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
