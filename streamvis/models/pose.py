"""Keypoints of people in boxes: a crop of each, a network on all of them, decoded heatmaps.

    network = PoseNetwork.load("pose-lite", "cpu")
    ((points, scores, covariances),) = network.estimate([pixels], [boxes])

Keypoints are COCO's 17: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left
before right.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from streamvis.messages import Array
from streamvis.models.crops import crop
from streamvis.models.heatmaps import decode
from streamvis.models.hrnet import STRIDE, Hrnet
from streamvis.models.inference.pose import accelerate_pose
from streamvis.models.inference.select import Engine, Precision
from streamvis.models.weights import load_pose

MARGIN = 1.25  # of a crop over the box


class Keypoints(NamedTuple):
    """The keypoints of N people in one image."""

    points: Array  # (N, 17, 2) float32, px of the image; the centre of its first pixel is at 0.5
    scores: Array  # (N, 17) float32 in [0, 1]
    covariances: Array  # (N, 17, 2, 2) float32, px²


class PoseNetwork:
    """A pose network on a device, compiled where that is possible."""

    def __init__(
        self,
        model: Hrnet,  # is modified and owned
        device: str = "cpu",
        precision: Precision = "auto",
        engine: Engine = "auto",
    ) -> None:
        self.architecture = model.architecture
        self._heatmaps = accelerate_pose(model, device, precision, engine)

    @classmethod
    def load(
        cls,
        weights: str | Path,
        device: str = "cpu",
        precision: Precision = "auto",
        engine: Engine = "auto",
    ) -> Self:
        """Load a shipped network by name, or any by path.

        Raises WeightsError for a file that is not a pose network, DeviceError for a device that is
        absent, ModelError for an impossible choice of precision and engine.
        """
        return cls(load_pose(str(weights), device), device, precision, engine)

    def estimate(self, images: Sequence[Array], boxes: Sequence[Array]) -> list[Keypoints]:
        """Estimate the keypoints of the people in the boxes (n, 4), xyxy px, of each image.

        images: (H, W, 3) uint8 RGB, of any sizes. The people of all images are computed together.
        """
        size = self.architecture.size
        regions = [crop_regions(one, size) for one in boxes]
        crops = [crop(i, r, size) for i, r in zip(images, regions, strict=True)]
        counts = [len(one) for one in crops]
        if not sum(counts):
            return [_image_keypoints(np.zeros((0, *self._cells)), r, self) for r in regions]
        heatmaps = self._heatmaps(np.concatenate(crops))
        parts = np.split(heatmaps, np.cumsum(counts)[:-1])
        return [_image_keypoints(part, r, self) for part, r in zip(parts, regions, strict=True)]

    @property
    def _cells(self) -> tuple[int, int, int]:
        height, width = self.architecture.size
        return self.architecture.keypoints, height // STRIDE, width // STRIDE


def crop_regions(boxes: Array, size: tuple[int, int], margin: float = MARGIN) -> Array:
    """Grow boxes (N, 4) about their centres by the margin, and to the aspect of (height, width)."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    unit = np.max(sides / [size[1], size[0]], axis=1, keepdims=True)  # px for a px of the crop
    half = margin * unit * [size[1], size[0]] / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def _image_keypoints(heatmaps: Array, regions: Array, network: PoseNetwork) -> Keypoints:
    """Decode heatmaps (N, K, h, w) into the image that their crops (N, 4) were cut from."""
    architecture = network.architecture
    decoded = decode(heatmaps, architecture.sigma)
    scale = (regions[:, 2:] - regions[:, :2]) / architecture.size[::-1]  # (N, 2) px for a crop's px
    points = (decoded.points * STRIDE + architecture.first_cell) * scale[:, None]
    points += regions[:, None, :2]
    scales = STRIDE * scale  # px for a cell
    covariances = decoded.covariances * (scales[:, :, None] * scales[:, None])[:, None]
    return Keypoints(
        points.astype(np.float32), decoded.scores.astype(np.float32), covariances.astype(np.float32)
    )
