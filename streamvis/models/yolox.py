"""One-stage detectors from ONNX files: YOLOX (Ge et al. 2021), YOLOv8, YOLO11 and the like.

    detector = OnnxDetector(Path("yolox_nano_416.onnx"))
    (found,) = detector([image])

Any file of the layouts of `yolo_layouts` will do. People are class 0, as in COCO, unless told
otherwise.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from streamvis.errors import WeightsError
from streamvis.messages import Array, Detections
from streamvis.models.inference.onnx_networks import (
    SLOTS,
    EngineChoice,
    OnnxNetwork,
    Size,
    open_network,
)
from streamvis.models.letterbox import Canvas, Fit
from streamvis.models.yolo_layouts import Decoder, LayoutName, check_output, find_layout, suppress

PERSON = 1  # COCO's category
MOST = 1000  # candidates that non-maximum suppression looks at, best first
ON_CPU = EngineChoice()
EMPTY = 1e-3  # px; of what lies outside the picture, nothing is left


class OnnxDetector:
    """A person detector; the file determines the input size, unless it leaves that free."""

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
        self.overlap = overlap
        self.network: OnnxNetwork = open_network(path, input_size, choice)
        self.decoder = self._decoder(layout, classes, min_score)
        found = self.decoder.layout
        height, width = self.network.size
        self._canvases = [
            Canvas(height, width, centred=found.centred, bgr=found.bgr) for _ in range(SLOTS)
        ]
        self.network.start(0, self._canvases[0].pixels)  # grey
        check_output(self.network.result(0), self.decoder, path)

    def _decoder(self, name: LayoutName, classes: Sequence[int], min_score: float) -> Decoder:
        network = self.network
        layout = find_layout(network.output_shape(), network.size, name, self.path)
        beyond = [one for one in classes if one >= layout.classes]
        if beyond:
            raise WeightsError(
                f"{self.path}: `classes` has {beyond[0]}, but the network has {layout.classes} "
                f"classes; expected numbers from 0 to {layout.classes - 1}"
            )
        network.prepare(scale=layout.scale)
        return Decoder(layout, network.size, classes, min_score)

    def __str__(self) -> str:
        layout, (height, width) = self.decoder.layout, self.network.size
        shown = f"layout {layout.name}, input {width}×{height}, classes: {layout.classes}"
        return f"{self.path}: {shown}, engine {self.network.engine}"

    def __call__(self, images: Sequence[Array]) -> list[Detections]:
        """Return people in images (H, W, 3) uint8 RGB, best first, in each image's own pixels."""
        return list(self._each(images))

    def _each(self, images: Sequence[Array]) -> Iterator[Detections]:
        """Prepare a picture while the network runs on the one before."""
        running: deque[tuple[int, Fit]] = deque()
        for number, image in enumerate(images):
            if len(running) == SLOTS:
                yield self._found(*running.popleft())
            slot = number % SLOTS
            fit = self._canvases[slot].put(image)
            self.network.start(slot, self._canvases[slot].pixels)
            running.append((slot, fit))
        for slot, fit in running:
            yield self._found(slot, fit)

    def _found(self, slot: int, fit: Fit) -> Detections:
        boxes, scores = self.decoder(self.network.result(slot))
        boxes = fit.to_picture(boxes)
        seen = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] > EMPTY).all(axis=1))
        best = seen[suppress(boxes[seen], scores[seen], self.overlap, MOST)]
        return Detections(
            boxes=np.ascontiguousarray(boxes[best], np.float32),
            scores=np.ascontiguousarray(scores[best], np.float32),
            labels=np.full(len(best), PERSON, np.int32),
            masks=np.zeros((0, 0, 0), np.uint8),
        )
