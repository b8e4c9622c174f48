"""Matching of people and tracks frame by frame, the basis of the CLEAR-MOT counts.

    trace = follow(sequence, results)
    for switch in trace.switches(): …

The matching is that of TrackEval's CLEAR: matches of the previous frame are kept while they are
valid, the rest is assigned for the greatest total similarity.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from streamvis.datasets.motchallenge import Rows, Sequence
from streamvis.evaluation.metrics import EPS
from streamvis.evaluation.mot import Space, similarities
from streamvis.messages import Array

STAY = 1000.0  # weight of keeping a match, in similarities
MISSED = -1


class TrackSpan(NamedTuple):
    """Consecutive frames in which a person has one track, or none."""

    first: int
    last: int
    track: int  # id, or MISSED


class Switch(NamedTuple):
    """An identity switch: the track of a person differs from the previous one."""

    person: int  # id
    before: int  # row of the truth at the last match of the old track
    after: int  # row of the truth at the first match of the new track
    old: int  # row of the results with the old track
    new: int  # row of the results with the new track


@dataclass(frozen=True)
class IdentityTrace:
    """The evaluated rows of ground truth and results, and their matching."""

    truth: Rows
    results: Rows
    people: Array  # (N,) rows of the truth, by frame
    finder: Array  # (N,) matched row of the results, or MISSED
    false: Array  # (F,) unmatched rows of the results, by frame

    def switches(self) -> list[Switch]:
        """Return the identity switches in temporal order."""
        last: dict[int, tuple[int, int]] = {}  # person -> row of the truth and of the results
        found = []
        for row, finder in zip(self.people.tolist(), self.finder.tolist(), strict=True):
            if finder == MISSED:
                continue
            person = int(self.truth.ids[row])
            before, old = last.get(person, (row, finder))
            if self.results.ids[old] != self.results.ids[finder]:
                found.append(Switch(person, before, row, old, finder))
            last[person] = (row, finder)
        return found

    def lives(self) -> dict[int, list[TrackSpan]]:
        """Return the spans of each person, by first appearance; skip frames without truth."""
        lives: dict[int, list[TrackSpan]] = {}
        ids = np.where(self.finder == MISSED, MISSED, self.results.ids[self.finder])
        for row, track in zip(self.people.tolist(), ids.tolist(), strict=True):
            spans = lives.setdefault(int(self.truth.ids[row]), [])
            _extend(spans, int(self.truth.frames[row]), track)
        return lives

    def strays(self) -> list[TrackSpan]:
        """Return the spans in which a track is unmatched, by time."""
        tracks: dict[int, list[TrackSpan]] = {}
        for row in self.false.tolist():
            track = int(self.results.ids[row])
            _extend(tracks.setdefault(track, []), int(self.results.frames[row]), track)
        return sorted(span for spans in tracks.values() for span in spans)


def follow(sequence: Sequence, results: Rows | Path, space: Space = "image") -> IdentityTrace:
    """Match results with the ground truth frame by frame."""
    truth, results, frames = similarities(sequence, results, space)
    together: dict[int, int] = {}  # person -> track, of the last frame that had both
    people, finder, false = [], [], []
    for frame in frames:
        mine = truth.ids[frame.truth]
        theirs = results.ids[frame.results]
        partner = np.full(len(mine), MISSED)  # index into frame.results
        if len(mine) and len(theirs):
            was = np.array([together.get(person, MISSED - 1) for person in mine.tolist()])
            worth = STAY * (was[:, None] == theirs) + frame.alike  # (T, R)
            worth[frame.alike < 0.5 - EPS] = 0
            t, r = linear_sum_assignment(worth, maximize=True)
            sound = worth[t, r] > EPS
            partner[t[sound]] = r[sound]
            together = dict(zip(mine[t[sound]].tolist(), theirs[r[sound]].tolist(), strict=True))
        alone = np.ones(len(theirs), bool)
        alone[partner[partner != MISSED]] = False
        people.append(frame.truth)
        finder.append(np.where(partner == MISSED, MISSED, np.append(frame.results, 0)[partner]))
        false.append(frame.results[alone])
    none = [np.empty(0, np.int64)]
    return IdentityTrace(
        truth,
        results,
        np.concatenate(none + people),
        np.concatenate(none + finder),
        np.concatenate(none + false),
    )


def _extend(spans: list[TrackSpan], frame: int, track: int) -> None:
    if spans and spans[-1].track == track and spans[-1].last == frame - 1:
        spans[-1] = spans[-1]._replace(last=frame)
    else:
        spans.append(TrackSpan(frame, frame, track))
