"""The way of a person before the tracker was sure of the track.

A tracker reports a track after some detections only, together with the time of the first one. At
`WAIT_US` after the report the velocity is known well enough to continue the way backwards to that
time, so that who begins just before a line has crossed it, and who begins in a zone was in it.
"""

import msgspec
import numpy as np

from streamvis.messages import Array
from streamvis.stages.zones.history import UNKNOWN, Kind, Piece
from streamvis.stages.zones.observed import Observed, passed

WAIT_US = 300_000
SHORTEST_US = 100_000  # a velocity from less is too uncertain
LONGEST_US = 500_000  # whoever took longer to be sure of was seen too rarely to know the way

Pair = tuple[int, Kind, int]  # track, and number of a zone or line


class Beginning(msgspec.Struct, array_like=True):
    """A track as it was reported first."""

    first_us: int  # of the first detection
    us: int  # of the report
    box: tuple[float, ...]  # xyxy px
    ground: tuple[float, ...]  # m; NaN without a position on the ground plane


def beginning_of(observed: Observed, row: int) -> Beginning | None:
    """Return how a new track begins, if it was detected before."""
    first_us = int(observed.first_us[row])
    if not (0 < observed.media_us - first_us <= LONGEST_US and observed.seen[row]):
        return None
    box, ground = observed.boxes[row].tolist(), observed.ground[row].tolist()
    return Beginning(first_us, observed.media_us, tuple(box), tuple(ground))


def earlier(number: int, of: Beginning, now: Observed, row: int) -> tuple[Observed, Observed]:
    """Return the track in a straight line at its first detection, and as it was reported."""
    seconds = (of.us - of.first_us) / 1e6
    velocity = now.velocity[row]
    box, ground = np.array(of.box), np.array(of.ground)
    before = (box - seconds * np.tile(velocity, 2), ground - seconds * now.ground_velocity[row])
    return _alone(number, of.first_us, *before, now), _alone(number, of.us, box, ground, now)


def _alone(number: int, us: int, box: Array, ground: Array, now: Observed) -> Observed:
    return msgspec.structs.replace(
        passed(us, now.size),
        ids=np.array([number]),
        boxes=box[None],
        seen=np.array([True]),
        p_exist=np.ones(1),
        variance=np.zeros((1, 4)),
        velocity=np.zeros((1, 2)),
        ground=ground[None],
        ground_velocity=np.zeros((1, 2)),
        ground_variance=np.zeros(1),
        first_us=np.array([us]),
    )


def prepend(earlier: Piece, piece: Piece, group_of: dict[tuple[Kind, int], int]) -> None:
    """Put a piece that ends where another begins before it, wherever both have evidence then."""
    joined = set()
    for group, trail in enumerate(piece.trails):
        before = earlier.trail(group)
        if trail and before and before[-1].us == trail[0].us:
            trail.insert(0, before[0])
            joined.add(group)
    for (kind, index), group in group_of.items():
        first = earlier.first_of(kind, index)
        if group not in joined or UNKNOWN in (first, piece.first_of(kind, index)):
            continue
        if first != piece.first_of(kind, index):
            piece.changes[kind][index] = [
                *earlier.changes[kind].get(index, ()),
                *piece.changes[kind].get(index, ()),
            ]
            piece.set_first(kind, index, first)
        if kind == "line" and (cuts := earlier.cuts.get(index)):
            piece.cuts[index] = [*cuts, *piece.cuts.get(index, ())]
