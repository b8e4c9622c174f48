"""Scores of tracking: HOTA, CLEAR-MOT and identity metrics of MOTChallenge sequences.

    scores = evaluate(sequence, Path("out/tracks.txt"))
    every = evaluate_all([(sequence, results), …])  # the last one is COMBINED

MOT15 sequences are scored on all boxes. In MOT16 and later only pedestrians count: results matched
with a distractor are removed before scoring, as is ground truth with flag 0.
Image space matches at IoU >= 0.5; ground space at a distance of at most 1 m.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from streamvis.datasets.motchallenge import (
    DISTRACTORS,
    PEDESTRIAN,
    Rows,
    Sequence,
    read_results,
)
from streamvis.errors import DataError
from streamvis.evaluation.metrics import EPS, Counts, SequenceSimilarities, count
from streamvis.geometry import foot, iou, read_ground_plane, to_ground
from streamvis.messages import Array

Space = Literal["image", "ground"]

COMBINED = "COMBINED"
ZERO_AT_M = 2.0  # similarity falls from 1 to 0 over this distance, so 0.5 is 1 m


class FrameSimilarities(NamedTuple):
    """The evaluated rows of one frame and their similarity."""

    truth: Array  # (T,) rows of the truth
    results: Array  # (R,) rows of the results
    alike: Array  # (T, R) IoU, or on the ground 1 at 0 m, 0.5 at 1 m


@dataclass(frozen=True)
class MotScores:
    """Scores of one sequence, or of several combined: shares in [0, 1], and counts."""

    name: str
    hota: float
    deta: float
    assa: float
    mota: float
    motp: float  # mean IoU of the matches; on the ground 1 − mean distance / 1 m
    idf1: float
    idp: float
    idr: float
    idsw: int
    mt: int  # tracked for more than 80 % of their life
    pt: int
    ml: int  # for less than 20 %
    frag: int
    tp: int
    fp: int
    fn: int
    people: int  # identities in the ground truth


def evaluate(sequence: Sequence, results: Rows | Path, space: Space = "image") -> MotScores:
    """Score results on one sequence."""
    return evaluate_all([(sequence, results)], space)[0]


def evaluate_all(
    pairs: Iterable[tuple[Sequence, Rows | Path]], space: Space = "image"
) -> list[MotScores]:
    """Score results on each sequence, and on all of them together as COMBINED at the end."""
    counts: dict[str, Counts] = {}
    for sequence, results in pairs:
        if sequence.name in counts:
            raise DataError(
                f"two sequences are called {sequence.name}, expected different names; "
                "pass each sequence once"
            )
        counts[sequence.name] = count(_sightings(sequence, results, space))
    if not counts:
        raise DataError("no sequence to evaluate; pass at least one folder of a sequence")
    first, *others = counts.values()
    counts[COMBINED] = sum(others, start=first)
    return [_scores(name, counted, space) for name, counted in counts.items()]


def _scores(name: str, counts: Counts, space: Space) -> MotScores:
    motp = counts.motp
    if space == "ground" and counts.tp:
        motp = 1 - (1 - motp) * ZERO_AT_M  # similarity -> 1 − distance / 1 m
    same = {field.name: getattr(counts, field.name) for field in fields(MotScores)[1:]}
    return MotScores(name, **{**same, "motp": motp})


def _sightings(sequence: Sequence, results: Rows | Path, space: Space) -> SequenceSimilarities:
    """Return dense ids and similarities, frame by frame."""
    truth, results, frames = similarities(sequence, results, space)
    people, number = _dense(truth.ids, [frame.truth for frame in frames])
    tracks, length = _dense(results.ids, [frame.results for frame in frames])
    return SequenceSimilarities(people, tracks, [frame.alike for frame in frames], number, length)


def similarities(
    sequence: Sequence, results: Rows | Path, space: Space = "image"
) -> tuple[Rows, Rows, list[FrameSimilarities]]:
    """Return ground truth, results, and the similarities of evaluated rows in each frame.

    Frames with neither ground truth nor results are left out.
    """
    truth = sequence.truth
    if truth is None:
        raise DataError(
            f"{sequence.folder} has no gt/gt.txt; expected ground truth to score against"
        )
    if isinstance(results, Path):
        results = read_results(results, sequence.length)
    if space == "ground":
        similarity = _nearness
        truth_at, results_at = _on_ground(sequence, truth), _on_ground(sequence, results)
    else:
        similarity = iou
        truth_at, results_at = truth.boxes, results.boxes

    frames = []
    present = np.union1d(truth.frames, results.frames)
    for t, r in zip(_grouped(truth, present), _grouped(results, present), strict=True):
        alike = similarity(truth_at[t], results_at[r])  # (T, R)
        if sequence.layout == "MOT16":
            keep = ~on_distractor(truth.classes[t], alike)
            r, alike = r[keep], alike[:, keep]
        scored = (truth.scores[t] != 0) & (truth.classes[t] == PEDESTRIAN)
        frames.append(FrameSimilarities(t[scored], r, alike[scored]))
    return truth, results, frames


def _grouped(rows: Rows, frames: Array) -> list[Array]:
    """Return the row indices of each of these frames."""
    order = np.argsort(rows.frames, kind="stable")
    ends = np.searchsorted(rows.frames[order], frames, side="right")
    return np.split(order, ends[:-1]) if len(frames) else []


def on_distractor(classes: Array, alike: Array) -> Array:
    """Whether (R,) results match a distractor when matched with truth of all classes."""
    worth = np.where(alike >= 0.5 - EPS, alike, 0)  # (T, R)
    t, r = linear_sum_assignment(worth, maximize=True)
    found = np.zeros(alike.shape[1], bool)
    found[r] = (worth[t, r] > 0) & np.isin(classes[t], DISTRACTORS)
    return found


def _dense(ids: Array, frames: list[Array]) -> tuple[list[Array], int]:
    """Renumber the ids of each frame from 0 without gaps; also return their number."""
    used = np.concatenate([ids[:0], *(ids[index] for index in frames)])
    known = np.unique(used)
    return [np.searchsorted(known, ids[index]) for index in frames], len(known)


def _nearness(a: Array, b: Array) -> Array:
    distance = np.linalg.norm(a[:, None] - b[None], axis=2)  # (T, R) metres
    return np.maximum(0, 1 - distance / ZERO_AT_M)


def _on_ground(sequence: Sequence, rows: Rows) -> Array:
    """Return world positions (N, 2), from the file or the foot point on the ground plane."""
    unknown = ~np.isfinite(rows.world).all(axis=1)
    if not unknown.any():
        return rows.world
    if sequence.ground_plane is None or rows is sequence.truth:
        whose = "ground truth" if rows is sequence.truth else "results"
        raise DataError(
            f"{sequence.folder}: {unknown.sum()} rows of the {whose} have no world coordinates "
            "(columns 8-10), and the sequence has no ground_plane.json; add one of the two"
        )
    H = np.reshape(read_ground_plane(sequence.ground_plane), (3, 3))
    world = rows.world.copy()
    world[unknown] = to_ground(H, foot(rows.boxes[unknown]))[0]
    return world
