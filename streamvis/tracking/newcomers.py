"""New people: the existence of tracks that begin with a detection which no other track explains."""

import math

import numpy as np

from streamvis.geometry import overlaps
from streamvis.messages import Array
from streamvis.tracking import existence, track_array
from streamvis.tracking.admission import AdmittedDetections
from streamvis.tracking.identity import PARAMETERS as IDENTITY
from streamvis.tracking.parameters import TrackerParameters
from streamvis.tracking.state_space import H_STATE, MEASURED, StateSpace
from streamvis.tracking.track_array import TrackArray

LONG_S = 1.0  # time without detections after which some of the people may be new


def newborn_existence(
    boxes: Array, scores: Array, log_odds: Array, since_s: float, parameters: TrackerParameters
) -> Array:
    """Return r (M,) of tracks that begin with boxes (M, 4), `since_s` after the last detections.

    From frame to frame few people are new, so that clutter is probable. Of the people in view a
    share 1 − exp(−since_s / lifetime_s) has come since the last detections, all in the first frame.
    Then the score decides, whose log odds for a person are `log_odds` (M,), where no other box
    overlaps: of boxes that overlap one may be a part of another person.
    """
    usual = parameters.birth * scores
    if since_s < LONG_S:
        return usual
    new = -math.expm1(-since_s / parameters.lifetime_s)
    alone = _overlapped(boxes) <= 1 - IDENTITY.clear
    return usual + new * alone * np.maximum(existence.sigmoid(log_odds) - usual, 0)


def _overlapped(boxes: Array) -> Array:
    """Return the largest share (M,) of each box that another one covers."""
    near = overlaps(boxes, boxes)
    most = np.zeros(len(boxes))
    np.maximum.at(most, near.i, near.first * (near.i != near.j))
    return most


def newborn_tracks(
    space: StateSpace,
    found: AdmittedDetections,
    born: Array,
    media_us: int,
    width: int,
    parameters: TrackerParameters,
) -> TrackArray:
    """Return tracks of existence `born` (M,) at the detections where it is above 0.

    `width` of embeddings.
    """
    own = np.flatnonzero(born)
    at = found.at
    new = track_array.blank(len(own), width)
    new.x[:, MEASURED] = at.z[own]
    new.P[:] = H_STATE.T @ at.R[own] @ H_STATE
    speed = parameters.speed * space.body(new.x)
    new.P[:, 2, 2] = new.P[:, 3, 3] = speed**2
    if space.foreshortened:
        new.P[:, 3, 3] *= parameters.foreshortening**2
    new.r = born[own]
    new.first_us[:] = new.seen_us[:] = new.look_us[:] = media_us
    return new
