"""Poses of people: of single pictures, or smoothed along the tracks of one video."""

from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike

from streamvis.api.checks import (
    FrameClock,
    check_detections,
    check_device,
    check_motion,
    check_picture,
    check_plane,
    check_tracks,
    check_weights,
    configured,
)
from streamvis.api.settings import PoseSettings
from streamvis.errors import DataError, UsageError
from streamvis.geometry import read_ground_plane
from streamvis.messages import (
    Array,
    Detections,
    Frame,
    Motion,
    Packet,
    Part,
    Poses,
    SourceInfo,
    Tracks,
)
from streamvis.stages.pose import PoseEstimation
from streamvis.stages.pose.stage import PoseStage
from streamvis.stages.pose.state import camera_of, unsmoothed
from streamvis.stages.protocol import Site

WHERE = "PoseEstimator"
SOURCE = "video"


class PoseEstimator:
    """Estimates the 17 keypoints of people and how clear their postures are.

    weights: a shipped name, or a path. fps: frames per second of the video whose tracks are given,
    unless each call has its `time_s`. ground_plane: a file of `streamvis calibrate`, to measure
    postures on the ground. Settings are those of `pose` (docs/settings.md).
    """

    def __init__(
        self,
        weights: str | Path = "pose-lite",
        fps: float | None = None,
        *,
        device: str = "cpu",
        ground_plane: str | Path | None = None,
        **settings: Unpack[PoseSettings],
    ) -> None:
        given = {"weights": check_weights(weights, WHERE), **settings}
        self.config = configured(PoseEstimation, WHERE, given)
        self._clock = FrameClock(fps, WHERE)
        plane = check_plane(ground_plane, WHERE)
        self._plane = None if plane is None else read_ground_plane(plane)
        self._pixels: dict[int, Array] = {}  # by number of the frame, while it is processed
        site = Site(device=check_device(device, WHERE), pixels=lambda frame: self._pixels[frame.n])
        self._stage = PoseStage(self.config, site)
        self._frames = 0

    def __call__(
        self,
        picture: Array,
        people: Tracks | Detections | ArrayLike,
        *,
        motion: Motion | None = None,
        time_s: float | None = None,
    ) -> Poses:
        """Return the poses of people in a picture (H, W, 3) uint8 RGB.

        people: detections or boxes (N, 4), xyxy pixels: each picture is taken on its own, and the
        ids are the rows; or the tracks of the next frame of a video, whose people are estimated
        every `interval_s`, at most `people` of them, and smoothed. With tracks, motion: of the
        camera since the previous frame; time_s: media time, increasing.
        """
        check_picture(picture, WHERE)
        if isinstance(people, Tracks):
            return self._tracked(picture, people, motion, time_s)
        if time_s is not None or motion is not None:
            raise UsageError(
                f"{WHERE}: time_s and motion are of a frame with tracks; leave them out"
            )
        boxes = _boxes(people)
        (found,) = self._stage.network.estimate([picture], [boxes])
        size = picture.shape[1], picture.shape[0]
        camera = camera_of(self._plane, size)
        return unsmoothed(found, boxes, size, camera, self.config.min_score)

    def _tracked(
        self, picture: Array, tracks: Tracks, motion: Motion | None, time_s: float | None
    ) -> Poses:
        check_tracks(tracks, WHERE)
        if motion is not None:
            check_motion(motion, WHERE)
        media_us = self._clock.at(time_s)
        height, width = picture.shape[:2]
        if not self._frames:
            self._stage.begin(self._source(width, height), None)
        n = self._frames
        frame = Frame(source=SOURCE, seq=n, n=n, media_us=media_us, width=width, height=height)
        self._clock.advance(media_us, given=time_s is not None)
        self._frames += 1
        self._pixels[n] = picture
        try:
            parts: list[Part] = [tracks] if motion is None else [tracks, motion]
            (poses,) = self._stage([Packet(frame=frame, parts=parts)])
        finally:
            del self._pixels[n]
        return poses

    def _source(self, width: int, height: int) -> SourceInfo:
        return SourceInfo(
            id=SOURCE,
            label=SOURCE,
            width=width,
            height=height,
            fps=self._clock.fps or 0,
            live=False,
            ground_plane=self._plane,
        )

    def __repr__(self) -> str:
        return f"PoseEstimator({self.config.weights!r})"


def _boxes(people: Detections | ArrayLike) -> Array:
    """Return checked boxes (N, 4); DataError for anything else."""
    if isinstance(people, Detections):
        check_detections(people, WHERE)
        return people.boxes
    try:
        boxes = np.asarray(people, np.float32)
    except (TypeError, ValueError, OverflowError):
        boxes = np.array(0, np.float32)
    if not boxes.ndim:
        raise DataError(
            f"{WHERE}: found a {type(people).__name__}, expected Tracks, Detections or boxes (N, 4)"
        )
    boxes = boxes if boxes.size else boxes.reshape(0, 4)
    return Detections.of(boxes, np.ones(len(boxes))).boxes
