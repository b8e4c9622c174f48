"""A sheet of re-identification's worst mistakes, and a plot of its scores by time lag."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from streamvis.evaluation.reid import LAGS
from streamvis.messages import Array
from streamvis.models.crops import crop
from streamvis.runners.detection import frames_of
from streamvis.runners.reid import ReidResult
from streamvis.viz.plots import over_categories
from streamvis.viz.sheets.reid import TILE, Face, Lineup, Section, lineup_sheet

WORST = 12  # queries of each sequence, of as many people
WIDE = 1.15  # of a person's box, so that a picture of it shows the whole person


def reid_sheet(results: Sequence[ReidResult], name: str) -> Array:
    """Draw the queries answered worst, each beside the people ranked as most similar."""
    return lineup_sheet(f"{name}: the worst mistakes", [_section(one) for one in results])


def plot_auc(path: Path, results: Sequence[ReidResult], name: str) -> None:
    """Write the area under the curve by time lag of all sequences."""
    series = {
        one.sequence.name: [float("nan") if v is None else v for v in one.scores.auc.values()]
        for one in results
    }
    title = f"{name}: same or different?"
    over_categories(path, LAGS, series, title=title, x="time between frames, up to", y="AUC")


def _section(result: ReidResult) -> Section:
    answers, people = result.answers, result.people
    worst = _worst(result)
    rows = {int(answers.queries[i]) for i in worst} | {int(r) for r in answers.best[worst].ravel()}
    pictures = _pictures(result, rows - {-1})
    lineups = []
    for i in worst:
        query = int(answers.queries[i])
        best = [int(row) for row in answers.best[i] if row >= 0]
        faces = [_face(result, pictures[row], query, row) for row in best]
        rank = f"the first right answer has rank {answers.first[i]}"
        title = f"person {people.ids[query]}, frame {people.frames[query]}: {rank}"
        lineups.append(Lineup(title, _face(result, pictures[query], query, query), faces))
    s = result.scores
    note = f"{s.looks} crops, {s.people} people"
    if s.rank1 is not None:
        note += f", {s.queries} queries: rank-1 {s.rank1:.3f}, mAP {s.map:.3f}"
    return Section(result.sequence.name, note, lineups)


def _worst(result: ReidResult) -> Array:
    """Return the worst query of each person, worst first, where the first answer is wrong."""
    answers = result.answers
    order = np.lexsort([-answers.first, answers.precision])
    order = order[answers.first[order] > 1]
    _, first = np.unique(result.people.ids[answers.queries[order]], return_index=True)
    return order[np.sort(first)[:WORST]]


def _pictures(result: ReidResult, rows: set[int]) -> dict[int, Array]:
    """Cut out some people, undistorted, from the video read again."""
    people = result.people
    pictures: dict[int, Array] = {}
    last = max((int(people.frames[row]) for row in rows), default=0)
    with closing(frames_of(result.sequence)()) as reading:
        for frame, pixels in zip(range(1, last + 1), reading, strict=False):
            here = [row for row in rows if people.frames[row] == frame]
            shown = crop(pixels, _fitted(people.boxes[here], *TILE), TILE)
            pictures.update(zip(here, shown, strict=True))
    return pictures


def _fitted(boxes: Array, height: int, width: int) -> Array:
    """Grow boxes (N, 4) about their centres to the shape of a tile."""
    middle, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    unit = WIDE * np.max(size / [width, height], axis=1, keepdims=True)  # px of the frame
    half = np.maximum(unit, 1e-3) * [width, height] / 2
    return np.concatenate([middle - half, middle + half], axis=1)


def _face(result: ReidResult, pixels: Array, query: int, row: int) -> Face:
    people, vectors = result.people, result.embeddings.vectors
    name = f"person {people.ids[row]}"
    if row == query:
        return Face(pixels, (name, ""))
    lag = (people.frames[row] - people.frames[query]) / result.sequence.fps
    alike = float(vectors[row] @ vectors[query])
    lines = (name, f"{alike:.2f} {lag:+.0f} s")
    return Face(pixels, lines, bool(people.ids[row] == people.ids[query]))
