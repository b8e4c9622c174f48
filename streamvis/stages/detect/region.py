"""Which of the people found are kept: those in a region, and those tall enough."""

from collections.abc import Sequence

import numpy as np

from streamvis.fields import Polygon
from streamvis.geometry import foot, inside
from streamvis.messages import Detections


class RegionFilter:
    """Keep people of at least `min_height` px whose foot point is in one of the polygons."""

    def __init__(self, region: Sequence[Polygon], min_height: float) -> None:
        self.polygons = [np.array(polygon) for polygon in region]  # in shares of the picture
        self.min_height = min_height

    def __call__(self, part: Detections, width: int, height: int) -> Detections:
        keep = part.boxes[:, 3] - part.boxes[:, 1] >= self.min_height
        if self.polygons:
            feet = foot(part.boxes) / [width, height]
            keep &= np.any([inside(feet, polygon) for polygon in self.polygons], axis=0)
        return part if keep.all() else part[keep]
