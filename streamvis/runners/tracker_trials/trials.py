"""Runs of the tracker on thinned copies of inputs, in this process or in several."""

import multiprocessing
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import msgspec
import numpy as np

from streamvis.config import Jipda
from streamvis.datasets import motchallenge
from streamvis.evaluation.mot import evaluate
from streamvis.evaluation.trials import METRICS, TrialScore
from streamvis.messages import Array, Embeddings, SourceInfo
from streamvis.runners.progress import Progress, silent
from streamvis.runners.tracker_inputs import TrackerFrame
from streamvis.runners.tracker_trials.constants import TrialSetting
from streamvis.runners.tracker_trials.inputs import TrialInput, TrialMaterial
from streamvis.tracking.tracker import Tracker

Scores = list[list[TrialScore]]  # by setting
Work = Callable[[TrialInput], Scores]


class Thinning(msgspec.Struct, frozen=True, kw_only=True):
    """Copies of an input, of which each lacks a share of the detections, drawn anew."""

    copies: int = 5
    drop: float = 0.06
    seed: int = 0

    def thinned(self, material: TrialMaterial, copy: int) -> list[TrackerFrame]:
        """Return the frames of a copy; the same for all settings and kinds of embeddings."""
        name = zlib.crc32(material.sequence.name.encode())
        rng = np.random.default_rng([self.seed, copy, name])
        return [_kept(one, rng.random(len(one.detections.boxes)) >= self.drop)
                for one in material.frames]  # fmt: skip


def run(
    inputs: Sequence[TrialInput],
    settings: Sequence[TrialSetting],
    thinning: Thinning,
    *,
    jobs: int = 1,
    progress: Progress = silent,
) -> Scores:
    """Return the scores of each setting, on the same copies of the inputs."""
    work = partial(trials_of, settings=settings, thinning=thinning)
    done = list(progress(_mapped(work, inputs, jobs), "trials", len(inputs)))
    return [[score for of_input in done for score in of_input[i]] for i in range(len(settings))]


def trials_of(one: TrialInput, settings: Sequence[TrialSetting], thinning: Thinning) -> Scores:
    """Return the scores of each setting on the copies of one input."""
    material = one.read()
    copies = [thinning.thinned(material, copy) for copy in range(thinning.copies)]
    found = []
    for setting in settings:
        with setting.applied() as config:
            found.append([
                _score(one, copy, material, track(material, config, frames))
                for copy, frames in enumerate(copies)
            ])  # fmt: skip
    return found


def track(
    material: TrialMaterial, config: Jipda, frames: Iterable[TrackerFrame]
) -> motchallenge.Rows:
    """Return the tracks of these frames."""
    sequence = material.sequence
    info = SourceInfo(
        id=sequence.name,
        label=sequence.name,
        width=sequence.width,
        height=sequence.height,
        fps=sequence.fps,
        live=False,
        ground_plane=material.plane,
    )
    tracker = Tracker(info, config)
    return motchallenge.rows_of_tracks(
        (one.number, tracker.update(one.detections, one.media_us, one.embeddings, one.motion))
        for one in frames
    )


def _score(
    one: TrialInput, copy: int, material: TrialMaterial, rows: motchallenge.Rows
) -> TrialScore:
    scores = evaluate(material.sequence, rows)
    return TrialScore(
        group=one.group,
        sequence=one.sequence,
        inputs=one.inputs,
        copy=copy,
        **{metric: getattr(scores, metric) for metric in METRICS},
    )


def _kept(frame: TrackerFrame, keep: Array) -> TrackerFrame:
    looks = frame.embeddings
    return frame._replace(
        detections=frame.detections[keep],
        embeddings=Embeddings(vectors=looks.vectors[keep]) if looks else None,
    )


def _mapped(work: Work, inputs: Sequence[TrialInput], jobs: int) -> Iterator[Scores]:
    """Yield the scores of each input, in order, computed in so many processes."""
    if jobs == 1:
        yield from map(work, inputs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield from pool.map(work, inputs)
