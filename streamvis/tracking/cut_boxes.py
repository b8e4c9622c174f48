"""Tracks on the ground whose prediction was wrong, since something had cut their boxes short.

A thing that hides the feet lifts the lower edge, and on the ground plane the foot point moves away
by metres. When the feet are seen again they are out of the gate. No track begins there either: a
detection that overlaps a confirmed track is taken for that person's. So it is a detection of that
track where neither has another choice; the prediction was wrong by the innovation.
"""

from collections.abc import Callable

import numpy as np

from streamvis.geometry import overlaps
from streamvis.messages import Array
from streamvis.tracking import gating, kalman
from streamvis.tracking.admission import AdmittedDetections
from streamvis.tracking.association import Pairs
from streamvis.tracking.parameters import TrackerParameters
from streamvis.tracking.state_space import H_STATE, StateSpace
from streamvis.tracking.track_array import TrackArray

FREE = 0.5  # probability above which a track is missed, and a detection belongs to no track


def same_person_pairs(
    boxes: Array, others: Array, parameters: TrackerParameters
) -> tuple[Array, Array]:
    """Return pairs (K,), (K,) of boxes that may show the same person."""
    near = overlaps(boxes, others)
    close = near.iou > parameters.twin_birth_iou
    close |= near.first > parameters.twin_birth_inside
    return near.i[close], near.j[close]


def cut_short(
    tracks: TrackArray,
    boxes: Array,
    found: AdmittedDetections,
    pairs: Pairs,
    likeness: Callable[[Array, Array], Array] | None,
    least_score: float,
    parameters: TrackerParameters,
) -> tuple[Array, Array]:
    """Return rows of tracks (K,) and their detections (K,), which may lie out of the gates.

    `boxes` (N, 4) of the tracks are predicted, `pairs` is the association, `likeness` the log ratio
    of appearance. Only confirmed tracks that are missed, and detections of `least_score` or more
    that belong to no track, which overlap no other ones of these and do not look different.
    """
    free = (1 - pairs.of_detections(pairs.hit) > FREE) & (found.scores >= least_score)
    missed = (tracks.id > 0) & (pairs.miss > FREE)
    if not (free.any() and missed.any()):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    detection, track = same_person_pairs(found.boxes, boxes, parameters)
    one = free[detection]
    detection, track = detection[one], track[one]
    one = np.bincount(track, minlength=len(boxes))[track] == 1
    one &= np.bincount(detection, minlength=len(free))[detection] == 1
    one &= missed[track]
    detection, track = detection[one], track[one]
    if likeness is not None:
        alike = likeness(track, detection) >= 0
        detection, track = detection[alike], track[alike]
    return track, detection


def widened(
    tracks: TrackArray,
    space: StateSpace,
    found: AdmittedDetections,
    track: Array,
    detection: Array,
    parameters: TrackerParameters,
) -> Array | None:
    """Return covariances (N, D, D) with which these detections are in the gates of these tracks.

    The covariance of a track out of whose gate its detection is grows by the innovation, and that
    of the velocity by a new track's. None where there is no such track.
    """
    x, P, at = tracks.x, tracks.P, found.at
    near = kalman.innovations(x, P, at.z, at.R, H_STATE, track, detection)
    out = near.distance2 > gating.threshold(parameters.p_gate, len(H_STATE))
    if not out.any():
        return None
    track, detection = track[out], detection[out]
    leap = at.z[detection] - x[track] @ H_STATE.T  # (K, 4)
    speed = parameters.speed * space.body(x[track])
    P = P.copy()
    P[track] += (H_STATE.T * leap[:, None] ** 2) @ H_STATE
    P[track[:, None], [2, 3], [2, 3]] += speed[:, None] ** 2
    return P
