"""People seen by the network of BlazePose, which looks at one person in a square crop.

The file `pose_landmark_full.tflite` (Apache-2.0) is part of the package mediapipe; OpenVINO reads
it. Outputs: 39 landmarks, of which the first 33 are points of the body, their places in metres
about the hips, and the mask of the person.
"""

import math
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from streamvis.errors import WeightsError
from streamvis.messages import Array

SIDE = 256  # px of the input and of the mask
LANDMARKS = 39
MARGIN = 1.25  # side of the crop over the longer side of the box
OUTPUTS = {
    "Identity": (1, 5 * LANDMARKS),
    "Identity_1": (1, 1),
    "Identity_2": (1, SIDE, SIDE, 1),
    "Identity_4": (1, 3 * LANDMARKS),
}


class View(NamedTuple):
    """A square crop of a picture."""

    centre: Array  # (2,) pixels of the picture
    side: float  # px
    turn: float = 0.0  # radians by which the up of the crop is turned clockwise in the picture
    mirrored: bool = False

    def affine(self) -> Array:
        """Return (2, 3), which takes a place of the picture to one of the crop, both in pixels."""
        scale, cos, sin = SIDE / self.side, math.cos(self.turn), math.sin(self.turn)
        linear = scale * np.array([[cos, sin], [-sin, cos]])
        if self.mirrored:
            linear[0] *= -1
        return np.column_stack([linear, SIDE / 2 - linear @ self.centre])


class PersonSeen(NamedTuple):
    """What the teacher says of one person."""

    presence: float  # probability that a person is there
    mask: Array  # (256, 256) uint8, 255·probability that a pixel of the crop is of the person
    crop: Array  # (4,) float64, the crop in the picture, xyxy pixels


class LandmarksSeen(NamedTuple):
    """The landmarks of one person as a crop shows them."""

    presence: float  # probability that a person is there
    points: Array  # (39, 2) pixels of the crop
    confidence: Array  # (39,) probability that a landmark is in the picture and not occluded
    world: Array  # (39, 3) metres about the middle of the hips: right, down, away from the camera


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
        view = around(box)
        found = self._run(pixels, view)
        logits = np.asarray(found["Identity_2"])[0, :, :, 0]
        mask = np.round(255 * _probability(logits)).astype(np.uint8)
        crop = np.concatenate([view.centre - view.side / 2, view.centre + view.side / 2])
        return PersonSeen(float(np.asarray(found["Identity_1"]).item()), mask, crop)

    def landmarks(self, pixels: Array, view: View) -> LandmarksSeen:
        """Return the landmarks that a crop of a picture (H, W, 3) uint8 RGB shows."""
        found = self._run(pixels, view)
        rows = np.asarray(found["Identity"], np.float64).reshape(LANDMARKS, 5)
        return LandmarksSeen(
            presence=float(np.asarray(found["Identity_1"]).item()),
            points=rows[:, :2],  # x, y, z, visibility, presence
            confidence=_probability(rows[:, 3]) * _probability(rows[:, 4]),
            world=np.asarray(found["Identity_4"], np.float64).reshape(LANDMARKS, 3),
        )

    def _run(self, pixels: Array, view: View) -> dict[str, Array]:
        affine = view.affine()
        affine[:, 2] += affine[:, :2] @ [0.5, 0.5] - 0.5  # OpenCV's pixels have centres at 0, 0
        method = cv2.INTER_LINEAR if view.side < 2 * SIDE else cv2.INTER_AREA
        seen = cv2.warpAffine(pixels, affine, (SIDE, SIDE), flags=method)
        found: dict[str, Array] = self._network(seen[None].astype(np.float32) / 255)
        return found


def around(box: Array) -> View:
    """Return the view of a box (4,) xyxy, with a margin."""
    side = MARGIN * float((box[2:] - box[:2]).max())
    return View((box[:2] + box[2:]) / 2, side)


def _probability(logits: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))))
