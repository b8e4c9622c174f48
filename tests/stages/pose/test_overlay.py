"""Limbs of the picture in the colours of their sides, and postures that are shown while clear."""

import mannequin
import numpy as np
from factories import packet, tracks

from streamvis.messages import Poses
from streamvis.stages.overlay import Canvas
from streamvis.stages.pose import PoseEstimation
from streamvis.stages.pose.keypoints import POSTURES
from streamvis.stages.pose.overlay import ALARM, LEFT, OTHER, RIGHT, PoseOverlay

GREY = np.full((480, 640, 3), 100, np.uint8)
LYING = mannequin.fallen(mannequin.person(), y=7.0)


def poses(clear=None, scores=0.9) -> Poses:
    postures = np.full((1, len(POSTURES)), np.nan, np.float32)
    for name, value in (clear or {}).items():
        postures[0, POSTURES.index(name)] = value
    return Poses(
        ids=np.array([7]),
        points=mannequin.projected(LYING)[None].astype(np.float32),
        scores=np.broadcast_to(np.float32(scores), (1, 17)),
        covariances=np.zeros((1, 17, 2, 2), np.float32),
        postures=postures,
        sampled=np.ones(1, bool),
    )


def drawn(overlay: PoseOverlay, part: Poses | None) -> np.ndarray:
    canvas = Canvas.of(GREY)
    overlay.draw(canvas, packet(0, tracks([7], mannequin.box_of(LYING)), part))
    return canvas.image


def shown(image: np.ndarray, colour) -> bool:
    return bool((image == colour).all(axis=2).any())


def test_limbs_have_the_colours_of_their_sides():
    image = drawn(PoseOverlay(PoseEstimation()), poses())
    assert shown(image, LEFT)
    assert shown(image, RIGHT)
    left_knee, left_ankle = mannequin.projected(LYING)[[13, 15]]
    x, y = np.rint((left_knee + left_ankle) / 2).astype(int)
    around = image[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3)
    assert (np.abs(around.astype(int) - LEFT).max(axis=1) < 40).any()


def test_keypoints_below_the_least_score_are_left_out():
    assert not (drawn(PoseOverlay(PoseEstimation()), poses(scores=0.2)) != GREY).any()
    assert not (drawn(PoseOverlay(PoseEstimation()), None) != GREY).any()
    legs_hidden = np.where(np.arange(17) < 11, 0.9, 0.1)[None]
    image = drawn(PoseOverlay(PoseEstimation()), poses(scores=legs_hidden))
    knee = np.rint(mannequin.projected(LYING)[13]).astype(int)
    assert (image[knee[1], knee[0]] == 100).all()


def test_a_posture_is_shown_from_begin_until_it_is_below_end():
    overlay, seen = PoseOverlay(PoseEstimation()), []
    for clear in (0.2, 0.6, 0.8, None, 0.4, 0.2, 0.6):
        part = poses({} if clear is None else {"fallen": clear})
        seen.append(shown(drawn(overlay, part), ALARM))
        successor = PoseOverlay(PoseEstimation())
        successor.restore(overlay.state())
        overlay = successor
    assert seen == [False, False, True, True, True, False, False]
    assert shown(drawn(overlay, poses({"hands_up": 1.0})), OTHER)
    overlay.restart()
    assert not shown(drawn(overlay, poses()), OTHER)
