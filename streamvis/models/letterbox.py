"""A picture scaled into the input of a network, with the rest filled in grey.

canvas = Canvas((416, 416), centred=False, bgr=True)
fit = canvas.put(picture)  # canvas.pixels is what the network gets
boxes = fit.to_picture(boxes)  # from pixels of the canvas to those of the picture
"""

from typing import NamedTuple

import cv2
import numpy as np

from streamvis.messages import Array

Size = tuple[int, int]  # height and width, px
GREY = 114  # of the pixels beside the picture, as the networks were trained


class Fit(NamedTuple):
    """The place of a picture in a canvas."""

    picture: Size
    height: int  # of the scaled picture
    width: int
    top: int
    left: int

    def to_picture(self, boxes: Array) -> Array:
        """Return boxes (N, 4) of the canvas in pixels of the picture, clipped to it.

        Each axis has the scale of its rounded size: with the common one, boxes at the far side of
        a large picture would be displaced by a pixel or more.
        """
        (height, width), corner = self.picture, (self.left, self.top)
        scale = np.array([width / self.width, height / self.height] * 2, np.float32)
        moved = (boxes - np.array(corner * 2, np.float32)) * scale
        return np.clip(moved, 0, np.array([width, height] * 2, np.float32))


def scaled_size(picture: Size, largest: Size, *, exact: bool) -> Size:
    """Return the size of a picture that is scaled to touch two sides of the largest canvas.

    Sizes are rounded as YOLOv8 does (`exact`, to the nearest pixel), or YOLOX (down).
    """
    (h, w), (height, width) = picture, largest
    ratio = min(height / h, width / w)
    rounded = round if exact else int
    return max(1, min(rounded(h * ratio), height)), max(1, min(rounded(w * ratio), width))


def smallest_canvas(picture: Size, largest: Size, step: int, *, exact: bool) -> Size:
    """Return the least size, in multiples of `step`, that holds the scaled picture."""
    height, width = scaled_size(picture, largest, exact=exact)
    return -(-height // step) * step, -(-width // step) * step


class Canvas:
    """The input memory of a network, in which each picture replaces the one before."""

    def __init__(
        self,
        size: Size,
        *,
        centred: bool,
        bgr: bool,  # the network takes blue first
        largest: Size | None = None,  # canvas whose sides the scaled picture touches; none: this
    ) -> None:
        self.pixels = np.full((*size, 3), GREY, np.uint8)
        self.size = size
        self.largest = largest or size
        self.centred = centred
        self.bgr = bgr
        self._fit: Fit | None = None

    def fit(self, picture: Size) -> Fit:
        """Return the place of a picture: in the middle, or at the upper left corner."""
        height, width = scaled_size(picture, self.largest, exact=self.centred)
        if not self.centred:
            return Fit(picture, height, width, 0, 0)
        top, left = (self.size[0] - height) // 2, (self.size[1] - width) // 2
        return Fit(picture, height, width, top, left)

    def put(self, picture: Array) -> Fit:
        """Scale a picture (H, W, 3) uint8 RGB into the canvas; return its place."""
        fit = self.fit((picture.shape[0], picture.shape[1]))
        if fit != self._fit:
            self.pixels[:] = GREY
            self._fit = fit
        inside = self.pixels[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width]
        cv2.resize(picture, (fit.width, fit.height), inside, interpolation=cv2.INTER_LINEAR)
        if self.bgr:
            cv2.cvtColor(inside, cv2.COLOR_RGB2BGR, inside)
        return fit
