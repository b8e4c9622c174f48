"""The way of a person before the tracker was sure of the track.

A tracker reports a track after some detections only, together with the time of the first one. At
`WAIT_US` after the report, or when the track ends, the velocity is known well enough to continue
the way backwards, to `BEFORE_US` before that time, as people are there before they are detected:
who begins just before a line has crossed it, and who begins in a zone was in it. That holds also
for who was hidden for seconds after the first detections. A tracker that reports a track with its
first detection needs none of this.
"""

import msgspec
import numpy as np

from streamvis.messages import Array
from streamvis.stages.zones.history import UNKNOWN, Kind, Piece
from streamvis.stages.zones.observed import Observed, passed

WAIT_US = 300_000
BEFORE_US = 300_000
SHORTEST_US = 100_000  # a velocity from less is too uncertain
LONGEST_US = 2_000_000  # farther back a straight way leads elsewhere, or the id is an older one


class Beginning(msgspec.Struct, array_like=True):
    """A track as it was reported first, and where it has been seen since."""

    first_us: int  # of the first detection
    us: int  # of the report
    box: tuple[float, ...]  # xyxy px
    ground: tuple[float, ...]  # m; NaN without a position on the ground plane
    size: tuple[int, int]  # px
    last_us: int  # of the last detection
    places: list[tuple[float, float, float, float]]  # of detections: x and y, px, of the feet, and
    # on the ground, m
    seconds: list[float]  # of `places`, since the report

    def see(self, observed: Observed, row: int) -> None:
        """Take in another detection."""
        self.last_us = observed.media_us
        x1, _, x2, y2 = observed.boxes[row].tolist()
        x, y = observed.ground[row].tolist()
        self.places.append(((x1 + x2) / 2, y2, x, y))
        self.seconds.append((self.last_us - self.us) / 1e6)

    def velocity(self) -> tuple[Array, Array]:
        """Return the velocity (2,) in px/s and (2,) in m/s: that of the nearest straight way."""
        off = np.array(self.seconds) - np.mean(self.seconds)
        velocity = off @ np.array(self.places) / (off @ off)
        return velocity[:2], velocity[2:]


def beginning_of(observed: Observed, row: int) -> Beginning | None:
    """Return how a new track begins, if it was detected before."""
    first_us, now_us = int(observed.first_us[row]), observed.media_us
    if not (0 < now_us - first_us <= LONGEST_US and observed.seen[row]):
        return None
    columns = (observed.boxes, observed.ground)
    box, ground = (tuple(column[row].tolist()) for column in columns)
    found = Beginning(first_us, now_us, box, ground, observed.size, now_us, [], [])
    found.see(observed, row)
    return found


def earlier(number: int, of: Beginning) -> tuple[Observed, Observed]:
    """Return the track in a straight line before its first detection, and as it was reported.

    Nobody is there before the media begin.
    """
    from_us = max(of.first_us - BEFORE_US, min(of.first_us, 0))
    seconds = (of.us - from_us) / 1e6
    velocity, ground_velocity = of.velocity()
    box, ground = np.array(of.box), np.array(of.ground)
    before = (box - seconds * np.tile(velocity, 2), ground - seconds * ground_velocity)
    return _alone(number, from_us, *before, of.size), _alone(number, of.us, box, ground, of.size)


def _alone(number: int, us: int, box: Array, ground: Array, size: tuple[int, int]) -> Observed:
    return msgspec.structs.replace(
        passed(us, size),
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
