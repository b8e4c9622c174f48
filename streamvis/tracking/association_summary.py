"""A summary of the association of a frame for each track, as reported in `Tracks`."""

from typing import NamedTuple

import numpy as np
from scipy.special import xlogy

from streamvis.messages import Array
from streamvis.tracking.admission import AdmittedDetections
from streamvis.tracking.association import Pairs


class AssociationSummary(NamedTuple):
    """The association of N tracks, one row each."""

    score: Array  # (N,) of the most probable detection; 0 if a miss is more probable
    detection: Array  # (N,) row of that detection, −1 for a miss
    box: Array  # (N, 4) of that detection; NaN for a miss
    gated: Array  # (N,) number of detections in the gate
    entropy: Array  # (N,) entropy of the association weights in nats


def summarise(found: AdmittedDetections, pairs: Pairs) -> AssociationSummary:
    """Summarise the association weights of each track."""
    n = len(pairs.miss)
    if len(pairs.track) == 0:
        return without_detections(n)
    best = pairs.detection[pairs.best()]  # only read for tracks that have one
    hit = pairs.miss < 0.5
    return AssociationSummary(
        np.where(hit, found.scores[best], 0.0),
        np.where(hit, found.row[best], -1),
        np.where(hit[:, None], found.boxes[best], np.nan),
        np.bincount(pairs.track, minlength=n),
        -xlogy(pairs.miss, pairs.miss) - pairs.of_tracks(xlogy(pairs.hit, pairs.hit)),
    )


def without_detections(n: int) -> AssociationSummary:
    """Return the summary of N tracks in a frame without detections."""
    none, nowhere = np.zeros(n), np.full((n, 4), np.nan)
    return AssociationSummary(none, np.full(n, -1), nowhere, none.astype(np.int64), none)


def join_newborn(
    old: AssociationSummary, alive: Array, found: AdmittedDetections, born: Array
) -> AssociationSummary:
    """Concatenate the rows of the surviving tracks and those of the new tracks."""
    own = np.flatnonzero(born)
    if len(own) == 0 and alive.all():
        return old
    ones = np.ones(len(own), dtype=np.int64)
    new = AssociationSummary(
        found.scores[own], found.row[own], found.boxes[own], ones, np.zeros(len(own))
    )
    pairs = zip(old, new, strict=True)
    return AssociationSummary(*(np.concatenate([was[alive], fresh]) for was, fresh in pairs))
