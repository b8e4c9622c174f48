"""Third-party re-identification networks from ONNX files, used as teachers.

    teacher = Teacher(Path("person-reidentification-retail-0248.onnx"))
    vectors = teacher(crop(pixels, boxes, teacher.size))  # (N, D) of unit length

The layout is Open Model Zoo's: (N, H, W, 3), BGR, 0 to 255, and one vector for each crop.
"""

from pathlib import Path

import numpy as np

from streamvis.errors import WeightsError
from streamvis.messages import Array
from streamvis.models.onnx import open_session


class Teacher:
    """Runs on the CPU, one crop at a time, as such files are made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._session = open_session(path)
        inputs = [(one.name, one.shape, one.type) for one in self._session.get_inputs()]
        (self._input, shape, kind), *others = inputs
        whole = len(shape) == 4 and all(isinstance(n, int) for n in shape[1:])
        if others or kind != "tensor(float)" or not whole or shape[3] != 3:
            found = "; ".join(f"{name} {kind} {shape}" for name, shape, kind in inputs)
            raise WeightsError(
                f"{path} is not a re-identification network: its input is {found}; expected "
                "one tensor(float) [N, height, width, 3]"
            )
        self.size: tuple[int, int] = (shape[1], shape[2])  # of a crop
        self.outputs = self._one(_blank(self.size)).size  # numbers of a vector

    def __call__(self, crops: Array) -> Array:
        """Vectors (N, D) float32 of unit length of crops (N, H, W, 3) uint8 RGB."""
        rows = [self._one(pixels) for pixels in crops]
        return np.stack(rows) if rows else np.zeros((0, self.outputs), np.float32)

    def _one(self, pixels: Array) -> Array:
        bgr = np.ascontiguousarray(pixels[None, ..., ::-1], np.float32)
        (out, *_) = self._session.run(None, {self._input: bgr})
        vector = np.asarray(out, np.float32).ravel()
        return vector / max(float(np.linalg.norm(vector)), 1e-9)


def _blank(size: tuple[int, int]) -> Array:
    return np.zeros((*size, 3), np.uint8)
