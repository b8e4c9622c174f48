"""The poses of one source: which people are estimated when, their smoothing and their postures.

A frame is taken in two steps. `demand` says whom the network has to look at; `complete` takes the
network's answer, and returns the part. In between the network has answered for all frames of a call
at once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from streamvis.calibration.ground_plane import Pinhole, pinhole
from streamvis.geometry import foot
from streamvis.messages import Array, Frame, Motion, Poses, SourceInfo, Tracks
from streamvis.stages.pose import PoseEstimation
from streamvis.stages.pose.keypoints import POSTURES
from streamvis.stages.pose.postures import ground_plane, image_plane, postures
from streamvis.stages.pose.smoothing import KeypointFilter, Measured
from streamvis.tracking.tubelets import watched

EARLY = 0.05  # of the time between estimates: containers round time stamps
Size = tuple[int, int]  # width, height in px
Estimate = tuple[Array, Array, Array]  # points (n, 17, 2), scores (n, 17), covariances
NONE: Estimate = (np.zeros((0, 17, 2)), np.zeros((0, 17)), np.zeros((0, 17, 2, 2)))


class Demand(NamedTuple):
    """The people of one frame whom the network looks at."""

    frame: Frame
    tracks: Tracks | None  # None: the tracker had no part for the frame
    due: bool  # whether people are estimated in this frame
    ids: Array  # (n,) int64, ascending
    boxes: Array  # (n, 4) xyxy px
    still: Array  # (K,) int64: ids estimated before, since when nothing has moved
    keypoints: KeypointFilter  # of the stream epoch of the frame
    warp: Array | None  # (2, 3) motion of the camera since the previous frame
    camera: Pinhole | None  # that sees the ground plane in pictures of this size


class SourcePoses:
    """The keypoints of the people of one source over its stream epochs."""

    def __init__(self, config: PoseEstimation, source: SourceInfo) -> None:
        self.config = config
        self.every_us = round(config.interval_s * 1e6)
        self.plane = source.ground_plane
        self.resize(source.width, source.height)

    def restart(self) -> None:
        """Forget all people; the next frame is sampled."""
        self.next_us: int | None = None  # when the next estimates are due; None: at once
        self.already: set[int] = set()  # ids that were chosen last
        self.fresh: set[int] = set()  # ids that have not moved since they were estimated
        self.keypoints = KeypointFilter(self.config.min_score)

    def resize(self, width: int, height: int) -> None:
        """Forget all people: pixels of another size are in other places."""
        self.camera = camera_of(self.plane, (width, height))
        self.restart()

    def demand(self, frame: Frame, tracks: Tracks | None, motion: Motion | None = None) -> Demand:
        """Return whom the network looks at in the next frame."""
        warp = motion.warp if motion is not None and motion.support > 0 else None
        none = Demand(
            *(frame, tracks, False, np.zeros(0, np.int64), np.zeros((0, 4))),
            *(np.zeros(0, np.int64), self.keypoints, warp, self.camera),
        )
        if tracks is None:
            return none
        self.fresh &= set() if tracks.held is None else set(tracks.ids[tracks.held].tolist())
        still = np.array(sorted(self.fresh), np.int64)
        if not self._due(frame.media_us):
            return none._replace(still=still)
        sides = (tracks.boxes[:, 2:] - tracks.boxes[:, :2]).astype(np.float64)
        sound = np.isfinite(tracks.boxes).all(axis=1) & (sides > 0).all(axis=1)
        looked = sound & tracks.supported & ~np.isin(tracks.ids, still)
        sizes = dict(
            zip(tracks.ids[looked].tolist(), sides[looked].max(axis=1).tolist(), strict=True)
        )
        chosen = watched(sizes, self.already, self.config.people, self.config.min_height)
        self.already = chosen
        self.fresh |= chosen
        rows = np.flatnonzero(np.isin(tracks.ids, sorted(chosen)))
        return none._replace(due=True, ids=tracks.ids[rows], boxes=tracks.boxes[rows], still=still)

    def _due(self, media_us: int) -> bool:
        """Whether to estimate: at the first frame at or after each due time, without drift."""
        if self.next_us is None:
            self.next_us = media_us
        if media_us < self.next_us - EARLY * self.every_us:
            return False
        late = media_us - self.next_us
        late_by_all = late >= self.every_us
        self.next_us = (media_us if late_by_all else self.next_us) + self.every_us
        return True

    def complete(self, demand: Demand, found: Estimate) -> Poses:
        """Smooth the network's answer, and return the poses of the frame."""
        frame, tracks, keypoints = demand.frame, demand.tracks, demand.keypoints
        keypoints.predict(frame.media_us, demand.still)
        if demand.warp is not None:
            keypoints.warp(demand.warp)
        if tracks is None:
            return _part(keypoints, np.zeros(0, np.int64), np.zeros(0, bool))
        _correct(keypoints, tracks)
        if len(demand.ids):
            keypoints.measure(_measured(demand, found))
        rows = np.flatnonzero(np.isin(keypoints.ids, tracks.ids))
        sampled = np.isin(keypoints.ids[rows], [*demand.ids, *demand.still]) & demand.due
        part = _part(keypoints, rows, sampled)
        if not sampled.any():
            return part
        clear = np.full((len(rows), len(POSTURES)), np.nan, np.float32)
        boxes = tracks.boxes[np.isin(tracks.ids, part.ids)]
        now = self._postures(part, boxes, demand)[sampled]
        clear[sampled] = keypoints.settle(rows[sampled], now)
        return msgspec.structs.replace(part, postures=clear)

    def _postures(self, part: Poses, boxes: Array, demand: Demand) -> Array:
        size = demand.frame.width, demand.frame.height
        return clear_postures(part, boxes, size, demand.camera, self.config.min_score)

    def state(self) -> bytes:
        """Return people, their filters, and when the next estimates are due."""
        chosen = sorted(self.already), sorted(self.fresh)
        return _encoder.encode(_StoredPoses(self.next_us, *chosen, self.keypoints.state()))

    def restore(self, state: bytes) -> None:
        """Continue from `state`; ValueError or DecodeError on anything else."""
        was = _decoder.decode(state)
        self.next_us, self.already, self.fresh = was.next_us, set(was.already), set(was.fresh)
        self.keypoints.restore(was.keypoints)


class _StoredPoses(msgspec.Struct, array_like=True):
    next_us: int | None
    already: list[int]
    fresh: list[int]
    keypoints: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_StoredPoses)


def unsmoothed(
    found: Estimate, boxes: Array, size: Size, camera: Pinhole | None, min_score: float
) -> Poses:
    """Return the poses of people in boxes (n, 4) of one picture; their ids are their rows."""
    points, scores, covariances = (np.asarray(column, np.float32) for column in found)
    part = Poses(
        ids=np.arange(len(boxes)),
        points=points,
        scores=np.where(_inside(points, size), scores, np.float32(0)),
        covariances=covariances,
        sampled=np.ones(len(boxes), bool),
    )
    clear = clear_postures(part, boxes, size, camera, min_score)
    return msgspec.structs.replace(part, postures=clear)


def clear_postures(
    part: Poses, boxes: Array, size: Size, camera: Pinhole | None, min_score: float
) -> Array:
    """Return how clear each posture is, (N, 4), of people in boxes (N, 4) in a picture."""
    known = (part.scores >= min_score) & _inside(part.points, size)
    points = part.points.astype(np.float64)
    if camera is None:
        return postures(image_plane(points), known)
    return postures(ground_plane(points, foot(boxes).astype(np.float64), camera), known)


def camera_of(plane: Sequence[float] | None, size: Size) -> Pinhole | None:
    """Return the camera that sees a ground plane; None without one, or where it is ambiguous."""
    if plane is None or min(size) < 1:
        return None
    H = np.reshape(plane, (3, 3))
    depth = float(H[2] @ [size[0] / 2, size[1], 1])
    return pinhole(H / depth, size) if depth else None


def _correct(keypoints: KeypointFilter, tracks: Tracks) -> None:
    """Drop tracks that were split, rename those that were merged, drop those that ended."""
    split = [] if tracks.split is None else tracks.split[:, :2].ravel().tolist()
    keypoints.keep(~np.isin(keypoints.ids, split))
    for gone, kept in [] if tracks.merged is None else tracks.merged.tolist():
        if gone != kept and gone in keypoints.ids:
            keypoints.rename(gone, kept)
    keypoints.keep(~np.isin(keypoints.ids, tracks.ended))


def _measured(demand: Demand, found: Estimate) -> Measured:
    """Return the keypoints of the frame; those outside of the picture have the score 0."""
    points, scores, covariances = found
    sizes = (demand.boxes[:, 2:] - demand.boxes[:, :2]).max(axis=1).astype(np.float64)
    inside = _inside(points, (demand.frame.width, demand.frame.height))
    return Measured(demand.ids, sizes, points, np.where(inside, scores, 0), covariances)


def _inside(points: Array, size: Size) -> Array:
    within = (points >= 0) & (points <= size)
    return np.asarray(within.all(axis=-1))


def _part(keypoints: KeypointFilter, rows: Array, sampled: Array) -> Poses:
    return Poses(
        ids=keypoints.ids[rows],
        points=keypoints.points[rows].astype(np.float32),
        scores=keypoints.scores[rows].astype(np.float32),
        covariances=keypoints.covariances[rows].astype(np.float32),
        postures=np.full((len(rows), len(POSTURES)), np.nan, np.float32),
        sampled=sampled,
    )
