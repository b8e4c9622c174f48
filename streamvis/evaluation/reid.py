"""How well looks tell people apart: retrieval after a while, and same or different by time lag.

    scores = evaluate(Looks(vectors, ids, frames, fps=30.0))

Retrieval asks: of all other looks, is the one most alike the same person? All looks of a sequence
ask and answer. Those of the same person less than `apart_s` away in time are too easy: they are
not in the gallery, while other people's are at all times, and who has no right answer in it does
not ask. Looks at every tenth frame, people at least half visible, are what published numbers of
`eval reid` are of.

Same or different asks: of a pair of looks of one person and a pair of two people, both as far
apart in time, which is more alike? 0.5 is guessing. That is what a tracker needs to know.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streamvis.datasets.motchallenge import PEDESTRIAN, Rows
from streamvis.errors import DataError
from streamvis.evaluation.ranking import ScoreCounts, roc_auc
from streamvis.messages import Array

APART_S = 2.0
EVERY = 10  # frames
MIN_VISIBILITY = 0.5
ANSWERS = 5  # best ones that are kept of each query
LAGS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # a pair belongs to the first that it does not exceed
LAGS = ("1 frame", *(f"{lag:g} s" for lag in LAGS_S), "more")
BLOCK = 256  # queries at a time
CELLS = 1 << 14  # of cosines from -1 to 1, when pairs are counted
TIE = 1e-6  # cosines closer than this are equal
SLACK = 1e-6  # frames; 3 frames at 30 fps are 0.1 s


@dataclass(frozen=True)
class LabelledEmbeddings:
    """What the people of one sequence look like, at some moments."""

    vectors: Array  # (N, D) float, of unit length
    ids: Array  # (N,) int, who it is
    frames: Array  # (N,) int
    fps: float


@dataclass(frozen=True)
class Retrieval:
    """What the looks that have a right answer were answered with."""

    queries: Array  # (Q,) rows of the looks
    best: Array  # (Q, ANSWERS) rows most alike, best first; -1 where there are no more
    first: Array  # (Q,) rank of the first right one, from 1
    precision: Array  # (Q,) average precision


@dataclass(frozen=True)
class ReidScores:
    """Shares in [0, 1]; None where there was nothing to measure."""

    looks: int
    people: int
    queries: int  # looks with a right answer
    rank1: float | None  # share of them whose best answer is right
    rank5: float | None  # who have a right one among five
    map: float | None  # mean average precision
    auc: dict[str, float | None]  # time lag -> same pairs more alike than different ones


def people_of(truth: Rows, every: int = EVERY, min_visibility: float = MIN_VISIBILITY) -> Rows:
    """The pedestrians that count of frames 1, 1 + every, … who can be seen well enough."""
    counts = (truth.classes == PEDESTRIAN) & (truth.scores != 0)
    return truth.where(
        counts & ((truth.frames - 1) % every == 0) & (truth.visibility >= min_visibility)
    )


def evaluate(looks: LabelledEmbeddings, apart_s: float = APART_S) -> tuple[ReidScores, Retrieval]:
    """Score the looks of one sequence."""
    answers = retrieve(looks, apart_s)
    asked = len(answers.queries) > 0
    scores = ReidScores(
        looks=len(looks.ids),
        people=len(np.unique(looks.ids)),
        queries=len(answers.queries),
        rank1=float((answers.first <= 1).mean()) if asked else None,
        rank5=float((answers.first <= 5).mean()) if asked else None,
        map=float(answers.precision.mean()) if asked else None,
        auc=verification_auc(looks),
    )
    return scores, answers


def retrieve(looks: LabelledEmbeddings, apart_s: float = APART_S) -> Retrieval:
    """Rank the looks in the gallery of each, the most alike first.

    Among equals those of other people come first: a network that says the same of all is wrong.
    """
    found = []
    for rows in _blocks(len(looks.ids)):
        same = looks.ids[rows, None] == looks.ids  # (B, N)
        lag = np.abs(looks.frames[rows, None] - looks.frames)  # frames
        right = same & (lag >= max(apart_s * looks.fps, 1) - SLACK)  # never itself
        alike = _cosines(looks, rows)
        asks = np.flatnonzero(right.any(1))
        found += [(rows[i], *_rank(alike[i], right[i], ~same[i])) for i in asks]
    queries, best, first, precision = zip(*found, strict=True) if found else ((), (), (), ())
    return Retrieval(
        np.array(queries, np.int64),
        np.array(best, np.int64).reshape(-1, ANSWERS),
        np.array(first, np.int64),
        np.array(precision, np.float64),
    )


def _rank(alike: Array, right: Array, wrong: Array) -> tuple[Array, int, float]:
    """The best rows, the rank of the first right one, average precision; all are (N,)."""
    hits = np.sort(alike[right])[::-1]
    misses = np.sort(alike[wrong])
    ahead = len(misses) - np.searchsorted(misses, hits - TIE)  # of each hit
    rank = np.arange(1, len(hits) + 1)  # among the hits
    value = np.where(right, alike - TIE, np.where(wrong, alike, -np.inf))
    most = min(ANSWERS, len(value))
    best = np.full(ANSWERS, -1)
    best[:most] = np.argpartition(-value, most - 1)[:most]
    best[:most] = best[np.argsort(-value[best[:most]], kind="stable")]
    best[:most][np.isinf(value[best[:most]])] = -1
    return best, int(ahead[0]) + 1, float((rank / (rank + ahead)).mean())


def verification_auc(looks: LabelledEmbeddings) -> dict[str, float | None]:
    """The area under the ROC curve of pairs, by the time between them.

    Cosines are counted in CELLS cells; within one, pairs are equal, which is worth one half.
    """
    counts = np.zeros((len(LAGS), 2, CELLS), np.int64)
    for rows in _blocks(len(looks.ids)):
        alike = _cosines(looks, rows)
        lag = looks.frames - looks.frames[rows, None]
        later = lag > 0  # each pair once, none within a frame
        lag, alike = lag[later], alike[later]
        same = (looks.ids[rows, None] == looks.ids)[later]
        cell = np.clip((alike + 1) / 2 * CELLS, 0, CELLS - 1).astype(np.int64)
        code = (_lag(lag, looks.fps) * 2 + same) * CELLS + cell
        counts += np.bincount(code, minlength=counts.size).reshape(counts.shape)
    return {lag: roc_auc(ScoreCounts(*pair)) for lag, pair in zip(LAGS, counts, strict=True)}


def _lag(frames: Array, fps: float) -> Array:
    """Index into LAGS."""
    later = 1 + np.searchsorted(np.array(LAGS_S) * fps + SLACK, frames)
    return np.where(frames == 1, 0, later)


def _cosines(looks: LabelledEmbeddings, rows: Array) -> Array:
    alike = looks.vectors[rows] @ looks.vectors.T
    if not np.isfinite(alike).all():
        raise DataError("a look's vector is not finite; its network's weights may be damaged")
    return alike


def _blocks(n: int) -> Iterator[Array]:
    for start in range(0, n, BLOCK):
        yield np.arange(start, min(start + BLOCK, n))
