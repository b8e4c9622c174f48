"""CLEAR-MOT, identity and HOTA of one sequence, as counts that add up over sequences.

    total = count(first) + count(second)
    total.mota, total.idf1, total.hota

CLEAR-MOT is Bernardin and Stiefelhagen, 2008; identity Ristani et al., 2016; HOTA Luiten et al.,
2021. Thresholds, ties and empty frames are TrackEval's: the tests hold every number against it.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import numpy as np
from scipy.optimize import linear_sum_assignment

from streamvis.messages import Array

EPS = float(np.finfo(float).eps)
THRESHOLD = 0.5  # of similarity, for CLEAR-MOT and identity
ALPHAS = np.arange(0.05, 0.99, 0.05)  # (19,) thresholds of HOTA
STAY = 1000.0  # weight of keeping a match; outweighs any similarity
NOBODY = -1


class SequenceSimilarities(NamedTuple):
    """Ids and similarities of a sequence, frame by frame; ids run from 0 without gaps."""

    truth: list[Array]  # (T,) ids of people in each frame
    results: list[Array]  # (R,) ids of tracks
    alike: list[Array]  # (T, R) similarity in [0, 1]
    people: int
    tracks: int


@dataclass(frozen=True)
class Counts:
    """The counts of a sequence; counts of several sequences add up."""

    tp: int
    fp: int
    fn: int
    overlap: float  # similarity summed over the matches
    idsw: int
    frag: int
    mt: int  # people tracked for more than 80 % of their life
    pt: int
    ml: int  # for less than 20 %
    idtp: int
    hota_tp: Array  # (19,) matches at each of ALPHAS
    hota_association: Array  # (19,) sum over the matches of their association's Jaccard index

    def __add__(self, other: Self) -> "Counts":
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def people(self) -> int:
        return self.mt + self.pt + self.ml

    @property
    def mota(self) -> float:
        """Multi-object tracking accuracy; 0 without ground truth."""
        truth = self.tp + self.fn
        return (self.tp - self.fp - self.idsw) / truth if truth else 0.0

    @property
    def motp(self) -> float:
        return self.overlap / max(1, self.tp)

    @property
    def idr(self) -> float:
        return self.idtp / max(1, self.tp + self.fn)

    @property
    def idp(self) -> float:
        return self.idtp / max(1, self.tp + self.fp)

    @property
    def idf1(self) -> float:
        return 2 * self.idtp / max(1, 2 * self.tp + self.fn + self.fp)

    @property
    def hota(self) -> float:
        return float(np.mean(np.sqrt(self._deta * self._assa)))

    @property
    def deta(self) -> float:
        return float(np.mean(self._deta))

    @property
    def assa(self) -> float:
        return float(np.mean(self._assa))

    @property
    def _deta(self) -> Array:
        either = 2 * self.tp + self.fn + self.fp - self.hota_tp  # (19,) truth or result, or both
        return self.hota_tp / np.maximum(1, either)

    @property
    def _assa(self) -> Array:
        return self.hota_association / np.maximum(1, self.hota_tp)


def count(sequence: SequenceSimilarities) -> Counts:
    """Count matches, errors and switches of one sequence."""
    truth, results = sum(map(len, sequence.truth)), sum(map(len, sequence.results))
    tp, overlap, idsw, frag, shares = _clear(sequence)
    mt = int(np.sum(shares > 0.8))
    pt = int(np.sum(shares >= 0.2)) - mt
    hota_tp, association = _hota(sequence)
    return Counts(
        tp=tp,
        fp=results - tp,
        fn=truth - tp,
        overlap=overlap,
        idsw=idsw,
        frag=frag,
        mt=mt,
        pt=pt,
        ml=sequence.people - mt - pt,
        idtp=_identity(sequence),
        hota_tp=hota_tp,
        hota_association=association,
    )


def _clear(sequence: SequenceSimilarities) -> tuple[int, float, int, int, Array]:
    """Return matches, their similarity, switches, fragments, tracked share (people,)."""
    tp, overlap, idsw = 0, 0.0, 0
    life, tracked, starts = (np.zeros(sequence.people, int) for _ in range(3))
    latest = np.full(sequence.people, NOBODY)  # the last track of each person at any time before
    current = latest.copy()  # its track in the last frame with people and tracks
    for people, tracks, alike in zip(*sequence[:3], strict=True):
        life[people] += 1
        if not alike.size:
            continue
        worth = STAY * (current[people][:, None] == tracks) + alike  # (T, R)
        worth[alike < THRESHOLD - EPS] = 0
        t, r = linear_sum_assignment(-worth)
        matched = worth[t, r] > EPS
        t, r = t[matched], r[matched]
        persons, by = people[t], tracks[r]

        idsw += int(np.sum((latest[persons] != NOBODY) & (latest[persons] != by)))
        starts[persons] += current[persons] == NOBODY
        tracked[persons] += 1
        latest[persons] = by
        current[:] = NOBODY
        current[persons] = by
        tp += len(persons)
        overlap += float(alike[t, r].sum())
    frag = int(np.sum(np.maximum(starts - 1, 0)))
    return tp, overlap, idsw, frag, tracked / np.maximum(1, life)


def _identity(sequence: SequenceSimilarities) -> int:
    """Return the matches (IDTP) of the best one-to-one assignment of people and tracks."""
    matches = np.zeros((sequence.people, sequence.tracks))
    for people, tracks, alike in zip(*sequence[:3], strict=True):
        t, r = np.nonzero(alike >= THRESHOLD)
        matches[people[t], tracks[r]] += 1
    t, r = linear_sum_assignment(matches, maximize=True)
    return int(matches[t, r].sum())


def _hota(sequence: SequenceSimilarities) -> tuple[Array, Array]:
    """Return matches and the sum of their association Jaccard index at ALPHAS (19,) each."""
    life, length = np.zeros((sequence.people, 1)), np.zeros((1, sequence.tracks))
    together = np.zeros((sequence.people, sequence.tracks))
    for people, tracks, alike in zip(*sequence[:3], strict=True):
        life[people] += 1
        length[0, tracks] += 1
        rivals = alike.sum(0)[None] + alike.sum(1)[:, None] - alike
        share = np.divide(alike, rivals, out=np.zeros_like(alike), where=rivals > EPS)
        together[np.ix_(people, tracks)] += share
    alignment = together / (life + length - together)

    matches = np.zeros((len(ALPHAS), sequence.people, sequence.tracks))
    for people, tracks, alike in zip(*sequence[:3], strict=True):
        t, r = linear_sum_assignment(-alignment[np.ix_(people, tracks)] * alike)
        matches[:, people[t], tracks[r]] += alike[t, r] >= ALPHAS[:, None] - EPS
    jaccard = matches / np.maximum(1, life + length - matches)
    return matches.sum((1, 2)), (matches * jaccard).sum((1, 2))
