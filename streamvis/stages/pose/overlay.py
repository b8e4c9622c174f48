"""Poses on the picture: limbs, left and right in two colours, and the name of each posture."""

from typing import ClassVar

import cv2
import msgspec
import numpy as np

from streamvis.messages import Array, Packet, Poses, Tracks
from streamvis.stages.overlay import Canvas, Overlay
from streamvis.stages.pose import PoseEstimation
from streamvis.stages.pose.keypoints import LEFT_LIMBS, MIDDLE_LIMBS, POSTURES, RIGHT_LIMBS
from streamvis.viz.legend import Entry
from streamvis.viz.style import PALE, Colour, at

LEFT: Colour = (86, 180, 233)  # sky
RIGHT: Colour = (230, 159, 0)  # orange
ALARM: Colour = (213, 94, 0)  # vermilion, of `fallen`
OTHER: Colour = (240, 228, 66)  # yellow, of the other postures
THIN = 60  # px of a person for a pixel of the lines
LIMBS = (
    *((limb, PALE) for limb in MIDDLE_LIMBS),
    *((limb, LEFT) for limb in LEFT_LIMBS),
    *((limb, RIGHT) for limb in RIGHT_LIMBS),
)
LEGEND = (
    Entry("line", LEFT, 1, "pose: left arm and leg of the person", place=32),
    Entry("line", RIGHT, 1, "right arm and leg", place=32),
)


class PoseOverlay(Overlay):
    """Draw the limbs between keypoints that are known, and postures from `begin` to `end`."""

    order: ClassVar[int] = 35

    def __init__(self, config: PoseEstimation) -> None:
        self.config = config
        self.shown: dict[int, set[str]] = {}  # by track: its postures

    def draw(self, canvas: Canvas, packet: Packet) -> None:
        poses, tracks = packet.part(Poses), packet.part(Tracks)
        if poses is None:
            return
        canvas.legend += LEGEND
        self._note(poses)
        boxes = {} if tracks is None else dict(zip(tracks.ids.tolist(), tracks.boxes, strict=True))
        for id_, points, scores in zip(poses.ids.tolist(), poses.points, poses.scores, strict=True):
            known = (scores >= self.config.min_score) & np.isfinite(points).all(axis=1)
            _limbs(canvas, points, known)
            if known.any():
                corner = boxes[id_] if id_ in boxes else _box(points[known])
                self._labels(canvas, id_, corner)

    def _note(self, poses: Poses) -> None:
        """Note which postures are shown: those that were clear, until they are not any more."""
        self.shown = {id_: self.shown.get(id_, set()) for id_ in poses.ids.tolist()}
        if poses.postures is None:
            return
        for id_, values in zip(poses.ids.tolist(), poses.postures.tolist(), strict=True):
            for label, clear in zip(POSTURES, values, strict=True):
                if clear >= self.config.begin:
                    self.shown[id_].add(label)
                elif clear < self.config.end:
                    self.shown[id_].discard(label)

    def _labels(self, canvas: Canvas, id_: int, box: Array) -> None:
        x, y = at(box[[0, 3]])
        height = canvas.style.text + 2 * max(2, canvas.style.text // 3)
        for label in (one for one in POSTURES if one in self.shown.get(id_, ())):
            colour = ALARM if label == "fallen" else OTHER
            canvas.plate(label, x, y + height, colour, below=True)

    def state(self) -> bytes:
        """Return the postures that are shown."""
        return msgspec.msgpack.encode({id_: sorted(some) for id_, some in self.shown.items()})

    def restore(self, state: bytes) -> None:
        """Continue from the state of a predecessor."""
        was = msgspec.msgpack.decode(state, type=dict[int, list[str]])
        self.shown = {id_: set(some) for id_, some in was.items()}

    def restart(self) -> None:
        """Forget the tracks of the previous stream epoch."""
        self.shown = {}


def _limbs(canvas: Canvas, points: Array, known: Array) -> None:
    """Draw lines and dots, thinner ones for small people."""
    height = float(np.ptp(points[known], axis=0).max()) if known.any() else 0.0
    thick = max(1, min(canvas.style.line, round(height / THIN)))
    for (i, j), colour in LIMBS:
        if known[i] and known[j]:
            ends = at(points[i]), at(points[j])
            cv2.line(canvas.image, *ends, colour, thick, cv2.LINE_AA)
    for point in points[known]:
        cv2.circle(canvas.image, at(point), thick, PALE, cv2.FILLED, cv2.LINE_AA)


def _box(points: Array) -> Array:
    return np.concatenate([points.min(axis=0), points.max(axis=0)])
