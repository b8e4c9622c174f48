"""Masks of people from the network of BlazePose, which sees one person in a square crop.

The file `pose_landmark_full.tflite` (Apache-2.0) is part of the package mediapipe; OpenVINO reads
it.
"""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from streamvis.errors import WeightsError
from streamvis.messages import Array

SIDE = 256  # px of the input and of the mask
MARGIN = 1.25  # side of the crop over the longer side of the box
OUTPUTS = {"Identity_1": (1, 1), "Identity_2": (1, SIDE, SIDE, 1)}


class PersonSeen(NamedTuple):
    """What the teacher says of one person."""

    presence: float  # probability that a person is there
    mask: Array  # (256, 256) uint8, 255·probability that a pixel of the crop is of the person
    crop: Array  # (4,) float64, the crop in the picture, xyxy pixels


class PoseTeacher:
    """Looks at one person after the other."""

    def __init__(self, path: Path) -> None:
        from streamvis.models.inference.openvino_core import core_of

        if not path.is_file():
            raise WeightsError(
                f"{path}: no such file; expected pose_landmark_full.tflite, which is in "
                "mediapipe/modules/pose_landmark of the package mediapipe 0.10.9"
            )
        core = core_of("f32", 1)
        try:
            network = core.read_model(path)
        except RuntimeError as error:
            raise WeightsError(f"{path} cannot be read: {str(error).splitlines()[-1]}") from None
        outputs = {name: output for output in network.outputs for name in output.get_names()}
        for name, shape in OUTPUTS.items():
            size = outputs[name].get_partial_shape() if name in outputs else None
            found = "absent" if size is None else size.to_string()
            if found != f"[{','.join(map(str, shape))}]":
                raise WeightsError(f"{path}: output {name} is {found}, expected {list(shape)}")
        self._network = core.compile_model(network, "CPU")

    def look(self, pixels: Array, box: Array) -> PersonSeen:
        """Return what is seen of the person in a box (4,) of a picture (H, W, 3) uint8 RGB."""
        centre, side = (box[:2] + box[2:]) / 2, MARGIN * float((box[2:] - box[:2]).max())
        crop = np.concatenate([centre - side / 2, centre + side / 2])
        scale = SIDE / side
        shift = -crop[:2] * scale + (scale - 1) / 2  # pixel centres stay pixel centres
        affine = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        method = cv2.INTER_LINEAR if scale > 0.5 else cv2.INTER_AREA
        seen = cv2.warpAffine(pixels, affine, (SIDE, SIDE), flags=method)
        found = self._network(seen[None].astype(np.float32) / 255)
        logits = np.asarray(found["Identity_2"])[0, :, :, 0]
        mask = np.round(255 / (1 + np.exp(-np.clip(logits, -30, 30)))).astype(np.uint8)
        return PersonSeen(float(np.asarray(found["Identity_1"]).item()), mask, crop)
