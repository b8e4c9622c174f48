"""YOLOX detectors (Ge et al. 2021) from ONNX files, for comparison with Mask R-CNN.

    detector = Yolox(Path("yolox_nano_416.onnx"))
    (found,) = detector([image])

Any file of that output layout will do: people are class 0, whatever the other classes are.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from streamvis.errors import WeightsError
from streamvis.messages import Array, Detections
from streamvis.models import ops
from streamvis.models.onnx import open_session

STRIDES = (8, 16, 32)
GREY = 114  # what the letterbox is filled with
PERSON = 1  # COCO's category
MOST = 1000  # candidates that NMS looks at, best first
LARGEST_LOG_SIDE = 10.0  # in cells; a network gone wrong must not overflow


class Yolox:
    """A person detector on ONNX Runtime and the CPU; the file determines the input size."""

    def __init__(
        self,
        path: Path,
        *,
        min_score: float = 0.05,
        overlap: float = 0.65,  # IoU above which the weaker of two boxes goes
        threads: int | None = None,  # None: all cores
    ) -> None:
        self.path = path
        self.min_score = min_score
        self.overlap = overlap
        self._session = open_session(path, threads)
        self._input, self.height, self.width = _input_of(self._session, path)
        self._grid = grid(self.height, self.width)
        self._rows(np.full((self.height, self.width, 3), GREY, np.uint8))  # its layout, seen once

    def __call__(self, images: Sequence[Array]) -> list[Detections]:
        """People in images (H, W, 3) uint8 RGB, best first, in each image's own pixels."""
        return [self._find(image) for image in images]

    def _find(self, image: Array) -> Detections:
        boxed, ratio = letterbox(image, self.height, self.width)
        boxes, scores = decode(torch.from_numpy(self._rows(boxed)), self._grid)
        good = scores >= self.min_score  # NaN is not
        boxes, scores = boxes[good], scores[good]
        best = scores.argsort(descending=True, stable=True)[:MOST]
        boxes, scores = boxes[best], scores[best]
        boxes = ops.clip(boxes / ratio, *image.shape[:2])
        keep = ops.nms(boxes, scores, self.overlap)
        return Detections(
            boxes=boxes[keep].numpy(),
            scores=scores[keep].clamp(0, 1).numpy(),
            labels=np.full(len(keep), PERSON, np.int32),
            masks=np.zeros((0, 0, 0), np.uint8),
        )

    def _rows(self, boxed: Array) -> Array:
        """Run the network on a letterboxed image: (N, 5 + C)."""
        bgr = boxed[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32)  # (1, 3, H, W)
        (out, *_) = self._session.run(None, {self._input: np.ascontiguousarray(bgr)})
        shape = np.shape(out)
        cells = len(self._grid)
        if len(shape) != 3 or shape[:2] != (1, cells) or shape[2] < 6:
            raise WeightsError(
                f"{self.path} is not in YOLOX's layout: its output is {shape}; expected "
                f"(1, {cells}, 5 + classes) for an input of {self.width}×{self.height} on strides "
                f"{', '.join(map(str, STRIDES))}"
            )
        return np.asarray(out[0], np.float32)


def letterbox(image: Array, height: int, width: int) -> tuple[Array, float]:
    """The image scaled into the top left of (height, width, 3), and by how much."""
    h, w = image.shape[:2]
    ratio = min(height / h, width / w)
    size = max(1, int(w * ratio)), max(1, int(h * ratio))
    boxed = np.full((height, width, 3), GREY, np.uint8)
    boxed[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return boxed, ratio


def grid(height: int, width: int) -> Tensor:
    """Column, row and stride (N, 3) of each cell: fine strides first, row by row."""
    cells = []
    for stride in STRIDES:
        y, x = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([x, y, np.full_like(x, stride)], axis=-1).reshape(-1, 3))
    return torch.from_numpy(np.concatenate(cells).astype(np.float32))


def decode(rows: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (N, 4) in pixels of the input and scores (N,) of people, from rows (N, 5 + C).

    A row holds the centre's offset from its cell and the logarithm of the size, both in cells,
    the probability that there is an object, and of each class if there is.
    """
    stride = cells[:, 2:]
    centre = (rows[:, :2] + cells[:, :2]) * stride
    half = torch.exp(rows[:, 2:4].clamp(max=LARGEST_LOG_SIDE)) * stride / 2
    return torch.cat([centre - half, centre + half], 1), rows[:, 4] * rows[:, 5]


def _input_of(session: Any, path: Path) -> tuple[str, int, int]:
    """Name, height and width of the only input."""
    inputs = [(one.name, one.shape, one.type) for one in session.get_inputs()]
    if len(inputs) == 1:
        ((name, shape, kind),) = inputs
        sizes = shape[2:] if len(shape) == 4 and shape[1] == 3 else []
        sound = all(isinstance(n, int) and n > 0 and n % STRIDES[-1] == 0 for n in sizes)
        alone = sizes and (shape[0] == 1 or not isinstance(shape[0], int))  # or any batch
        if alone and sound and kind == "tensor(float)":
            return name, sizes[0], sizes[1]
    found = "; ".join(f"{name} {kind} {shape}" for name, shape, kind in inputs) or "none"
    raise WeightsError(
        f"{path} is not in YOLOX's layout: its input is {found}; expected one tensor(float) "
        f"[1, 3, H, W] with fixed sides, multiples of {STRIDES[-1]}"
    )
