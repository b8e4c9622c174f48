"""What `streamvis eval reid` does: the people of the ground truth, looked at and told apart."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from streamvis.cli.detection import film
from streamvis.cli.output import put_table, say
from streamvis.datasets import motchallenge
from streamvis.datasets.motchallenge import Rows
from streamvis.errors import DataError
from streamvis.evaluation.reid import LAGS, Answers, Looks, ReidScores, evaluate, people_of
from streamvis.messages import Array

if TYPE_CHECKING:
    from streamvis.models.inference.select import Precision
    from streamvis.viz.sheets.reid import Face, Section

WORST = 12  # lineups of each sequence, of as many people
WIDE = 1.15  # of a person's box, so that a picture of it shows the person whole


class Embedder(Protocol):
    """Crops (N, *size, 3) uint8 RGB in, unit vectors (N, D) out."""

    size: tuple[int, int]

    def __call__(self, crops: Array) -> Array: ...


@dataclass(frozen=True)
class Outcome:
    """How the people of one sequence were told apart."""

    sequence: motchallenge.Sequence
    people: Rows
    looks: Looks
    scores: ReidScores
    answers: Answers


class _Own:
    """An embedder of ours."""

    def __init__(self, weights: str, device: str, precision: "Precision") -> None:
        from streamvis.models.inference.select import accelerate_embedder
        from streamvis.models.weights import load_embedder

        model = load_embedder(weights, device)
        self.size = model.size
        self._embed = accelerate_embedder(model, device, precision)

    def __call__(self, crops: Array) -> Array:
        return self._embed(crops)


def open_embedder(weights: str, device: str, precision: "Precision") -> Embedder:
    """The embedder of these weights; .onnx are other people's, and run on the CPU."""
    if weights.endswith(".onnx"):
        from streamvis.models.onnx_reid import Teacher

        return Teacher(Path(weights).expanduser())
    return _Own(weights, device, precision)


def sequences(paths: Sequence[Path]) -> list[motchallenge.Sequence]:
    """All that can be scored; DataError for what cannot."""
    found = [one for path in paths for one in motchallenge.read_sequences(path)]
    names = [one.name for one in found]
    for one in found:
        if one.truth is None:
            raise DataError(f"{one.folder} has no gt/gt.txt, which says who is who")
        if one.video is None:
            raise DataError(f"{one.folder} has neither the video that seqinfo.ini names nor img1/")
        if names.count(one.name) > 1:
            raise DataError(f"two sequences are called {one.name}; give each one once")
    return found


def score(
    sequence: motchallenge.Sequence,
    embedder: Embedder,
    *,
    every: int,
    apart_s: float,
    min_visibility: float,
) -> Outcome:
    """Look at everyone in the frames 1, 1 + every, … and hold them against each other."""
    from streamvis.models.crops import crop

    assert sequence.truth is not None
    wanted = people_of(sequence.truth, every, min_visibility)
    by_frame = wanted.by_frame(sequence.length)
    people, vectors = [], [np.empty((0, 1), np.float32)]
    with closing(film(sequence)()) as reading:
        for rows, pixels in zip(by_frame, reading, strict=False):
            if len(rows):
                people.append(rows.frames)
                vectors.append(embedder(crop(pixels, rows.boxes, embedder.size)))
    seen = sum(map(len, people))
    if seen < len(wanted):
        raise DataError(
            f"{sequence.folder}: the video ends before frame {wanted.frames.max()}, in which "
            "gt/gt.txt has people"
        )
    ordered = wanted.where(np.argsort(wanted.frames, kind="stable"))
    stacked = np.concatenate(vectors[1:]) if seen else vectors[0]
    looks = Looks(stacked, ordered.ids, ordered.frames, sequence.fps)
    scores, answers = evaluate(looks, apart_s)
    if not scores.queries and all(auc is None for auc in scores.auc.values()):
        raise DataError(
            f"{sequence.folder}: nobody can be told apart: {seen} looks at {scores.people} people "
            f"in one frame of {every}, {apart_s:g} s apart; expected two people seen twice. Look "
            "more often or closer together: --every, --apart, --min-visibility"
        )
    return Outcome(sequence, ordered, looks, scores, answers)


def report(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """As JSON has it."""
    return {one.sequence.name: asdict(one.scores) for one in outcomes}


def put(outcomes: Sequence[Outcome], apart_s: float) -> None:
    """The scores as tables."""
    columns = ("data", "looks", "people", "queries", "rank-1", "rank-5", "mAP")
    rows = []
    for one in outcomes:
        s = one.scores
        shares = (_or_dash(share) for share in (s.rank1, s.rank5, s.map))
        rows.append([one.sequence.name, s.looks, s.people, s.queries, *shares])
    put_table(f"The same person again, {apart_s:g} s apart or more", columns, rows)
    rows = [[o.sequence.name, *(_or_dash(v) for v in o.scores.auc.values())] for o in outcomes]
    put_table("Same or different: AUC by time between looks, up to", ("data", *LAGS), rows)


def _or_dash(value: float | None) -> float | str:
    return "-" if value is None else value


def plot(path: Path, outcomes: Sequence[Outcome], name: str) -> None:
    """Write the area under the curve by time lag of all sequences."""
    from streamvis.viz.plots import over_categories

    series = {
        one.sequence.name: [np.nan if v is None else v for v in one.scores.auc.values()]
        for one in outcomes
    }
    title = f"{name}: same or different?"
    over_categories(path, LAGS, series, title=title, x="time between looks, up to", y="AUC")
    say(f"wrote {path}")


def write_sheet(path: Path, outcomes: Sequence[Outcome], name: str) -> None:
    """Write the people who were mistaken most, each beside those thought most alike, as a PNG."""
    import cv2

    from streamvis.viz.sheets.reid import lineup_sheet

    sheet = lineup_sheet(f"{name}: who was mistaken most", [_section(one) for one in outcomes])
    _, data = cv2.imencode(".png", sheet[..., ::-1])
    path.write_bytes(data.tobytes())
    say(f"wrote {path}")


def _section(outcome: Outcome) -> "Section":
    from streamvis.viz.sheets.reid import Lineup, Section

    answers, people = outcome.answers, outcome.people
    worst = _worst(outcome)
    rows = {int(answers.queries[i]) for i in worst} | {int(r) for r in answers.best[worst].ravel()}
    pictures = _pictures(outcome, rows - {-1})
    lineups = []
    for i in worst:
        query = int(answers.queries[i])
        best = [int(row) for row in answers.best[i] if row >= 0]
        faces = [_face(outcome, pictures[row], query, row) for row in best]
        rank = f"the first right answer is number {answers.first[i]}"
        title = f"person {people.ids[query]}, frame {people.frames[query]}: {rank}"
        lineups.append(Lineup(title, _face(outcome, pictures[query], query, query), faces))
    s = outcome.scores
    note = f"{s.looks} looks, {s.people} people"
    if s.rank1 is not None:
        note += f", {s.queries} queries: rank-1 {s.rank1:.3f}, mAP {s.map:.3f}"
    return Section(outcome.sequence.name, note, lineups)


def _worst(outcome: Outcome) -> Array:
    """Of each person the query answered worst, the worst first; only where the best is wrong."""
    answers = outcome.answers
    order = np.lexsort([-answers.first, answers.precision])
    order = order[answers.first[order] > 1]
    _, first = np.unique(outcome.people.ids[answers.queries[order]], return_index=True)
    return order[np.sort(first)[:WORST]]


def _pictures(outcome: Outcome, rows: set[int]) -> dict[int, Array]:
    """Pictures of some people, undistorted, from the film read once more."""
    from streamvis.models.crops import crop
    from streamvis.viz.sheets.reid import TILE

    people = outcome.people
    pictures: dict[int, Array] = {}
    last = max((int(people.frames[row]) for row in rows), default=0)
    with closing(film(outcome.sequence)()) as reading:
        for frame, pixels in zip(range(1, last + 1), reading, strict=False):
            here = [row for row in rows if people.frames[row] == frame]
            shown = crop(pixels, _fitted(people.boxes[here], *TILE), TILE)
            pictures.update(zip(here, shown, strict=True))
    return pictures


def _fitted(boxes: Array, height: int, width: int) -> Array:
    """Boxes (N, 4) grown about their middle to the shape of a tile."""
    middle, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    unit = WIDE * np.max(size / [width, height], axis=1, keepdims=True)  # px of the frame
    half = np.maximum(unit, 1e-3) * [width, height] / 2
    return np.concatenate([middle - half, middle + half], axis=1)


def _face(outcome: Outcome, pixels: Array, query: int, row: int) -> "Face":
    from streamvis.viz.sheets.reid import Face

    people, vectors = outcome.people, outcome.looks.vectors
    who = f"person {people.ids[row]}"
    if row == query:
        return Face(pixels, (who, ""))
    lag = (people.frames[row] - people.frames[query]) / outcome.sequence.fps
    alike = float(vectors[row] @ vectors[query])
    lines = (who, f"{alike:.2f} {lag:+.0f} s")
    return Face(pixels, lines, bool(people.ids[row] == people.ids[query]))
