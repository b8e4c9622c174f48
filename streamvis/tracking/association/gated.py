"""Association on gated pairs, a sparse representation of the weights.

K pairs of a track and a detection, ordered by track, then by detection.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from streamvis.geometry import runs
from streamvis.messages import Array
from streamvis.tracking.gating import clusters

Method = Callable[[Array, Array], Array]  # log_miss (N,), log_hit (N, M) -> β (N, M + 1)


class Pairs(NamedTuple):
    """The nonzero β of N tracks and M detections."""

    track: Array  # (K,)
    detection: Array  # (K,)
    hit: Array  # (K,) β_ij
    miss: Array  # (N,) β_i0
    detections: int  # M

    def of_tracks(self, values: Array) -> Array:
        """Return sums (N,) of values (K,) over the pairs of each track."""
        return np.bincount(self.track, values, len(self.miss))

    def of_detections(self, values: Array) -> Array:
        """Return sums (M,) of values (K,) over the pairs of each detection."""
        return np.bincount(self.detection, values, self.detections)

    def best(self) -> Array:
        """Return the pair (N,) of each track's most probable detection, or −1; ties: the first."""
        top = np.zeros(len(self.miss))
        np.maximum.at(top, self.track, self.hit)
        pair = np.flatnonzero(self.hit >= top[self.track])[::-1]
        best = np.full(len(self.miss), -1)
        best[self.track[pair]] = pair
        return best

    def shared(self) -> tuple[Array, Array, Array]:
        """Return Q pairs of tracks i < j with common detections, and Σ_k β_ik β_jk (Q,)."""
        order = np.argsort(self.detection, kind="stable")
        order = order[self.hit[order] > 0]  # hard assignments leave most at 0
        detection, track, hit = self.detection[order], self.track[order], self.hit[order]
        one, other = runs(
            np.arange(1, len(order) + 1), np.searchsorted(detection, detection, "right")
        )
        n = max(len(self.miss), 1)
        key, which = np.unique(track[one] * n + track[other], return_inverse=True)
        return *np.divmod(key, n), np.bincount(which, hit[one] * hit[other], len(key))

    def dense(self) -> Array:
        """Return β (N, M + 1); column 0 is the miss."""
        beta = np.zeros((len(self.miss), self.detections + 1))
        beta[:, 0] = self.miss
        beta[self.track, self.detection + 1] = self.hit
        return beta


def alone(log_miss: Array, track: Array, detection: Array, log_hit: Array, m: int) -> Pairs:
    """Return β of independent tracks from log_miss (N,) and log_hit (K,) of gated pairs."""
    top = log_miss.copy()
    np.maximum.at(top, track, log_hit)
    miss, hit = np.exp(log_miss - top), np.exp(log_hit - top[track])
    total = miss + np.bincount(track, hit, len(miss))
    return Pairs(track, detection, hit / total[track], miss / total, m)


def together(
    log_miss: Array, track: Array, detection: Array, log_hit: Array, m: int, method: Method
) -> Pairs:
    """Return β of competing tracks: `method` is applied to one cluster at a time."""
    pairs = alone(log_miss, track, detection, log_hit, m)
    n = len(log_miss)
    cluster = clusters(track, detection, n).tolist()
    parts: dict[int, tuple[list[int], list[int]]] = {c: ([], []) for c in cluster}
    for i, c in enumerate(cluster):
        parts[c][0].append(i)
    for pair, i in enumerate(track.tolist()):
        parts[cluster[i]][1].append(pair)
    for members, own in parts.values():
        if len(members) == 1:
            continue
        theirs = detection[own].tolist()
        columns = {one: column for column, one in enumerate(sorted(set(theirs)))}
        place = np.searchsorted(members, track[own]), [columns[one] for one in theirs]
        part = np.full((len(members), len(columns)), -np.inf)
        part[place] = log_hit[own]
        beta = method(log_miss[members], part)
        pairs.miss[members] = beta[:, 0]
        pairs.hit[own] = beta[:, 1:][place]
    return pairs
