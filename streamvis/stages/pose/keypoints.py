"""Joints and limbs among COCO's 17 keypoints (`datasets.keypoints.NAMES`), and the postures."""

from typing import Literal

Posture = Literal["fallen", "sitting", "crouching", "hands_up"]
POSTURES: tuple[Posture, ...] = ("fallen", "sitting", "crouching", "hands_up")
SHOULDERS, ELBOWS, WRISTS, HIPS, KNEES, ANKLES = (
    (5, 6),
    (7, 8),
    (9, 10),
    (11, 12),
    (13, 14),
    (15, 16),
)
LEFT_LIMBS = ((5, 7), (7, 9), (11, 13), (13, 15), (0, 1), (1, 3))
RIGHT_LIMBS = ((6, 8), (8, 10), (12, 14), (14, 16), (0, 2), (2, 4))
MIDDLE_LIMBS = ((5, 6), (11, 12), (5, 11), (6, 12))
