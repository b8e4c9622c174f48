"""A picture scaled into the fixed input of a network, with the rest filled in grey.

canvas = Canvas(416, 416, centred=False, bgr=True)
fit = canvas.put(picture)  # canvas.pixels is what the network gets
boxes = fit.to_picture(boxes)  # from pixels of the canvas to those of the picture
"""

from typing import NamedTuple

import cv2
import numpy as np

from streamvis.messages import Array

GREY = 114  # of the pixels beside the picture, as the networks were trained


class Fit(NamedTuple):
    """The place of a picture in a canvas."""

    picture: tuple[int, int]  # height and width, px
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


def fit_into(picture: tuple[int, int], canvas: tuple[int, int], *, centred: bool) -> Fit:
    """Return the place of a picture (height, width) that is scaled to touch two sides of a canvas.

    Sizes and margins are rounded as YOLOX does (upper left corner), or YOLOv8 (centred).
    """
    (h, w), (height, width) = picture, canvas
    ratio = min(height / h, width / w)
    nearest = round if centred else int
    size = max(1, min(nearest(h * ratio), height)), max(1, min(nearest(w * ratio), width))
    if not centred:
        return Fit(picture, *size, 0, 0)
    return Fit(picture, *size, (height - size[0]) // 2, (width - size[1]) // 2)


class Canvas:
    """The input memory of a network, in which each picture replaces the one before."""

    def __init__(self, height: int, width: int, *, centred: bool, bgr: bool) -> None:
        """`bgr`: the network takes blue first."""
        self.pixels = np.full((height, width, 3), GREY, np.uint8)
        self.centred = centred
        self.bgr = bgr
        self._fit: Fit | None = None

    def put(self, picture: Array) -> Fit:
        """Scale a picture (H, W, 3) uint8 RGB into the canvas; return its place."""
        canvas = self.pixels.shape[0], self.pixels.shape[1]
        fit = fit_into((picture.shape[0], picture.shape[1]), canvas, centred=self.centred)
        if fit != self._fit:
            self.pixels[:] = GREY
            self._fit = fit
        inside = self.pixels[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width]
        cv2.resize(picture, (fit.width, fit.height), inside, interpolation=cv2.INTER_LINEAR)
        if self.bgr:
            cv2.cvtColor(inside, cv2.COLOR_RGB2BGR, inside)
        return fit
