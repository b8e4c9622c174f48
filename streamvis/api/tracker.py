"""The tracker of one video, without torch."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from streamvis.api.checks import (
    FrameClock,
    check_detections,
    check_looks,
    check_motion,
    check_picture,
    check_plane,
    check_size,
    configured,
)
from streamvis.api.settings import TrackerSettings
from streamvis.errors import UsageError
from streamvis.geometry import read_ground_plane
from streamvis.messages import Array, Detections, Embeddings, Motion, SourceInfo, Tracks
from streamvis.stages.track import Jipda
from streamvis.tracking import tracker
from streamvis.tracking.look_demand import Look

if TYPE_CHECKING:
    from streamvis.stages.camera_motion.stage import PreviousFrame

WHERE = "Tracker"
Embed = Callable[[Array, Detections], Embeddings]  # an Embedder: picture, people -> a row for each


class Tracker:
    """Tracks the people of one video, frame after frame, by JIPDA.

    fps: frames per second, unless each update has its `time_s`. size: width and height of the
    frames, unless the first update has a picture. ground_plane: a file of `streamvis calibrate`,
    to track in metres. Settings are those of `jipda` (docs/settings.md).
    """

    def __init__(
        self,
        fps: float | None = None,
        *,
        size: tuple[int, int] | None = None,
        ground_plane: str | Path | None = None,
        **settings: Unpack[TrackerSettings],
    ) -> None:
        self.config = configured(Jipda, WHERE, {**settings})
        self._clock = FrameClock(fps, WHERE)
        self._size = None if size is None else check_size(size, WHERE)
        plane = check_plane(ground_plane, WHERE)
        self._plane = None if plane is None else read_ground_plane(plane)
        self._tracker: tracker.Tracker | None = None
        self._camera: PreviousFrame | None = None

    def update(
        self,
        found: Detections | None,
        looks: Embeddings | Embed | None = None,
        *,
        picture: Array | None = None,
        motion: Motion | None = None,
        time_s: float | None = None,
    ) -> Tracks:
        """Update with the next frame and return its confirmed tracks.

        found: the detections; None: the frame was not searched, tracks are predicted. looks: their
        embeddings; or an Embedder, which is given the picture and those people whose embeddings
        are needed. picture: the frame (H, W, 3) uint8 RGB, from which the camera's motion is
        estimated; or that motion itself, as `motion`. time_s: media time, increasing.

        Raises DataError or UsageError, and is then as before the call. After an error of the
        Embedder itself the frame is half done: go on with a new Tracker.
        """
        self._check(found, looks, picture, motion)
        media_us = self._clock.at(time_s)
        tracking = self._sized(picture)
        if picture is not None and motion is None and self.config.camera != "fixed":
            motion = self._motion_to(picture)
        self._clock.advance(media_us, given=time_s is not None)
        if found is None:
            return tracking.coast(media_us, motion)
        return tracking.update(found, media_us, _of_rows(looks, picture, found), motion)

    def _check(
        self,
        found: Detections | None,
        looks: Embeddings | Embed | None,
        picture: Array | None,
        motion: Motion | None,
    ) -> None:
        if found is not None:
            check_detections(found, WHERE)
        if callable(looks):
            if picture is None and found is not None:
                raise UsageError(
                    "Tracker: an Embedder needs the frame: update(found, embed, picture=rgb)"
                )
        elif looks is not None:
            check_looks(looks, found, WHERE)
        elif self._tracker is None and self.config.mode in ("jipda_embed", "gnn_embed"):
            raise UsageError(
                f"Tracker: mode {self.config.mode} needs embeddings: update(found, looks)"
            )
        if picture is not None:
            check_picture(picture, WHERE)
        if motion is not None:
            check_motion(motion, WHERE)
        elif picture is None and self._tracker is None and self.config.camera == "moving":
            raise UsageError(
                "Tracker: camera='moving' needs the camera's motion: update(found, picture=rgb)"
            )

    def _sized(self, picture: Array | None) -> tracker.Tracker:
        """Return the tracker, made for frames of this size or resized to it."""
        size = self._size if picture is None else (picture.shape[1], picture.shape[0])
        if self._tracker is None:
            if size is None:
                raise UsageError(
                    "Tracker: the size of the frames is unknown; give size=(width, height), or a "
                    "picture with the first frame: update(found, picture=rgb)"
                )
            info = SourceInfo(
                id="video",
                label="video",
                width=size[0],
                height=size[1],
                fps=self._clock.fps or 0,
                live=False,
                ground_plane=self._plane,
            )
            self._tracker = tracker.Tracker(info, self.config)
        elif picture is not None and size is not None and size != self._tracker.size:
            self._tracker.resize(*size)
        return self._tracker

    def _motion_to(self, picture: Array) -> Motion:
        if self._camera is None:
            # OpenCV, which trackers without pictures do not need
            from streamvis.stages.camera_motion.stage import PreviousFrame

            self._camera = PreviousFrame()
        return self._camera.motion_to(picture)

    def __repr__(self) -> str:
        return f"Tracker(fps={self._clock.fps}, mode={self.config.mode!r})"


def _of_rows(
    looks: Embeddings | Embed | None, picture: Array | None, found: Detections
) -> Embeddings | Look | None:
    """Return the embeddings as the tracker takes them; an Embedder is called when it asks."""
    if looks is None or isinstance(looks, Embeddings) or picture is None:
        return None if callable(looks) else looks

    def look(rows: Array) -> Array:
        some = found[rows]
        vectors = looks(picture, some)
        check_looks(vectors, some, WHERE)
        return vectors.vectors

    return look
