"""What a tracker believes of its tracks, frame by frame, beside the ground truth.

    beliefs = observe(sequence, Jipda(), frames)

The tracker's own state is read after each update. What it predicted is read from a second tracker,
which is given the same state and then coasts to the frame.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from streamvis.config import Jipda
from streamvis.datasets.motchallenge import PEDESTRIAN, Rows, Sequence
from streamvis.errors import DataError
from streamvis.evaluation.consistency import TrackBeliefs, blank, concatenated
from streamvis.geometry import iou, read_ground_plane
from streamvis.messages import Array, SourceInfo, Tracks
from streamvis.runners.tracker_inputs import TrackerFrame
from streamvis.tracking.admission import admit
from streamvis.tracking.state_space import H_STATE, MEASURED, StateSpace
from streamvis.tracking.tracker import Tracker

SURE = 0.05  # nats, entropy of an association that leaves no doubt
ON = 0.5  # least IoU of a track that is on a person
FOLLOWS = 0.2  # least IoU of a track that follows a person, well or badly
KEEP = 0.3  # in IoU, by how much a track rather follows the person whom it followed before
EDGE = 0.05  # box heights from the picture's edge
SLOPE_S = 0.2  # to both sides: the time over which a person's velocity is taken


class TrueStates(NamedTuple):
    """The people of a frame, and their states in the tracker's space."""

    ids: Array  # (M,)
    boxes: Array  # (M, 4)
    scored: Array  # (M,) bool
    x: Array  # (M, 6) NaN where not known
    velocity_variance: Array  # (M,)


class Pairing(NamedTuple):
    """The confirmed tracks of a frame, K, and the people whom they follow."""

    rows: Array  # (K,) of the tracker's tracks
    boxes: Array  # (K, 4)
    right: Array  # (K,) 1 on a person, 0 on nobody, NaN on one who is not scored
    person: Array  # (K,) row of the truth, −1: nobody


def observe(sequence: Sequence, config: Jipda, frames: Iterable[TrackerFrame]) -> TrackBeliefs:
    """Track the frames, and compare the tracker's state with the truth after each of them.

    Raises DataError without ground truth.
    """
    if sequence.truth is None:
        raise DataError(f"{sequence.folder} has no gt/gt.txt; expected ground truth to compare")
    plane = sequence.ground_plane
    source = SourceInfo(
        id=sequence.name,
        label=sequence.name,
        width=sequence.width,
        height=sequence.height,
        fps=sequence.fps,
        live=False,
        ground_plane=None if plane is None else read_ground_plane(plane),
    )
    return observe_source(source, sequence.truth, config, frames)


def observe_source(
    source: SourceInfo, truth: Rows, config: Jipda, frames: Iterable[TrackerFrame]
) -> TrackBeliefs:
    """Track the frames of a source; see `observe`."""
    tracker, before = Tracker(source, config), Tracker(source, config)
    people = _People(truth, source.fps, tracker.space)
    followed: dict[int, int] = {}  # track -> the person whom it was last seen on
    found = []
    for frame in frames:
        before.restore(tracker.state())
        before.coast(frame.media_us, frame.motion)
        tracks = tracker.update(frame.detections, frame.media_us, frame.embeddings, frame.motion)
        there = people.at(frame.number, still=not _moving(tracker))
        pairing = _pair(tracker, there, frame.media_us, followed)
        beliefs = _beliefs(tracker, there, pairing, frame)
        beliefs.frame_s[:] = 1 / source.fps
        _add_detections(beliefs, tracker, before, tracks, there, pairing, frame)
        found.append(beliefs)
    return concatenated(found, apart=False)


class _People:
    """The true states of people: anchor and size from their boxes, velocity from a line fit."""

    def __init__(self, truth: Rows, fps: float, space: StateSpace) -> None:
        self.truth, self.fps = truth, fps
        sound = np.all(truth.boxes[:, 2:] > truth.boxes[:, :2], axis=1)
        boxes = np.where(sound[:, None], truth.boxes, [0.0, 0.0, 1.0, 1.0])
        measured = space.measure(boxes, np.zeros(len(boxes)))
        self.x = np.full((len(truth), 6), np.nan)
        known = sound & measured.usable
        self.x[:, MEASURED] = np.where(known[:, None], measured.z, np.nan)
        self.variance = np.full(len(truth), np.nan)
        for person in np.unique(truth.ids):
            self._fit_velocity(np.flatnonzero(truth.ids == person))
        self.by_frame = np.argsort(truth.frames, kind="stable")
        self.frames = truth.frames[self.by_frame]

    def at(self, frame: int, *, still: bool) -> TrueStates:
        """Return who is there; without velocities unless the camera stands still."""
        low, high = np.searchsorted(self.frames, [frame, frame + 1])
        rows, truth = self.by_frame[low:high], self.truth
        x = self.x[rows]
        if not still:
            x[:, 2:4] = np.nan
        scored = (truth.scores[rows] != 0) & (truth.classes[rows] == PEDESTRIAN)
        return TrueStates(truth.ids[rows], truth.boxes[rows], scored, x, self.variance[rows])

    def _fit_velocity(self, rows: Array) -> None:
        """Fit a line to a person's anchors around each frame that has all frames around it."""
        frames = self.truth.frames[rows]
        reach = max(round(SLOPE_S * self.fps), 1)
        t = np.arange(-reach, reach + 1) / self.fps  # its mean is 0
        row_of = dict(zip(frames.tolist(), rows.tolist(), strict=True))
        for row, frame in zip(rows.tolist(), frames.tolist(), strict=True):
            around = [row_of.get(frame + i, -1) for i in range(-reach, reach + 1)]
            if min(around) < 0:
                continue
            at = self.x[around, :2] - self.x[around, :2].mean(axis=0)
            self.x[row, 2:4] = t @ at / (t @ t)
            left = at - t[:, None] * self.x[row, 2:4]
            self.variance[row] = (left**2).sum() / (2 * len(t) - 4) / (t @ t)


def _moving(tracker: Tracker) -> bool:
    camera = tracker.config.camera
    return camera == "moving" or (camera == "auto" and tracker.camera.moving)


def _pair(tracker: Tracker, truth: TrueStates, media_us: int, followed: dict[int, int]) -> Pairing:
    """Pair tracks with people; a track that is not seen follows whom it followed before."""
    tracks = tracker.tracks
    boxes = tracker.space.boxes(tracks.x)
    rows = np.flatnonzero((tracks.id > 0) & np.isfinite(boxes).all(axis=1))
    boxes = np.clip(boxes[rows], 0, np.tile(tracker.size, 2))
    alike = iou(boxes, truth.boxes)  # (K, M)
    right = np.zeros(len(rows))
    k, m = _matched(alike, alike >= ON)
    right[k] = np.where(truth.scored[m], 1, np.nan)

    ids = tracks.id[rows].tolist()
    was = np.array([followed.get(i, -1) for i in ids], dtype=np.int64)
    k, m = _matched(alike + KEEP * (was[:, None] == truth.ids), alike >= FOLLOWS)
    seen = tracks.seen_us[rows] >= media_us
    person = np.full(len(rows), -1)
    person[k] = m
    row_of = {int(one): j for j, one in enumerate(truth.ids)}
    for i, one in enumerate(ids):
        if not seen[i]:
            person[i] = row_of.get(followed.get(one, -1), -1)
        elif person[i] >= 0:
            followed[one] = int(truth.ids[person[i]])
    return Pairing(rows, boxes, right, person)


def _matched(worth: Array, allowed: Array) -> tuple[Array, Array]:
    """Return rows and columns of the one-to-one matching of the greatest worth (K, M)."""
    worth = np.where(allowed, worth, 0)
    k, m = linear_sum_assignment(worth, maximize=True)
    good = worth[k, m] > 0
    return k[good], m[good]


def _beliefs(
    tracker: Tracker, truth: TrueStates, pairing: Pairing, frame: TrackerFrame
) -> TrackBeliefs:
    """Return the rows of a frame, with nothing yet of detections."""
    tracks, rows = tracker.tracks, pairing.rows
    beliefs = blank(len(rows))
    beliefs.track[:] = tracks.id[rows]
    beliefs.frame[:] = frame.number
    beliefs.unseen_s[:] = (frame.media_us - tracks.seen_us[rows]) / 1e6
    beliefs.edge[:] = _at_edge(pairing.boxes, tracker.size)
    beliefs.existence[:] = tracks.r[rows]
    beliefs.right[:] = pairing.right
    k = np.flatnonzero(pairing.person >= 0)
    own = pairing.person[k]
    beliefs.error[k] = tracks.x[rows[k]] - truth.x[own]
    beliefs.covariance[:] = tracks.P[rows]
    beliefs.covariance[k, 2:4, 2:4] += truth.velocity_variance[own][:, None, None] * np.eye(2)
    return beliefs


def _at_edge(boxes: Array, size: tuple[int, int]) -> Array:
    margin = EDGE * (boxes[:, 3] - boxes[:, 1])
    x1, y1, x2, y2 = boxes.T
    return (np.minimum(x1, y1) < margin) | (np.maximum(x2 - size[0], y2 - size[1]) > -margin)


def _add_detections(
    beliefs: TrackBeliefs,
    tracker: Tracker,
    before: Tracker,
    tracks: Tracks,
    truth: TrueStates,
    pairing: Pairing,
    frame: TrackerFrame,
) -> None:
    """Compare detections that surely belong to a track with its prediction and with the truth."""
    found = admit(frame.detections, tracker.space, tracker.size)
    row_of = {int(row): j for j, row in enumerate(found.row)}
    sure = (tracks.detection >= 0) & (tracks.entropy < SURE)
    used = dict(zip(tracks.ids[sure].tolist(), tracks.detection[sure].tolist(), strict=True))
    predicted = {key: i for i, key in enumerate(_keys(before))}
    keys = _keys(tracker)
    for k, row in enumerate(pairing.rows.tolist()):
        j, i = row_of.get(used.get(keys[row][0], -1)), predicted.get(keys[row])
        if j is None or i is None:  # no detection, or another track was given this id
            continue
        z, R = found.at.z[j], found.at.R[j]
        beliefs.innovation[k] = z - H_STATE @ before.tracks.x[i]
        beliefs.innovation_covariance[k] = H_STATE @ before.tracks.P[i] @ H_STATE.T + R
        beliefs.noise[k] = R
        if pairing.person[k] >= 0:
            beliefs.detection_error[k] = z - truth.x[pairing.person[k]][MEASURED]


def _keys(tracker: Tracker) -> list[tuple[int, int]]:
    """Return id and beginning of each track, for ids pass from one to another."""
    tracks = tracker.tracks
    return list(zip(tracks.id.tolist(), tracks.first_us.tolist(), strict=True))
