"""Keypoints of walking people with their true places in 3D, without pictures."""

import math
from typing import NamedTuple

import numpy as np

from streamvis.messages import Array
from streamvis.synthetic.body import keypoints, pose
from streamvis.synthetic.scene import Camera, simulate

SIZE = (960, 540)
SECONDS, PEOPLE, EVERY_S = 20.0, 6, 0.5
PITCHES = (5.0, 15.0, 25.0, 40.0)  # degrees
LEFT_HIP, RIGHT_HIP = 11, 12


class WalkingPoses(NamedTuple):
    """N poses with the samples that lead to them."""

    points: Array  # (N, T, 17, 2) pixels
    world: Array  # (N, 17, 3) metres about the hips: right, down, away from a camera before them


def walking_poses(seed: int, frames: int, rate_hz: float) -> WalkingPoses:
    """Return people who are wholly in the picture, seen from four heights."""
    points, world = [], []
    for number, degrees in enumerate(PITCHES):
        pitch = math.radians(degrees)
        camera = Camera(*SIZE, height=1.5 + 9 * math.sin(pitch), pitch=pitch)
        times = np.arange((frames - 1) / rate_hz, SECONDS, EVERY_S)
        for walk in simulate(1000 * number + seed, PEOPLE, SECONDS, camera):
            for t in times:
                states = [walk.at(t - k / rate_hz) for k in range(frames - 1, -1, -1)]
                if any(state is None for state in states):
                    continue
                bodies = [keypoints(walk.person, pose(walk.person, s)) for s in states]  # type: ignore[arg-type]
                seen = np.array([camera.project(body)[0] for body in bodies])
                if (seen < 0).any() or (seen > SIZE).any():
                    continue
                points.append(seen)
                world.append(_towards_hips(camera, bodies[-1]))
    return WalkingPoses(np.array(points), np.array(world))


def _towards_hips(camera: Camera, body: Array) -> Array:
    """Return a body (17, 3) about its hips, in the axes of the camera turned towards them."""
    seen = (body - [0, 0, camera.height]) @ camera.rotation.T
    hips = seen[[LEFT_HIP, RIGHT_HIP]].mean(axis=0)
    z = hips / np.linalg.norm(hips)
    x = np.cross([0.0, 1.0, 0.0], z)
    x /= np.linalg.norm(x)
    return np.asarray((seen - hips) @ np.column_stack([x, np.cross(z, x), z]))
