"""Pictures of data sets."""

from pathlib import Path

import cv2
import numpy as np

from streamvis.errors import DataError
from streamvis.messages import Array


def read_picture(path: Path, size: tuple[int, int] | None = None) -> Array:
    """Read a picture (H, W, 3) uint8 RGB; DataError when it cannot be read.

    size: width and height by its labels, which are of another picture where these differ.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist")
    try:
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    except cv2.error:  # more pixels than OpenCV allows
        pixels = None
    if pixels is None:
        raise DataError(f"{path} cannot be read as an image")
    height, width = pixels.shape[:2]
    if size is not None and (width, height) != size:
        raise DataError(
            f"{path} has {width}×{height} pixels, but {size[0]}×{size[1]} by its labels, which are "
            "of another picture; scale their boxes and points, or the picture"
        )
    return np.asarray(pixels)
