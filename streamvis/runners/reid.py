"""Re-identification scores: embeddings of the people of the ground truth, compared."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from streamvis.datasets import motchallenge
from streamvis.datasets.motchallenge import Rows
from streamvis.errors import DataError
from streamvis.evaluation.reid import (
    LAGS,
    LabelledEmbeddings,
    ReidScores,
    Retrieval,
    evaluate,
    people_of,
)
from streamvis.messages import Array
from streamvis.runners.detection import frames_of
from streamvis.runners.tables import Table, with_mean

if TYPE_CHECKING:
    from streamvis.models.inference.select import Precision


class CropEmbedder(Protocol):
    """Turns crops (N, *size, 3) uint8 RGB into unit vectors (N, D)."""

    size: tuple[int, int]

    def __call__(self, crops: Array) -> Array: ...


@dataclass(frozen=True)
class ReidResult:
    """The embeddings of one sequence's people, and how well they identify them."""

    sequence: motchallenge.Sequence
    people: Rows
    embeddings: LabelledEmbeddings
    scores: ReidScores
    answers: Retrieval


class _OwnEmbedder:
    """An embedder with weights of streamvis."""

    def __init__(self, weights: str, device: str, precision: "Precision") -> None:
        from streamvis.models.inference.select import accelerate_embedder
        from streamvis.models.weights import load_embedder

        model = load_embedder(weights, device)
        self.size = model.size
        self._embed = accelerate_embedder(model, device, precision)

    def __call__(self, crops: Array) -> Array:
        return self._embed(crops)


def open_embedder(weights: str, device: str, precision: "Precision") -> CropEmbedder:
    """Load an embedder; .onnx files are published networks and run on the CPU."""
    if weights.endswith(".onnx"):
        from streamvis.models.onnx_reid import Teacher

        return Teacher(Path(weights).expanduser())
    return _OwnEmbedder(weights, device, precision)


def read_sequences(paths: Sequence[Path]) -> list[motchallenge.Sequence]:
    """Read sequences; DataError for one that cannot be scored."""
    found = [one for path in paths for one in motchallenge.read_sequences(path)]
    names = [one.name for one in found]
    for one in found:
        if one.truth is None:
            raise DataError(f"{one.folder} has no gt/gt.txt, which has the identities")
        if one.video is None:
            raise DataError(f"{one.folder} has neither the video that seqinfo.ini names nor img1/")
        if names.count(one.name) > 1:
            raise DataError(f"two sequences are called {one.name}; give each one once")
    return found


def score(
    sequence: motchallenge.Sequence,
    embedder: CropEmbedder,
    *,
    every: int,
    apart_s: float,
    min_visibility: float,
) -> ReidResult:
    """Embed everyone in the frames 1, 1 + every, … and rank them by similarity.

    apart_s: least time between a query and its matches. min_visibility: people who are hidden
    more are left out.
    """
    from streamvis.models.crops import crop

    assert sequence.truth is not None
    wanted = people_of(sequence.truth, every, min_visibility)
    by_frame = wanted.by_frame(sequence.length)
    people, vectors = [], [np.empty((0, 1), np.float32)]
    with closing(frames_of(sequence)()) as reading:
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
    embeddings = LabelledEmbeddings(stacked, ordered.ids, ordered.frames, sequence.fps)
    scores, answers = evaluate(embeddings, apart_s)
    if not scores.queries and all(auc is None for auc in scores.auc.values()):
        raise DataError(
            f"{sequence.folder}: nothing to compare among {seen} embeddings of "
            f"{scores.people} people, in one frame of {every} and {apart_s:g} s apart; expected "
            "two people in two frames each: change --every, --apart or --min-visibility"
        )
    return ReidResult(sequence, ordered, embeddings, scores, answers)


def report(results: Sequence[ReidResult]) -> dict[str, Any]:
    """Return the scores by sequence, as JSON holds them."""
    return {one.sequence.name: asdict(one.scores) for one in results}


def tables(results: Sequence[ReidResult], apart_s: float) -> Iterator[Table]:
    """Yield the scores of retrieval, and the areas under the curve by time lag."""
    columns = ("data", "crops", "people", "queries", "rank-1", "rank-5", "mAP")
    named = [(one.sequence.name, one.scores) for one in results]
    rows = [(name, s.looks, s.people, s.queries, s.rank1, s.rank5, s.map) for name, s in named]
    yield with_mean(Table(f"The same person again, {apart_s:g} s apart or more", columns, rows))
    title = "Same or different: AUC by time between frames, up to"
    yield with_mean(Table(title, ("data", *LAGS), [(name, *s.auc.values()) for name, s in named]))
