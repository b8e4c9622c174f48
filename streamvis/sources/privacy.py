"""Fill the areas of pictures that nobody may see, such as a neighbour's windows."""

from collections.abc import Sequence

import cv2
import numpy as np

from streamvis.messages import Array

COLOUR = (128, 128, 128)  # a grey that looks like nothing


def hide(pixels: Array, polygons: Sequence[Sequence[tuple[float, float]]]) -> None:
    """Fill polygons of a picture (H, W, 3) uint8 in place, each with all pixels on its edge.

    Corners are pixels (x, y), or shares of width and height where all of a polygon's are at most 1.
    """
    height, width = pixels.shape[:2]
    for polygon in polygons:  # not all in one call, where two that overlap show what both hide
        corners = np.asarray(polygon, dtype=np.float64)  # (K, 2)
        if corners.max() <= 1:
            corners = corners * (width, height)
        cv2.fillPoly(pixels, [np.rint(corners).astype(np.int32)], COLOUR)
