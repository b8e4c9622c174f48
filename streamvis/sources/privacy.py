"""Fill the areas of pictures that nobody may see, such as a neighbour's windows."""

from collections.abc import Sequence

import numpy as np

from streamvis.messages import Array

COLOUR = (128, 128, 128)  # a grey that looks like nothing

MARGIN = 3  # pixels, thickness of the outline: for the rounding of corners and of edges


def masked(pixels: Array, polygons: Sequence[Sequence[tuple[float, float]]]) -> Array:
    """Return a copy of a picture (H, W, 3) uint8 with the polygons filled, as `hide` does."""
    copy = np.array(pixels, order="C")  # the decoder may need its own again
    hide(copy, polygons)
    return copy


def hide(pixels: Array, polygons: Sequence[Sequence[tuple[float, float]]]) -> None:
    """Fill polygons of a picture (H, W, 3) uint8 in place, with a margin of one pixel.

    Corners are pixels (x, y), or shares of width and height where all of a polygon's are at most 1.
    """
    import cv2  # few sources have masks

    height, width = pixels.shape[:2]
    for polygon in polygons:  # not all in one call, where two that overlap show what both hide
        corners = np.asarray(polygon, dtype=np.float64)  # (K, 2)
        if corners.max() <= 1:
            corners = corners * (width, height)
        outline = [np.rint(corners).astype(np.int32)]
        cv2.fillPoly(pixels, outline, COLOUR)
        cv2.polylines(pixels, outline, isClosed=True, color=COLOUR, thickness=MARGIN)
