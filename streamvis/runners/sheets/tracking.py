"""The timeline of identities, and a sheet of identity switches."""

from collections.abc import Sequence
from contextlib import closing

import numpy as np

from streamvis.datasets import motchallenge
from streamvis.errors import DataError
from streamvis.evaluation import identities
from streamvis.evaluation.identities import IdentityTrace, Switch
from streamvis.messages import Array
from streamvis.runners.detection import frames_of
from streamvis.runners.tracking import TrackingResult
from streamvis.viz.sheets.switches import Moment, Pair, draw, side_of, switch_page
from streamvis.viz.sheets.timeline import TimelinePanel

MOST_SWITCHES = 60  # on one page


def timeline_panels(
    results: Sequence[TrackingResult], traces: Sequence[IdentityTrace]
) -> list[TimelinePanel]:
    """Collect, for each sequence, which track was on which person over time."""
    return [
        TimelinePanel(
            title=one.sequence.name,
            note=_summary(trace),
            lives=trace.lives(),
            strays=trace.strays(),
            frames=one.sequence.length,
            fps=one.sequence.fps,
        )
        for one, trace in zip(results, traces, strict=True)
    ]


def _summary(trace: IdentityTrace) -> str:
    missed = int(np.sum(trace.finder == identities.MISSED))
    return (
        f"{len(trace.lives())} people, {len(set(trace.results.ids.tolist()))} tracks; of "
        f"{len(trace.people)} boxes {missed} missed, {len(trace.false)} false, "
        f"{_count(len(trace.switches()), 'switch', 'switches')}"
    )


def switch_sheet(results: Sequence[TrackingResult], traces: Sequence[IdentityTrace]) -> Array:
    """Draw id switches: the last frame with the old id beside the first with the new."""
    pairs: list[Pair] = []
    total = 0
    for one, trace in zip(results, traces, strict=True):
        switches = trace.switches()
        total += len(switches)
        pairs += _pairs(one.sequence, trace, switches[: max(0, MOST_SWITCHES - len(pairs))])
    names = ", ".join(one.sequence.name for one in results)
    shown = f", the first {len(pairs)} of them" if len(pairs) < total else ""
    return switch_page(f"{names}: {_count(total, 'id switch', 'id switches')}{shown}", pairs)


def _pairs(
    sequence: motchallenge.Sequence, trace: IdentityTrace, switches: Sequence[Switch]
) -> list[Pair]:
    """Draw the switches; the video is read once, and only crops are kept."""
    moments = [
        (_moment(trace, one.before, one.old), _moment(trace, one.after, one.new))
        for one in switches
    ]
    wanted: dict[int, list[tuple[int, int]]] = {}  # frame -> (switch, 0 before or 1 after)
    for i, pair in enumerate(moments):
        for j, moment in enumerate(pair):
            wanted.setdefault(moment.frame, []).append((i, j))
    crops: dict[tuple[int, int], Array] = {}
    last = max(wanted, default=0)
    with closing(frames_of(sequence)()) as reading:
        for number, pixels in zip(range(1, last + 1), reading, strict=False):
            for i, j in wanted.get(number, ()):
                side = side_of(moments[i], *pixels.shape[:2])
                crops[i, j] = draw(pixels, moments[i][j], side)
    if len(crops) < 2 * len(moments):
        raise DataError(f"{sequence.folder}: the video ends before frame {max(wanted)}")
    return [
        Pair(_lines(sequence, one, *moments[i]), crops[i, 0], crops[i, 1])
        for i, one in enumerate(switches)
    ]


def _moment(trace: IdentityTrace, truth: int, found: int) -> Moment:
    frame = int(trace.truth.frames[truth])
    others = np.flatnonzero(trace.results.frames == frame)
    others = others[others != found]
    return Moment(
        frame=frame,
        person=trace.truth.boxes[truth],
        box=trace.results.boxes[found],
        track=int(trace.results.ids[found]),
        others=trace.results.boxes[others],
        ids=trace.results.ids[others],
    )


def _lines(
    sequence: motchallenge.Sequence, switch: Switch, before: Moment, after: Moment
) -> tuple[str, str]:
    lost = after.frame - before.frame - 1  # frames
    gap = f"lost for {_count(lost, 'frame', 'frames')}, {lost / sequence.fps:.1f} s"
    gap = gap if lost else "at once"
    if before.track in after.ids:
        gap += f"; track {before.track} is elsewhere"
    elif after.track in before.ids:
        gap += f"; track {after.track} came from elsewhere"
    title = f"{sequence.name}, person {switch.person}: track {before.track} -> {after.track}"
    return title, gap


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
