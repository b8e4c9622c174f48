"""Output layouts of one-stage detectors in ONNX files: what their numbers mean.

    layout = find_layout((1, 3549, 85), (416, 416), "auto", "yolox_nano.onnx")
    decoder = Decoder(layout, (416, 416), classes=(0,), min_score=0.1)
    boxes, scores = decoder(output)  # in pixels of the network's input, in no order

`yolox` (Ge et al. 2021): (1, A, 5 + C), a row for each cell of the grids of strides 8, 16 and 32,
fine first, row by row: the centre's offset from the cell and the logarithm of the size, both in
cells, the probability of an object, and of each class if there is one. The input is BGR, 0 to 255,
with the picture at the upper left.

`yolov8` (also YOLO11 and others of Ultralytics' export): (1, 4 + C, N), a column for each
candidate: centre, width and height in pixels of the input, and the probability of each class. The
input is RGB, 0 to 1, with the picture in the middle.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from streamvis.errors import WeightsError
from streamvis.geometry import iou
from streamvis.messages import Array

LayoutName = Literal["auto", "yolox", "yolov8"]
STRIDES = (8, 16, 32)
LARGEST_LOG_SIDE = 10.0  # in cells; a network gone wrong must not overflow
FAR = 4.0  # cells; a raw offset from its own cell is smaller, save for a few


class Layout(NamedTuple):
    """What a network takes and returns."""

    name: str
    classes: int
    bgr: bool  # order of the input's channels
    scale: float  # of the input's values, from 0 to 255
    centred: bool  # place of the picture in the input


def find_layout(
    shape: Sequence[int], size: tuple[int, int], name: LayoutName, path: object
) -> Layout:
    """Return the layout of an output of this shape for an input (height, width).

    Raises WeightsError, which says what was found and expected, when no layout fits, or another
    than the one that is named.
    """
    cells = cell_count(*size)
    fitting = {}
    if len(shape) == 3 and shape[0] == 1 and shape[1] == cells and shape[2] > 5:
        fitting["yolox"] = Layout("yolox", shape[2] - 5, bgr=True, scale=1.0, centred=False)
    if len(shape) == 3 and shape[0] == 1 and 4 < shape[1] < shape[2]:
        fitting["yolov8"] = Layout("yolov8", shape[1] - 4, bgr=False, scale=1 / 255, centred=True)
    if name == "auto" and fitting:
        return next(iter(fitting.values()))
    if name in fitting:
        return fitting[name]
    expected = {
        "yolox": f"(1, {cells}, 5 + classes), {cells} being the cells of an input of "
        f"{size[1]}×{size[0]} on strides {', '.join(map(str, STRIDES))}",
        "yolov8": "(1, 4 + classes, N) with N > 4 + classes",
    }
    wanted = expected if name == "auto" else {name: expected[name]}
    advice = (
        f"it fits `layout: {next(iter(fitting))}`"
        if fitting
        else "export the network without non-maximum suppression: docs/own-detector.md"
    )
    raise WeightsError(
        f"{path}: the output of the network is {_shown(shape)}; expected "
        f"{' or '.join(f'{text} [{one}]' for one, text in wanted.items())}; {advice}"
    )


class Decoder:
    """Turns the output of a network into boxes and scores of people."""

    def __init__(
        self,
        layout: Layout,
        size: tuple[int, int],  # height and width of the input
        classes: Sequence[int],  # which of the network's classes are people
        min_score: float,
    ) -> None:
        self.layout = layout
        self.min_score = min_score
        self.grid = grid(*size)
        first = 5 if layout.name == "yolox" else 4
        self._classes = [first + one for one in classes]

    def __call__(self, output: Array) -> tuple[Array, Array]:
        """Return boxes (K, 4) xyxy and scores (K,), from an output (1, …), of at least `min_score`.

        Only candidates with that score are decoded.
        """
        if self.layout.name == "yolox":
            return self._from_rows(output[0])
        return self._from_columns(output[0])

    def _from_rows(self, rows: Array) -> tuple[Array, Array]:
        # rows (A, 5 + C); a class does not raise the score, so weak objects are left out first
        likely = np.flatnonzero(rows[:, 4] >= self.min_score)  # NaN is not
        chosen = rows[likely]
        scores = chosen[:, 4] * _best(chosen[:, one] for one in self._classes)
        good = scores >= self.min_score
        chosen, cells = chosen[good], self.grid[likely[good]]
        stride = cells[:, 2:]
        centre = (chosen[:, :2] + cells[:, :2]) * stride
        size = np.exp(np.minimum(chosen[:, 2:4], LARGEST_LOG_SIDE)) * stride
        return _checked(centre, size, scores[good])

    def _from_columns(self, columns: Array) -> tuple[Array, Array]:
        # columns (4 + C, N)
        scores = _best(columns[one] for one in self._classes)
        good = np.flatnonzero(scores >= self.min_score)
        chosen = columns[:4, good].T
        return _checked(chosen[:, :2], chosen[:, 2:], scores[good])


def check_output(output: Array, decoder: Decoder, path: object) -> None:
    """Raise WeightsError for an output, of a grey picture, that is not in its layout.

    Shapes do not tell whether boxes are decoded, and scores are probabilities.
    """
    layout = decoder.layout
    values = output[0].T if layout.name == "yolox" else output[0]  # (…, N)
    scores = values[4:]
    low, high = (float(f.reduce(scores, axis=None)) for f in (np.fmin, np.fmax))  # beside NaN
    if low < -0.01 or high > 1.01:
        raise WeightsError(
            f"{path}: the scores of the network are between {low:.3g} and {high:.3g}; expected "
            "probabilities, from 0 to 1: export it with the sigmoid of its scores"
        )
    far = float(np.median(np.abs(values[:2])))
    if layout.name == "yolox" and far > FAR:
        raise WeightsError(
            f"{path}: the boxes of the network are decoded already, for the median of its offsets "
            f"is {far:.3g} cells; expected less than {FAR:g}: export it without "
            "--decode_in_inference"
        )


def suppress(boxes: Array, scores: Array, overlap: float, most: int) -> Array:
    """Return the indices of boxes (K, 4) that no better one overlaps by more, best first.

    The best `most` of them are candidates.
    """
    order = np.argsort(-scores, kind="stable")[:most]
    over = iou(boxes[order], boxes[order]) > overlap
    alive = np.ones(len(order), bool)
    for i, row in enumerate(over):
        if alive[i]:
            alive[i + 1 :] &= ~row[i + 1 :]
    return order[alive]


def cell_count(height: int, width: int) -> int:
    """Return the number of cells of all grids of an input."""
    return sum((height // stride) * (width // stride) for stride in STRIDES)


def grid(height: int, width: int) -> Array:
    """Return column, row and stride (A, 3) float32 of each cell: fine strides first, row by row."""
    cells = []
    for stride in STRIDES:
        y, x = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([x, y, np.full_like(x, stride)], axis=-1).reshape(-1, 3))
    return np.concatenate(cells).astype(np.float32)


def _best(scores: Iterable[Array]) -> Array:
    """Return the largest score (K,) of several classes; of one class, a view."""
    first, *others = scores
    for other in others:
        first = np.maximum(first, other)
    return first


def _checked(centre: Array, size: Array, scores: Array) -> tuple[Array, Array]:
    """Return boxes and scores in [0, 1], without boxes of NaN or infinite size."""
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    sound = np.isfinite(boxes).all(axis=1)
    return boxes[sound], np.minimum(scores[sound], np.float32(1))


def _shown(shape: Sequence[int]) -> str:
    return f"({', '.join('any' if n < 0 else str(n) for n in shape)})"
