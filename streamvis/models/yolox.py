"""One-stage detectors from ONNX files: YOLOX (Ge et al. 2021), YOLOv8, YOLO11 and the like.

    detector = OnnxDetector(Path("yolox_nano_416.onnx"))
    (found,) = detector([image])

Any file of the layouts of `yolo_layouts` will do. People are class 0, as in COCO, unless told
otherwise.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamvis.errors import WeightsError
from streamvis.messages import Array, Detections
from streamvis.models.inference.onnx_networks import (
    SLOTS,
    STRIDE,
    EngineChoice,
    OnnxNetwork,
    Size,
    open_network,
)
from streamvis.models.inference.plan_cache import PlanCache
from streamvis.models.letterbox import Canvas, Fit, smallest_canvas
from streamvis.models.yolo_layouts import (
    Decoder,
    LayoutName,
    cell_count,
    check_output,
    find_layout,
    suppress,
)

PERSON = 1  # COCO's category
MOST = 1000  # candidates that non-maximum suppression looks at, best first
ON_CPU = EngineChoice()
MOST_SIZES = 16  # of inputs; cameras have few shapes of pictures, photographs many
EMPTY = 1e-3  # px; of what lies outside the picture, nothing is left


class Prepared(NamedTuple):
    """A network that is ready for one size of its input."""

    network: OnnxNetwork
    decoder: Decoder
    canvases: list[Canvas]  # one for each of its requests


class OnnxDetector:
    """A person detector; the file determines the input size, unless it leaves that free.

    The input is that large in one direction; in the other one it ends with the picture, rounded up
    to whole cells, if the engine can run the network so. Scores and boxes change very little.
    """

    def __init__(
        self,
        path: Path,
        *,
        layout: LayoutName = "auto",
        classes: Sequence[int] = (0,),  # which of the network's classes are people
        min_score: float = 0.05,
        overlap: float = 0.65,  # IoU above which the weaker of two boxes goes
        input_size: Size | None = None,  # height and width, where the file leaves them free
        choice: EngineChoice = ON_CPU,
    ) -> None:
        self.path = path
        self.classes = classes
        self.min_score = min_score
        self.overlap = overlap
        self.network: OnnxNetwork = open_network(path, input_size, choice)
        self.layout = find_layout(self.network.output_shape(), self.network.size, layout, path)
        beyond = [one for one in classes if one >= self.layout.classes]
        if beyond:
            raise WeightsError(
                f"{path}: `classes` has {beyond[0]}, but the network has {self.layout.classes} "
                f"classes; expected numbers from 0 to {self.layout.classes - 1}"
            )
        self._whole = self._prepared(self.network)
        self._plans: PlanCache[Size, Prepared] = PlanCache(MOST_SIZES)
        self.network.start(0, self._whole.canvases[0].pixels)  # grey
        check_output(self.network.result(0), self._whole.decoder, path)

    def _prepared(self, network: OnnxNetwork) -> Prepared:
        layout, size, largest = self.layout, network.size, self.network.size
        network.prepare(scale=layout.scale)
        decoder = Decoder(layout, size, self.classes, self.min_score)
        canvases = [
            Canvas(size, centred=layout.centred, bgr=layout.bgr, largest=largest)
            for _ in range(SLOTS)
        ]
        return Prepared(network, decoder, canvases)

    def _for_pictures(self, size: Size) -> Prepared:
        """Return the network for pictures (height, width), without the grey beside them."""
        canvas = smallest_canvas(size, self.network.size, STRIDE, exact=self.layout.centred)
        return self._plans.get(canvas, lambda: self._resized(canvas))

    def _resized(self, size: Size) -> Prepared:
        """Prepare the network for this size of its input; the whole one if it has no other."""
        whole = self.network
        network = None if size == whole.size else whole.resized(size)
        if network is None:
            return self._whole
        numbers = math.prod(whole.output_shape()) * cell_count(*size)
        if math.prod(network.output_shape()) * cell_count(*whole.size) != numbers:
            return self._whole  # its output is, in part, of the other size
        return self._prepared(network)

    def __str__(self) -> str:
        layout, (height, width) = self.layout, self.network.size
        shown = f"layout {layout.name}, input {width}×{height}, classes: {layout.classes}"
        return f"{self.path}: {shown}, engine {self.network.engine}"

    def __call__(self, images: Sequence[Array]) -> list[Detections]:
        """Return people in images (H, W, 3) uint8 RGB, best first, in each image's own pixels."""
        return list(self._each(images))

    def _each(self, images: Sequence[Array]) -> Iterator[Detections]:
        """Prepare a picture while the network runs on the one before."""
        running: deque[tuple[Prepared, int, Fit]] = deque()
        for number, image in enumerate(images):
            if len(running) == SLOTS:
                yield self._found(*running.popleft())
            plan, slot = self._for_pictures((image.shape[0], image.shape[1])), number % SLOTS
            fit = plan.canvases[slot].put(image)
            plan.network.start(slot, plan.canvases[slot].pixels)
            running.append((plan, slot, fit))
        for one in running:
            yield self._found(*one)

    def _found(self, plan: Prepared, slot: int, fit: Fit) -> Detections:
        boxes, scores = plan.decoder(plan.network.result(slot))
        boxes = fit.to_picture(boxes)
        seen = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] > EMPTY).all(axis=1))
        best = seen[suppress(boxes[seen], scores[seen], self.overlap, MOST)]
        return Detections(
            boxes=np.ascontiguousarray(boxes[best], np.float32),
            scores=np.ascontiguousarray(scores[best], np.float32),
            labels=np.full(len(best), PERSON, np.int32),
            masks=np.zeros((0, 0, 0), np.uint8),
        )
