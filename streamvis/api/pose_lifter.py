"""3D poses of the tracked people of one video: experimental."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamvis.api.checks import (
    FrameClock,
    check_device,
    check_plane,
    check_poses,
    check_size,
    check_weights,
)
from streamvis.calibration.ground_plane import Pinhole, pinhole
from streamvis.errors import UsageError
from streamvis.geometry import read_ground_plane
from streamvis.messages import Array, Poses
from streamvis.models.pose_lifting import TrackHistory, lift
from streamvis.models.pose_placement import place
from streamvis.models.weights import load_lifter

WHERE = "PoseLifter"


@dataclass(frozen=True)
class LiftedPoses:
    """The 3D poses of N people in one frame, in the order of their `Poses`."""

    ids: Array  # (N,) int64, ids of tracks
    points: Array  # (N, 17, 3) float32 metres about the middle of the hips: right, down, away
    placed: Array | None  # (N, 17, 3) metres: x and y of the ground plane, height; NaN: not known

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"LiftedPoses({len(self)} people{'' if self.placed is None else ', placed'})"


class PoseLifter:
    """Lifts the poses of one video to 3D, frame after frame; experimental.

    weights: a shipped name, or a path. fps: poses per second, unless each update has its
    `time_s`. ground_plane: a file of `streamvis calibrate`, with the size (width, height) of its
    frames: poses are also placed on the ground.
    """

    def __init__(
        self,
        weights: str | Path = "pose-3d",
        fps: float | None = None,
        *,
        size: tuple[int, int] | None = None,
        ground_plane: str | Path | None = None,
        device: str = "cpu",
    ) -> None:
        self._clock = FrameClock(fps, WHERE)
        plane = check_plane(ground_plane, WHERE)
        self._camera = None if plane is None else _camera_of(plane, size)
        self._weights = check_weights(weights, WHERE)
        self._network = load_lifter(self._weights, check_device(device, WHERE))
        self._history = TrackHistory(self._network.architecture)

    def update(self, poses: Poses, *, time_s: float | None = None) -> LiftedPoses:
        """Return the poses of a frame in 3D, from these and those before them of the same tracks.

        time_s: media time, increasing. Raises DataError for anything but sound Poses.
        """
        check_poses(poses, WHERE)
        media_us = self._clock.at(time_s)
        self._clock.advance(media_us, given=time_s is not None)
        self._history.add(poses.ids, poses.points, poses.scores, media_us)
        points = lift(self._network, self._history.samples(poses.ids))
        placed = None
        if self._camera is not None:
            placed = place(self._camera, points, poses.points, poses.scores)
        return LiftedPoses(poses.ids, points, placed)

    def __repr__(self) -> str:
        placed = "" if self._camera is None else ", placed"
        return f"PoseLifter({self._weights!r}{placed})"


def _camera_of(path: Path, size: tuple[int, int] | None) -> Pinhole:
    """Return the camera of a ground plane; UsageError where the plane does not tell it."""
    if size is None:
        raise UsageError(f"{WHERE}: ground_plane needs size=(width, height) of its frames")
    width, height = check_size(size, WHERE)
    H = np.array(read_ground_plane(path)).reshape(3, 3)
    camera = pinhole(H / float(H[2] @ [width / 2, height, 1]), (width, height))
    if camera is None:
        raise UsageError(
            f"{WHERE}: {path} fits no camera with square pixels and a centred axis in frames of "
            f"{width}×{height} px; calibrate again, with points farther apart, or check the size"
        )
    return camera
