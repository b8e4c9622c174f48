"""Detections on the picture: detection regions, masks, and boxes that no track has taken."""

from collections.abc import Sequence
from typing import ClassVar

import cv2
import numpy as np

from streamvis.fields import Polygon
from streamvis.geometry import paste_mask
from streamvis.messages import Array, Detections, Packet, Tracks
from streamvis.stages.overlay import Canvas, Overlay
from streamvis.viz.legend import Entry
from streamvis.viz.style import GREY, PALE, Style, at, colour_of, rectangle, shade

MASK_OPACITY = 0.18  # light, so that clothes keep their colour; the outline is opaque
LEAST_SCORE = 0.5  # of detections without a track that are drawn
DETECTION = Entry("box", GREY, 0, "detection without a track, and its score", place=20)
REGION = Entry("box", PALE, 0, "detection region", place=20)


class DetectOverlay(Overlay):
    """Draw masks in the colours of their tracks, and detections without a track in thin grey."""

    order: ClassVar[int] = 20

    def __init__(self, regions: Sequence[Polygon], masks: bool) -> None:
        self.regions = regions  # in shares of the picture's width and height
        self.masks = masks

    def draw(self, canvas: Canvas, packet: Packet) -> None:
        for polygon in self.regions:
            _region(canvas.image, polygon)
        detections = packet.part(Detections)
        if detections is not None:
            taken = _track_by_detection(detections, packet.part(Tracks))
            if self.masks and len(detections.masks):
                _masks(canvas.image, detections, taken)
            _unassigned(canvas.image, detections, taken, canvas.style)
            canvas.legend.append(DETECTION)
        if self.regions:
            canvas.legend.append(REGION)


def _region(image: Array, polygon: Polygon) -> None:
    height, width = image.shape[:2]
    corners = (np.array(polygon) * (width - 1, height - 1)).round().astype(np.int32)
    cv2.polylines(image, [corners], True, PALE, 1, cv2.LINE_AA)


def _track_by_detection(detections: Detections, tracks: Tracks | None) -> dict[int, int]:
    """Return the track id for the index of each detection that a track has taken."""
    if tracks is None:
        return {}
    pairs = zip(tracks.detection.tolist(), tracks.ids.tolist(), strict=True)
    return {index: id_ for index, id_ in pairs if 0 <= index < len(detections.boxes)}


def _masks(image: Array, detections: Detections, track_by_detection: dict[int, int]) -> None:
    height, width = image.shape[:2]
    for i, (mask, box) in enumerate(zip(detections.masks, detections.boxes, strict=True)):
        colour = colour_of(track_by_detection[i]) if i in track_by_detection else GREY
        rows, columns, patch = paste_mask(mask, box, height, width)
        if not patch.any():
            continue
        region = np.ascontiguousarray(image[rows, columns])
        tinted = region.copy()
        shade(tinted, colour, MASK_OPACITY)
        inside = patch.view(np.uint8)
        cv2.copyTo(tinted, inside, region)
        outline, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(region, outline, -1, colour, 1, cv2.LINE_AA)
        image[rows, columns] = region


def _unassigned(
    image: Array, detections: Detections, track_by_detection: dict[int, int], style: Style
) -> None:
    """Draw detections without a track, except weak ones, which only serve the tracker."""
    for i, (box, score) in enumerate(zip(detections.boxes, detections.scores, strict=True)):
        if i in track_by_detection or score < LEAST_SCORE or not np.isfinite(box).all():
            continue
        rectangle(image, box, GREY, max(1, style.line // 2))
        x, y = at(box[:2])
        if y >= 0 and x < image.shape[1]:
            style.label(image, f"{score:.2f}", x, y - 4, PALE)
