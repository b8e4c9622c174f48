"""How well people were followed: TrackEval's HOTA, CLEAR-MOT and identity scores, in memory.

    scores = evaluate(sequence, Path("out/tracks.txt"))
    every = evaluate_all([(sequence, results), …])  # the last one is COMBINED

MOT15 sequences are scored on all their boxes. In MOT16 and later only pedestrians count: a result
that best matches a distractor is removed before scoring, as is ground truth with flag 0.
Image space matches at IoU >= 0.5; ground space at a distance of at most 1 m.
"""

import contextlib
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from streamvis.errors import DataError, UsageError
from streamvis.evaluation.motchallenge import (
    DISTRACTORS,
    PEDESTRIAN,
    Rows,
    Sequence,
    read_results,
)
from streamvis.geometry import foot, iou, read_ground_plane, to_ground
from streamvis.messages import Array

Space = Literal["image", "ground"]

COMBINED = "COMBINED"
ZERO_AT_M = 2.0  # similarity falls from 1 to 0 over this distance, so 0.5 is 1 m
EPS = float(np.finfo(float).eps)


class Alike(NamedTuple):
    """One frame: people who count, results that count, how alike they are."""

    truth: Array  # (T,) rows of the truth
    results: Array  # (R,) rows of the results
    alike: Array  # (T, R) IoU, or on the ground 1 at 0 m, 0.5 at 1 m


@dataclass(frozen=True)
class MotScores:
    """Scores of one sequence, or of several combined; shares in [0, 1], the rest counts."""

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
    metrics = _metrics()
    tallies: list[dict[str, Any]] = [{} for _ in metrics]  # of each metric, by sequence
    for sequence, results in pairs:
        if sequence.name in tallies[0]:
            raise DataError(f"two sequences are called {sequence.name}; give each one once")
        data = _matches(sequence, results, space)
        for metric, tally in zip(metrics, tallies, strict=True):
            tally[sequence.name] = _quietly(metric.eval_sequence, data)
    if not tallies[0]:
        raise DataError("no sequence to evaluate")
    scores = [_scores(name, [tally[name] for tally in tallies], space) for name in tallies[0]]
    together = [
        _quietly(metric.combine_sequences, tally)
        for metric, tally in zip(metrics, tallies, strict=True)
    ]
    return [*scores, _scores(COMBINED, together, space)]


def _metrics() -> list[Any]:
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from trackeval.metrics import CLEAR, HOTA, Identity
    except ImportError as error:
        raise UsageError(
            f"tracking is scored by TrackEval, which is not installed ({error}). "
            "Install it with: pip install 'streamvis[eval]'"
        ) from None
    half = {"THRESHOLD": 0.5, "PRINT_CONFIG": False}
    return [HOTA(), CLEAR(dict(half)), Identity(dict(half))]


def _quietly(score: Callable[[Any], Any], data: Any) -> Any:
    """TrackEval prints its timing once anyone in the process has asked it to."""
    with contextlib.redirect_stdout(io.StringIO()):
        return score(data)


def _scores(name: str, counted: list[Any], space: Space) -> MotScores:
    hota, clear, identity = counted
    motp = float(clear["MOTP"])
    if space == "ground" and clear["CLR_TP"]:
        motp = 1 - (1 - motp) * ZERO_AT_M  # similarity -> 1 − distance / 1 m
    return MotScores(
        name=name,
        hota=float(np.mean(hota["HOTA"])),
        deta=float(np.mean(hota["DetA"])),
        assa=float(np.mean(hota["AssA"])),
        mota=float(clear["MOTA"]),
        motp=motp,
        idf1=float(identity["IDF1"]),
        idp=float(identity["IDP"]),
        idr=float(identity["IDR"]),
        idsw=int(clear["IDSW"]),
        mt=int(clear["MT"]),
        pt=int(clear["PT"]),
        ml=int(clear["ML"]),
        frag=int(clear["Frag"]),
        tp=int(clear["CLR_TP"]),
        fp=int(clear["CLR_FP"]),
        fn=int(clear["CLR_FN"]),
        people=int(clear["MT"] + clear["PT"] + clear["ML"]),
    )


def _matches(sequence: Sequence, results: Rows | Path, space: Space) -> dict[str, Any]:
    """What TrackEval's metrics read: dense ids and similarities, frame by frame."""
    truth, results, frames = similarities(sequence, results, space)
    gt_ids, gt_count = _dense(truth.ids, [frame.truth for frame in frames])
    tracker_ids, tracker_count = _dense(results.ids, [frame.results for frame in frames])
    return {
        "seq": sequence.name,
        "num_timesteps": sequence.length,
        "gt_ids": gt_ids,
        "num_gt_ids": gt_count,
        "num_gt_dets": sum(map(len, gt_ids)),
        "tracker_ids": tracker_ids,
        "num_tracker_ids": tracker_count,
        "num_tracker_dets": sum(map(len, tracker_ids)),
        "similarity_scores": [frame.alike for frame in frames],
    }


def similarities(
    sequence: Sequence, results: Rows | Path, space: Space = "image"
) -> tuple[Rows, Rows, list[Alike]]:
    """The truth, the results, and how alike those that count are in each frame.

    Frames with neither truth nor results change no score and are left out.
    """
    truth = sequence.truth
    if truth is None:
        raise DataError(f"{sequence.folder} has no gt/gt.txt; it cannot be scored")
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
            keep = ~_on_distractor(truth.classes[t], alike)
            r, alike = r[keep], alike[:, keep]
        scored = (truth.scores[t] != 0) & (truth.classes[t] == PEDESTRIAN)
        frames.append(Alike(t[scored], r, alike[scored]))
    return truth, results, frames


def _grouped(rows: Rows, frames: Array) -> list[Array]:
    """The indexes of the rows of each of these frames."""
    order = np.argsort(rows.frames, kind="stable")
    ends = np.searchsorted(rows.frames[order], frames, side="right")
    return np.split(order, ends[:-1]) if len(frames) else []


def _on_distractor(classes: Array, alike: Array) -> Array:
    """Which results (R,) match a distractor when matched against truth of every class."""
    worth = np.where(alike >= 0.5 - EPS, alike, 0)  # (T, R)
    t, r = linear_sum_assignment(worth, maximize=True)
    found = np.zeros(alike.shape[1], bool)
    found[r] = (worth[t, r] > 0) & np.isin(classes[t], DISTRACTORS)
    return found


def _dense(ids: Array, frames: list[Array]) -> tuple[list[Array], int]:
    """The ids of each frame's rows, renumbered from 0 without gaps, and how many there are."""
    used = np.concatenate([ids[:0], *(ids[index] for index in frames)])
    known = np.unique(used)
    return [np.searchsorted(known, ids[index]) for index in frames], len(known)


def _nearness(a: Array, b: Array) -> Array:
    distance = np.linalg.norm(a[:, None] - b[None], axis=2)  # (T, R) metres
    return np.maximum(0, 1 - distance / ZERO_AT_M)


def _on_ground(sequence: Sequence, rows: Rows) -> Array:
    """World positions (N, 2); where a row has none, its foot point on the ground plane."""
    unknown = ~np.isfinite(rows.world).all(axis=1)
    if not unknown.any():
        return rows.world
    if sequence.ground_plane is None or rows is sequence.truth:
        whose = "ground truth" if rows is sequence.truth else "results"
        raise DataError(
            f"{sequence.folder}: {unknown.sum()} rows of the {whose} have no world coordinates "
            "(columns 8-10), and there is no ground_plane.json to place them by"
        )
    H = np.reshape(read_ground_plane(sequence.ground_plane), (3, 3))
    world = rows.world.copy()
    world[unknown] = to_ground(H, foot(rows.boxes[unknown]))[0]
    return world
