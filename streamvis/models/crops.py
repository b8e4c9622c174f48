"""Crops of people of one size, the input of embedders and action networks.

    crops = crop(pixels, detections.boxes, (128, 64))  # (N, 128, 64, 3) uint8

Boxes are cropped with subpixel precision. Downscaling averages, so that fine patterns do not alias.
"""

import cv2
import numpy as np

from streamvis.messages import Array

MEAN = (124, 116, 104)  # mean RGB of ImageNet
LINEAR = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
EDGE = cv2.BORDER_REPLICATE
FARTHEST = 1e6  # px; boxes beyond are invalid


def crop(pixels: Array, boxes: Array, size: tuple[int, int], masks: Array | None = None) -> Array:
    """Crop boxes (N, 4) xyxy of an image (H, W, 3) uint8 to (N, h, w, 3) uint8; size (h, w).

    Outside of the image its border is repeated. With masks (N, 28, 28) of 255·probability over
    the boxes, the background is MEAN; an empty mask changes nothing. An invalid box (inverted,
    not finite) gives a crop of MEAN.
    """
    crops = np.empty((len(boxes), *size, 3), np.uint8)
    for i, (out, box) in enumerate(zip(crops, np.asarray(boxes, np.float64), strict=True)):
        # NaN fails every comparison
        if not (np.abs(box).max() < FARTHEST and box[0] < box[2] and box[1] < box[3]):
            out[:] = MEAN
            continue
        _cut(pixels, box, out)
        if masks is not None and len(masks):
            _blank(out, masks[i])
    return crops


def _cut(pixels: Array, box: Array, out: Array) -> None:
    """Fill `out` (h, w, 3): average whole pixels first, then interpolate to the box."""
    height, width = out.shape[:2]
    x, step_x, columns, skip_x = _span(box[0], box[2], width, pixels.shape[1])
    y, step_y, rows, skip_y = _span(box[1], box[3], height, pixels.shape[0])
    part = _part(pixels, rows, columns)
    if skip_x > 1 or skip_y > 1:
        less = part.shape[1] // skip_x, part.shape[0] // skip_y
        part = cv2.resize(part, less, interpolation=cv2.INTER_AREA)
    if step_x > 1 or step_y > 1:
        part = cv2.sepFilter2D(part, -1, _soft(step_x), _soft(step_y), None, (-1, -1), 0, EDGE)
    # from pixels of the crop to those of the part, both by their centres
    place = np.array([[step_x, 0, x + step_x / 2 - 0.5], [0, step_y, y + step_y / 2 - 0.5]])
    cv2.warpAffine(part, place, (width, height), out, LINEAR, EDGE)


def _span(low: float, high: float, side: int, limit: int) -> tuple[float, float, range, int]:
    """One axis: where the box begins, a pixel's step for each of `side`, which pixels to read.

    The first two are in units of `skip` pixels of the picture, which are averaged. Of what lies
    outside of the picture's 0..limit one such unit is read; from there on it is all the same.
    """
    scale = (high - low) / side
    skip = int(min(max(scale + 2 / 3, 1), limit))  # leaves a step of less than 4/3
    first = int(np.clip(np.floor(low) - 2 * skip, -skip, limit - skip))
    last = int(np.clip(np.ceil(high) + 2 * skip, max(first, 0) + skip, limit + skip))
    last -= (last - first) % skip
    return (low - first) / skip, scale / skip, range(first, last), skip


def _part(pixels: Array, rows: range, columns: range) -> Array:
    """Return a part of the image, with its border repeated outside."""
    height, width = pixels.shape[:2]
    inside = pixels[max(rows[0], 0) : rows[-1] + 1, max(columns[0], 0) : columns[-1] + 1]
    above, below = max(-rows[0], 0), max(rows[-1] + 1 - height, 0)
    left, right = max(-columns[0], 0), max(columns[-1] + 1 - width, 0)
    if above or below or left or right:
        return cv2.copyMakeBorder(inside, above, below, left, right, EDGE)
    return inside


def _soft(step: float) -> Array:
    """Return the anti-aliasing kernel (3, 1) for steps of 1 to 4/3 pixels."""
    aside = min(max(0.75 * (step - 1), 0.0), 0.25)  # at 1/4 it stops the finest stripes
    return np.array([[aside], [1 - 2 * aside], [aside]])


def _blank(out: Array, mask: Array) -> None:
    inside = cv2.resize(mask, out.shape[1::-1], interpolation=cv2.INTER_LINEAR) > 127
    if inside.any():
        out[~inside] = MEAN
