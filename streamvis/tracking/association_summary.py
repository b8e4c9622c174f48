"""What the detections of a frame are to each track, for those who read the tracks."""

from typing import NamedTuple

import numpy as np
from scipy.special import xlogy

from streamvis.messages import Array
from streamvis.tracking.admission import AdmittedDetections
from streamvis.tracking.association import Pairs


class AssociationSummary(NamedTuple):
    """Columns of N tracks."""

    score: Array  # (N,) of the most probable detection, 0 when it is more probably missed
    detection: Array  # (N,) its row, −1 when missed
    gated: Array  # (N,) detections in the gate
    entropy: Array  # (N,) nats, of the association weights


def summarise(found: AdmittedDetections, pairs: Pairs) -> AssociationSummary:
    """From the association weights."""
    n = len(pairs.miss)
    if len(pairs.track) == 0:
        return without_detections(n)
    best = pairs.detection[pairs.best()]  # of any track that has one
    hit = pairs.miss < 0.5
    return AssociationSummary(
        np.where(hit, found.scores[best], 0.0),
        np.where(hit, found.row[best], -1),
        np.bincount(pairs.track, minlength=n),
        -xlogy(pairs.miss, pairs.miss) - pairs.of_tracks(xlogy(pairs.hit, pairs.hit)),
    )


def without_detections(n: int) -> AssociationSummary:
    """N tracks without any detection."""
    return AssociationSummary(np.zeros(n), np.full(n, -1), np.zeros(n, dtype=np.int64), np.zeros(n))


def join_newborn(
    old: AssociationSummary, alive: Array, found: AdmittedDetections, born: Array
) -> AssociationSummary:
    """The links of the tracks that live on, then those of the newborn."""
    own = np.flatnonzero(born)
    ones = np.ones(len(own), dtype=np.int64)
    new = AssociationSummary(found.scores[own], found.row[own], ones, np.zeros(len(own)))
    pairs = zip(old, new, strict=True)
    return AssociationSummary(*(np.concatenate([was[alive], fresh]) for was, fresh in pairs))
