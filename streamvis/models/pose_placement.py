"""Places lifted poses on the ground, in metres, by a calibrated plane.

A lifted pose has no place, and its size is a guess. Both follow from the picture: the lower ankle
stands on the ground, which gives the distance, and at that distance the extent of the keypoints in
the picture gives the size of the person.
"""

import numpy as np

from streamvis.calibration.ground_plane import Pinhole
from streamvis.messages import Array
from streamvis.models.pose_lifting import LEFT_HIP, RIGHT_HIP, SURE

HIPS, ANKLES = [LEFT_HIP, RIGHT_HIP], [15, 16]
ANKLE_M = 0.08  # height of an ankle above the ground


def place(camera: Pinhole, poses: Array, points: Array, scores: Array) -> Array:
    """Return poses (N, 17, 3) in metres on the ground: x and y of the plane, and the height.

    poses (N, 17, 3) as lifted, points (N, 17, 2) pixels, scores (N, 17). NaN for whom the hips or
    both ankles are not known, and where the foot is above the horizon.
    """
    found = np.full(poses.shape, np.nan)
    for i, (pose, point, score) in enumerate(zip(poses, points, scores, strict=True)):
        ankles = [ankle for ankle in ANKLES if score[ankle] >= SURE]
        if ankles and (score[HIPS] >= SURE).all():
            foot = max(ankles, key=lambda ankle: float(point[ankle, 1]))
            found[i] = _placed(camera, pose, point, score, foot)
    return found


def towards(ray: Array) -> Array:
    """Return the rotation (3, 3) that turns the axis of a camera to a ray (3,), without a roll."""
    z = ray / np.linalg.norm(ray)
    x = np.cross([0.0, 1.0, 0.0], z)
    x /= np.linalg.norm(x)
    return np.column_stack([x, np.cross(z, x), z])


def _placed(camera: Pinhole, pose: Array, points: Array, scores: Array, foot: int) -> Array:
    rays = np.column_stack([points, np.ones(len(points))]) @ np.linalg.inv(camera.K).T  # (17, 3)
    turn = towards(rays[HIPS].mean(axis=0))
    seen = rays @ turn  # of a camera that looks at the hips
    flat = seen[:, :2] / seen[:, 2:]
    # flat = k pose_xy / (distance + k pose_z), solved for k / distance
    weight = np.where(scores >= SURE, scores, 0.0)[:, None]
    lever = pose[:, :2] - flat * pose[:, 2:]
    ratio = (weight * lever * flat).sum() / (weight * lever**2).sum()
    direction = camera.R.T @ rays[foot]
    along = (ANKLE_M - camera.centre[2]) / direction[2]
    if not along > 0:
        return np.full(pose.shape, np.nan)
    ankle = along * (turn.T @ rays[foot])  # in the axes of the camera that looks at the hips
    distance = ankle[2] / (1 + ratio * pose[foot, 2])
    body = turn @ (distance * (np.array([0, 0, 1.0]) + ratio * pose)).T  # (3, 17)
    return np.asarray((body.T - camera.t) @ camera.R)
