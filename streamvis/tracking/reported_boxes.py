"""Boxes of tracks as they are reported."""

import numpy as np

from streamvis.messages import Array
from streamvis.tracking.clipped_boxes import complete


def follow_across(boxes: Array, seen: Array, size: tuple[int, int], share: float) -> Array:
    """Return boxes (N, 4) of tracks, moved across the picture by a share of the way to `seen`.

    `seen` (N, 4) are the boxes of their detections, NaN without one; `size` is (width, height) of
    the picture in px. The noise that the filter assumes holds for errors that persist over frames,
    so it lags behind people who turn or change their pace, and they do so mostly across the picture
    (docs/decisions/077-boxes-follow-their-detections.md). Sizes stay, and so does a box whose
    detection the left or right edge of the picture clips: its centre is not known.
    """
    whole = np.isfinite(seen).all(axis=1) & ~complete(seen, size).clipped.any(axis=1)
    way = (seen - boxes)[:, [0, 2]].mean(axis=1)  # (N,) px between the centres
    moved = boxes.copy()
    moved[:, [0, 2]] += share * np.where(whole, way, 0)[:, None]
    return moved
