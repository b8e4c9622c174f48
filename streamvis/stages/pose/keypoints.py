"""The 17 keypoints of COCO by name, the limbs between them, and the postures."""

from typing import Literal

Posture = Literal["fallen", "sitting", "crouching", "hands_up"]
POSTURES: tuple[Posture, ...] = ("fallen", "sitting", "crouching", "hands_up")
NAMES = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
)
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
MIRRORED = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)  # of a mirrored picture
