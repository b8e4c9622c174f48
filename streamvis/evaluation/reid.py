"""Scores of re-identification: retrieval, and verification of pairs by time lag.

    scores, retrieval = evaluate(LabelledEmbeddings(vectors, ids, frames, fps=30.0))

Retrieval: each embedding of a sequence is a query, all others are its gallery. Embeddings of the
same person less than `apart_s` away are left out of the gallery, for they are too easy; queries
without a correct match in the gallery are left out as well. Published numbers of `eval reid` use
every tenth frame and people that are at least half visible.

Verification: the area under the ROC curve of cosine similarity between pairs of one person and
pairs of two people at the same time lag; 0.5 is chance. This is the decision that a tracker makes.
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
ANSWERS = 5  # kept for each query
LAGS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # upper limits of the time lags of pairs
LAGS = ("1 frame", *(f"{lag:g} s" for lag in LAGS_S), "more")
BLOCK = 256  # queries per block
CELLS = 1 << 14  # histogram bins of cosines from -1 to 1
TIE = 1e-6  # cosines closer than this are equal
SLACK = 1e-6  # frames; 3 frames at 30 fps are 0.1 s


@dataclass(frozen=True)
class LabelledEmbeddings:
    """Appearance embeddings of the people of one sequence with their identities."""

    vectors: Array  # (N, D) float, of unit length
    ids: Array  # (N,) int, identities
    frames: Array  # (N,) int
    fps: float


@dataclass(frozen=True)
class Retrieval:
    """The ranked gallery of each query with a correct match."""

    queries: Array  # (Q,) rows of the embeddings
    best: Array  # (Q, ANSWERS) most similar rows, best first; -1: no more
    first: Array  # (Q,) rank of the first correct match, from 1
    precision: Array  # (Q,) average precision


@dataclass(frozen=True)
class ReidScores:
    """Scores in [0, 1]; None if undefined."""

    looks: int  # embeddings
    people: int
    queries: int  # embeddings with a correct match in the gallery
    rank1: float | None  # share of queries whose best match is correct
    rank5: float | None  # share of queries with a correct match among the best five
    map: float | None  # mean average precision
    auc: dict[str, float | None]  # time lag -> verification AUC


def people_of(truth: Rows, every: int = EVERY, min_visibility: float = MIN_VISIBILITY) -> Rows:
    """Return evaluated pedestrians of frames 1, 1 + every, … with enough visibility."""
    counts = (truth.classes == PEDESTRIAN) & (truth.scores != 0)
    return truth.where(
        counts & ((truth.frames - 1) % every == 0) & (truth.visibility >= min_visibility)
    )


def evaluate(
    embedded: LabelledEmbeddings, apart_s: float = APART_S
) -> tuple[ReidScores, Retrieval]:
    """Score the embeddings of one sequence; also return the retrieval."""
    retrieval = retrieve(embedded, apart_s)
    asked = len(retrieval.queries) > 0
    scores = ReidScores(
        looks=len(embedded.ids),
        people=len(np.unique(embedded.ids)),
        queries=len(retrieval.queries),
        rank1=float((retrieval.first <= 1).mean()) if asked else None,
        rank5=float((retrieval.first <= 5).mean()) if asked else None,
        map=float(retrieval.precision.mean()) if asked else None,
        auc=verification_auc(embedded),
    )
    return scores, retrieval


def retrieve(embedded: LabelledEmbeddings, apart_s: float = APART_S) -> Retrieval:
    """Rank the gallery of each query by cosine similarity.

    Ties count against the query: a constant embedding ranks every wrong match first.
    """
    found = []
    for rows in _blocks(len(embedded.ids)):
        same = embedded.ids[rows, None] == embedded.ids  # (B, N)
        lag = np.abs(embedded.frames[rows, None] - embedded.frames)  # frames
        right = same & (lag >= max(apart_s * embedded.fps, 1) - SLACK)  # never itself
        alike = _cosines(embedded, rows)
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
    """Return best rows, rank of the first correct match, average precision; inputs (N,)."""
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


def verification_auc(embedded: LabelledEmbeddings) -> dict[str, float | None]:
    """Return the area under the ROC curve of pairs for each time lag.

    Cosines are counted in CELLS bins; pairs within a bin are ties.
    """
    counts = np.zeros((len(LAGS), 2, CELLS), np.int64)
    for rows in _blocks(len(embedded.ids)):
        alike = _cosines(embedded, rows)
        lag = embedded.frames - embedded.frames[rows, None]
        later = lag > 0  # each pair once, none of one frame
        lag, alike = lag[later], alike[later]
        same = (embedded.ids[rows, None] == embedded.ids)[later]
        cell = np.clip((alike + 1) / 2 * CELLS, 0, CELLS - 1).astype(np.int64)
        code = (_lag(lag, embedded.fps) * 2 + same) * CELLS + cell
        counts += np.bincount(code, minlength=counts.size).reshape(counts.shape)
    return {lag: roc_auc(ScoreCounts(*pair)) for lag, pair in zip(LAGS, counts, strict=True)}


def _lag(frames: Array, fps: float) -> Array:
    """Return the index into LAGS."""
    later = 1 + np.searchsorted(np.array(LAGS_S) * fps + SLACK, frames)
    return np.where(frames == 1, 0, later)


def _cosines(embedded: LabelledEmbeddings, rows: Array) -> Array:
    alike = embedded.vectors[rows] @ embedded.vectors.T
    if not np.isfinite(alike).all():
        raise DataError(
            "an embedding is not finite; the weights of its network may be damaged: check them "
            "with `streamvis weights verify`"
        )
    return alike


def _blocks(n: int) -> Iterator[Array]:
    for start in range(0, n, BLOCK):
        yield np.arange(start, min(start + BLOCK, n))
