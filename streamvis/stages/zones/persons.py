"""What each id of a stream epoch saw: evidence frame by frame, and corrections of ids.

`touched` collects the pairs of a track and a zone or line whose events may change.
"""

from bisect import insort
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
from scipy.special import ndtr

from streamvis.messages import Array
from streamvis.stages.track.deriver import Merges, Splits
from streamvis.stages.zones.arrangement import Arrangement
from streamvis.stages.zones.beginnings import (
    SHORTEST_US,
    WAIT_US,
    Beginning,
    beginning_of,
    earlier,
    prepend,
)
from streamvis.stages.zones.history import (
    BAND_LEFT,
    LEFT,
    NEAR_LEFT,
    SIDES,
    SPACING_US,
    UNKNOWN,
    Cut,
    Kind,
    Mark,
    Piece,
    Run,
    Transition,
    divide,
    joined_runs,
    mark,
    new_piece,
)
from streamvis.stages.zones.live import LOST, NEVER, NEW, LiveTracks, Rows, index
from streamvis.stages.zones.observed import Observed
from streamvis.stages.zones.occupancy import Placed, placed

LEFTS = (LEFT, NEAR_LEFT, BAND_LEFT)
ABSENT_FRAMES = 3  # of so many, at least, a track is absent before it is taken as lost

Pair = tuple[int, Kind, int]  # track, and number of a zone or line


class Person(msgspec.Struct, array_like=True):
    """The history of one id, after corrections."""

    pieces: list[Piece]  # in order, one at least; the last one grows while the track is alive
    over: bool = False


class Ways(NamedTuple):
    """The ways of K tracks since their last evidence."""

    numbers: list[int]  # of the tracks
    before: Array  # (K, 2) px or m
    points: Array  # (K, 2) now
    since_us: Array  # (K,) of the last evidence


class PersonsState(msgspec.Struct, array_like=True):
    """All that is remembered of persons."""

    persons: dict[int, msgspec.Raw]  # a Person each
    live: bytes
    young: dict[int, Beginning]
    last: tuple[int, int] | None
    interval_us: int | None


class Persons:
    """The persons of one stream epoch, by number of the track."""

    def __init__(self, arrangement: Arrangement) -> None:
        self.arrangement = arrangement
        self.live = LiveTracks(*arrangement.counts)
        self.touched: set[Pair] = set()
        self.soon: dict[Pair, tuple[int, int]] = {}  # the new value of a zone, and when it has held
        # for long enough
        self.corrected: set[int] = set()  # whose history was corrected in the frame
        self.there: set[int] = set()  # whom the frame has: of others, nothing is new
        self._of: dict[int, Person] = {}
        self._encoded: dict[int, msgspec.Raw] = {}  # of persons that have not changed since
        self._young: dict[int, Beginning] = {}  # tracks whose way before the report is not known
        self._now_us = 0
        self.placed: dict[int, Placed] = {}  # in the last frame with tracks, by group
        self._last: tuple[int, int] | None = None  # number and time of the last frame with tracks
        self.interval_us: int | None = None  # between two frames, by those with tracks

    def __contains__(self, number: int) -> bool:
        return number in self._of

    def numbers(self) -> list[int]:
        """Return the numbers of all that are remembered."""
        return list(self._of)

    def is_over(self, number: int) -> bool:
        """Whether a track has ended."""
        return self._of[number].over

    def take(self, observed: Observed) -> None:
        """Take in the positions of the tracks of a frame."""
        numbers = observed.ids.tolist()
        live, self._now_us, self.there = self.live, observed.media_us, set(numbers)
        if not numbers:
            return
        self._measure(observed)
        rows = live.rows_of(observed.ids)
        live.p_exist[rows] = observed.p_exist
        back = live.present_us[rows] == LOST
        live.present_us[rows] = self._now_us
        if back.any():
            for row in np.flatnonzero(back).tolist():
                self._touch_zones(numbers[row])
        if not isinstance(rows, slice):  # else all are known
            self._begin(observed, numbers)
        for g, group in self.arrangement.groups.items():
            self.placed[g] = place = placed(observed, group)
            live.sd[rows, g] = place.deviation
            counts = group.counts(observed, place.known)
            if isinstance(rows, slice) and counts.all():
                self._take_group(observed, g, rows, rows)
            elif len(at := np.flatnonzero(counts)):
                self._take_group(observed, g, at if isinstance(rows, slice) else rows[at], at)
        if self._young:
            self._grow(observed)

    def _begin(self, observed: Observed, numbers: list[int]) -> None:
        """Begin the persons that are new, and go on with those that had ended."""
        for row, number in enumerate(numbers):
            person = self._of.get(number)
            if person is None:
                self._of[number] = Person([new_piece()])
                if beginning := beginning_of(observed, row):
                    self._young[number] = beginning
            elif person.over:
                person.over = False
                self._last_piece(number, new_piece())
                self._touch_zones(number)

    def _measure(self, observed: Observed) -> None:
        """Measure the time between two frames."""
        last, (seq, us) = self._last, (observed.seq, observed.media_us)
        if last is not None and seq > last[0] and us > last[1]:
            self.interval_us = (us - last[1]) // (seq - last[0])
        self._last = seq, us

    def _touch_zones(self, number: int) -> None:
        self.touched |= {(number, "zone", z) for z in self.arrangement.zones}

    def _grow(self, observed: Observed) -> None:
        """Let young tracks get older; those that are old enough begin earlier."""
        for number, beginning in list(self._young.items()):
            row = int(np.searchsorted(observed.ids, number))
            if row < len(observed.ids) and observed.ids[row] == number and observed.seen[row]:
                beginning.see(observed, row)
                if beginning.last_us - beginning.us >= self._wait_us():
                    self._begin_earlier(number)

    def _wait_us(self) -> int:
        """Return how long tracks are young: until then, no visit of theirs has been published."""
        shortest = min((zone.enter_s for zone in self.arrangement.zones.values()), default=1.0)
        return min(WAIT_US, round(shortest * 1e6))

    def _begin_earlier(self, number: int) -> None:
        """Put the way before the report at the beginning of a track, if it is a young one."""
        beginning = self._young.pop(number, None)
        if beginning is None or beginning.last_us - beginning.us < SHORTEST_US:
            return
        path = Persons(self.arrangement)
        for one in earlier(number, beginning):
            path.take(one)
        path._sync_all(number)  # its last mark is where the track was reported
        prepend(path.pieces(number)[0], self.pieces(number)[0], self.arrangement.group_of)
        self.touched |= {(number, *shape) for shape in self.arrangement.group_of}

    def _take_group(self, observed: Observed, g: int, rows: Rows, at: Rows) -> None:
        """Take in the evidence of some tracks (K rows) for the zones and lines of a group."""
        live, group = self.live, self.arrangement.groups[g]
        place = self.placed[g]
        points, last_us = place.points[at], live.last_us[rows, g]  # (K, 2), (K,)
        before = np.where((last_us != NEVER)[:, None], live.last_xy[rows, g], points)
        way = Ways(observed.ids[at].tolist(), before, points, last_us.copy())
        if len(group.zones):
            within = group.within(place.near, len(observed.ids))[at]
            self._take_zones(g, rows, way, within)
        if len(group.lines):
            heights = observed.boxes[at, 3] - observed.boxes[at, 1]
            self._take_lines(g, rows, way, heights)
        # NEVER is long ago
        due = np.flatnonzero(self._now_us - live.marked_us[rows, g] >= SPACING_US)
        for k, xy in zip(due.tolist(), points[due].tolist(), strict=True):
            mark(self._last_piece(way.numbers[k]).trail(g), Mark(self._now_us, *xy))
        live.marked_us[due if isinstance(rows, slice) else rows[due], g] = self._now_us
        live.last_us[rows, g] = self._now_us
        live.last_xy[rows, g] = points

    def _take_zones(self, g: int, rows: Rows, ways: Ways, within: Array) -> None:
        """Remember which tracks have got into a zone, or out of it, on their way."""
        live, group = self.live, self.arrangement.groups[g]
        numbers, before, points, since_us = ways
        inside = within != group.outside
        at = index(rows, group.columns)
        was = live.inside[at].copy()
        changed = inside != was
        for k, z in np.argwhere(changed).tolist():
            last_us, us = int(since_us[k]), self._now_us
            old, new = int(was[k, z]), int(inside[k, z])
            if old != NEW:
                cuts = group.edge_shares(z, before[k].tolist(), points[k].tolist()) or [1.0]
                us = _at(last_us, self._now_us, cuts[-1] if within[k, z] else cuts[0])
            change = Transition(new, us, 0, us - last_us, self._now_us - us)
            self._change(numbers[k], g, ("zone", int(group.zones[z])), old, change)
        live.inside[at] = inside
        beside = group.passes(before, points, ~(changed | within))
        for k, z in np.transpose(beside).tolist():
            cuts = group.edge_shares(z, before[k].tolist(), points[k].tolist())
            if len(cuts) > 1:  # through the polygon between two detections
                last_us, piece = int(since_us[k]), self._last_piece(numbers[k])
                zone, seen_us, old = int(group.zones[z]), self._now_us, int(was[k, z])
                us, left_us = (_at(last_us, seen_us, share) for share in (cuts[0], cuts[-1]))
                piece.changes["zone"].setdefault(zone, []).extend(
                    [
                        Transition(1 - old, us, 0, us - last_us, seen_us - us),
                        Transition(old, left_us, 0, left_us - last_us, seen_us - left_us),
                    ]
                )
                self.touched.add((numbers[k], "zone", zone))

    def _take_lines(self, g: int, rows: Rows, ways: Ways, heights: Array) -> None:
        """Remember on which side of each line tracks are, and where their ways have cut it."""
        live, group = self.live, self.arrangement.groups[g]
        numbers, before, points, since_us = ways
        cuts, share = group.cuts(before, points)
        for k, m in np.argwhere(cuts).tolist():
            last_us = int(since_us[k])
            us = max(_at(last_us, self._now_us, float(share[k, m])), last_us + 1)
            cut = Cut(us, int(cuts[k, m]), last_us, self._now_us)
            piece = self._last_piece(numbers[k])
            piece.cuts.setdefault(int(group.lines[m]), []).append(cut)
        left_of, bands = group.left_of(points), group.bands(heights)
        side = group.side(left_of, bands, heights)
        at = index(rows, group.line_columns)
        was = live.side[at].copy()
        changed = side != was
        left_before = group.left_of(before) if changed.any() else left_of
        for k, m in np.argwhere(changed).tolist():
            last_us = int(since_us[k])
            old, new = int(was[k, m]), int(side[k, m])
            us = until_us = self._now_us
            if old != NEW:
                ends = (float(left_before[k, m]), float(left_of[k, m]))
                us = _at(last_us, self._now_us, _edge_share(ends, new, bands[k, m], 1.0))
                until_us = _at(last_us, self._now_us, _edge_share(ends, old, bands[k, m], 0.0))
                if cuts[k, m]:  # it is beyond the line after it has cut it
                    us = max(us, _at(last_us, self._now_us, float(share[k, m])), last_us + 1)
            us = max(us, until_us)
            change = Transition(new, us, us - until_us, us - last_us, self._now_us - us)
            line: tuple[Kind, int] = ("line", int(group.lines[m]))
            self._change(numbers[k], g, line, int(was[k, m]), change)
        live.side[at] = side

    def _change(
        self, number: int, g: int, shape: tuple[Kind, int], was: int, change: Transition
    ) -> None:
        """Remember the new value of a zone or line of a track."""
        kind, index = shape
        piece = self._last_piece(number)
        if was == NEW and not piece.trail(g):
            piece.set_first(kind, index, change.value)
        else:
            piece.changes[kind].setdefault(index, []).append(change)
        if kind == "line":
            if change.value in SIDES:
                self.touched.add((number, kind, index))
        elif change.value or was == 1:
            timing = self.arrangement.timings["zone", index]
            us = change.us + (timing.begin_us if change.value else timing.end_us)
            if us > self._now_us:
                self.soon[number, "zone", index] = change.value, us
            else:
                self.touched.add((number, "zone", index))

    def _last_piece(self, number: int, new: Piece | None = None) -> Piece:
        """Return the last piece of a person, which is about to change; or add a `new` one."""
        self._encoded.pop(number, None)
        pieces = self._of[number].pieces
        if new is not None:
            pieces.append(new)
        return pieces[-1]

    # what counting reads

    def inside_us(self, number: int, runs: Sequence[Run]) -> int:
        """Return until when a track has been inside of a zone, of which it has these runs.

        That is now for who is in the frame, if only with a predicted box, and was last seen inside.
        """
        if number in self.there and runs[-1].value:
            return self._now_us
        return max(run.to_us for run in runs if run.value)

    def runs(self, number: int, kind: Kind, index: int) -> list[Run]:
        """Return the runs of a track at a zone or line."""
        g, person = self.arrangement.group_of[kind, index], self._of[number]
        self._sync(number, g)
        return joined_runs(person.pieces, kind, index, g)

    def cuts(self, number: int, line: int) -> list[Cut]:
        """Return where the path of a track cuts a line, in order."""
        person = self._of[number]
        cuts = [cut for piece in person.pieces for cut in piece.cuts.get(line, ())]
        for cut in self._joins(person, line):
            insort(cuts, cut)
        return cuts

    def _joins(self, person: Person, k: int) -> Iterator[Cut]:
        """Return where the straight ways between a person's pieces cut a line.

        The sides say whether they do; the positions, which are known less well where a piece was
        divided, whether that is within the segment.
        """
        g = self.arrangement.group_of["line", k]
        pieces = [(piece, trail) for piece in person.pieces if (trail := piece.trail(g))]
        for (one, before), (other, after) in pairwise(pieces):
            was, now = one.last("line", k), other.first_of("line", k)
            if UNKNOWN in (was, now) or (was in LEFTS) == (now in LEFTS):
                continue
            a, b = before[-1], after[0]
            if self.arrangement.groups[g].is_beside(k, np.array([a[1:], b[1:]])):
                yield Cut((a.us + b.us) // 2, 1 if was in LEFTS else -1, a.us, b.us)

    def _sync(self, number: int, g: int) -> None:
        """Bring the last mark of a track's trail up to its last evidence."""
        person, row = self._of[number], self.live.row(number)
        if not person.over and row is not None and self.live.last_us[row, g] != NEVER:
            us, (x, y) = int(self.live.last_us[row, g]), self.live.last_xy[row, g].tolist()
            trail = self._last_piece(number).trail(g)
            if trail:  # else the piece is newer than the evidence
                mark(trail, Mark(us, x, y))

    def _sync_all(self, number: int) -> None:
        for g in self.arrangement.groups:
            self._sync(number, g)

    # corrections

    def correct(self, splits: Splits, merges: Merges) -> list[int]:
        """Apply the splits, then the merges of a frame; return whose history may have changed."""
        involved = {number for split in splits for number in split[:2]}
        involved |= {number for merge in merges for number in merge}
        for number in involved:
            self._encoded.pop(number, None)
        for number in involved & self._of.keys():
            self._sync_all(number)
            self._begin_earlier(number)
        self._split(splits)
        for gone, kept in merges:
            self._merge(gone, kept)
        self.touched = {pair for pair in self.touched if pair[0] not in involved}
        self.corrected |= involved
        for number in involved & self._of.keys():
            self._go_on(number)
        return sorted(involved)

    def _go_on(self, number: int) -> None:
        """Begin a piece, unless the last one ends with the last evidence of the track."""
        person, row = self._of[number], self.live.row(number)
        if person.pieces and row is not None and self._ends_with(person.pieces[-1], row):
            return
        if row is not None:
            self.live.reset(row)
        if row is not None or not person.pieces:
            self._last_piece(number, new_piece())

    def _ends_with(self, piece: Piece, row: int) -> bool:
        """Whether a piece ends with the last evidence of a track, in all groups."""
        known = zip(self.live.last_us[row].tolist(), self.live.last_xy[row].tolist(), strict=True)
        return all(
            (trail[-1] == (us, *xy) if trail else us == NEVER)
            for trail, (us, xy) in ((piece.trail(g), one) for g, one in enumerate(known))
        )

    def _split(self, splits: Splits) -> None:
        """Move what ids saw from some time on to other ids, all at once."""
        moved: list[tuple[int, list[Piece]]] = []
        renamed: dict[int, int] = {}
        for number, other, since_us in splits:
            person = self._of.get(number)
            if person is None:
                continue
            halves = [divide(piece, since_us, self.interval_us or 1) for piece in person.pieces]
            person.pieces = [before for before, _ in halves if before is not None]
            moved.append((other, [after for _, after in halves if after is not None]))
            if self.live.row(number) is not None:
                renamed[number] = other
        for other, pieces in moved:
            self._give(other, pieces)
        for number, other in renamed.items():
            if number not in renamed.values():
                self._of[number].over = True
            self._of[other].over = False
        self.live.rename(renamed)

    def _merge(self, gone: int, kept: int) -> None:
        """Move all that one id saw to another."""
        person = self._of.pop(gone, None)
        if person is None:
            return
        alive = self.live.row(gone) is not None
        over = kept not in self._of or self._of[kept].over
        self._give(kept, person.pieces)
        self._of[kept].over = over and not alive
        if alive:
            self.live.rename({gone: kept})

    def _give(self, number: int, pieces: list[Piece]) -> None:
        """Add pieces to a person; where both have evidence, that which is moved is right."""
        person = self._of.setdefault(number, Person([], over=True))
        for piece in pieces:
            if not any(piece.trails):
                continue
            kept: list[Piece] = []
            for own in person.pieces:
                if not any(own.trails):
                    continue
                before, rest = divide(own, piece.from_us, self.interval_us or 1)
                after = None if rest is None else divide(rest, piece.to_us + 1)[1]
                kept += [part for part in (before, after) if part is not None]
            person.pieces = sorted([*kept, piece], key=lambda one: one.from_us)

    def p_beyond(self, number: int, k: int) -> float:
        """Return the probability that a track exists, on the side of a line where it was seen.

        0.5 where it is not alive.
        """
        g, row = self.arrangement.group_of["line", k], self.live.row(number)
        if row is None:
            return 0.5
        group = self.arrangement.groups[g]
        at = group.lines.tolist().index(k)
        distance = abs(float(group.left_of(self.live.last_xy[row, g][None])[0, at]))
        beyond = float(ndtr(distance / max(float(self.live.sd[row, g]), 1e-9)))
        return round(float(self.live.p_exist[row]) * beyond, 4)

    # absence and ends

    def next_loss_us(self, absent_us: int) -> int:
        """Return when the next track is to be taken as lost if no frame has it until then."""
        if self.interval_us is None:
            return LOST
        return self.live.absent_since() + max(absent_us, ABSENT_FRAMES * self.interval_us)

    def is_away(self, number: int) -> bool:
        """Whether a track has ended, or is taken as lost."""
        return self._of[number].over or self.live.is_lost(number)

    def is_anybody_there(self) -> bool:
        """Whether any track is alive and not taken as lost."""
        return self.live.absent_since() != LOST

    def lose(self) -> list[int]:
        """Take those that are absent longest as lost; return their numbers."""
        return self.live.lose(self.live.absent_since())

    def end(self, numbers: list[int]) -> None:
        """End tracks."""
        for number in numbers:
            self._sync_all(number)
            self._encoded.pop(number, None)
            self._begin_earlier(number)
            self._of[number].over = True

    def drop(self, numbers: list[int]) -> None:
        """Drop the last evidence of tracks that have ended."""
        self.live.drop(set(numbers))

    def old(self, before_us: int) -> list[int]:
        """Return the persons whose tracks ended before a time."""
        return [
            number
            for number, person in self._of.items()
            if person.over
            and all(piece.to_us < before_us for piece in person.pieces if any(piece.trails))
        ]

    def forget(self, number: int) -> None:
        """Forget a person."""
        self._encoded.pop(number, None)
        del self._of[number]

    def pieces(self, number: int) -> list[Piece]:
        """Return the pieces of a person, to be shortened."""
        self._encoded.pop(number, None)
        return self._of[number].pieces

    def widen(self) -> None:
        """Make room for zones, lines and groups that were added."""
        self.live.widen(*self.arrangement.counts)

    def scale(self, x: float, y: float) -> None:
        """Scale what is in pixels: frames have another size."""
        self._encoded.clear()
        self._young.clear()
        for g, group in self.arrangement.groups.items():
            if group.key.space == "ground":
                continue
            self.live.last_xy[:, g] *= (x, y)
            for person in self._of.values():
                for piece in person.pieces:
                    trail = piece.trail(g)
                    trail[:] = [Mark(one.us, one.x * x, one.y * y) for one in trail]

    def state(self) -> PersonsState:
        """Return what `restore` continues from."""
        for number, person in self._of.items():
            if number not in self._encoded:
                self._encoded[number] = msgspec.Raw(_encoder.encode(person))
        encoded = {number: self._encoded[number] for number in self._of}
        live = self.live.encode()
        return PersonsState(encoded, live, self._young, self._last, self.interval_us)

    def restore(self, state: PersonsState) -> None:
        """Continue from a state; ValueError or DecodeError when it is none."""
        self._of = {number: _decoder.decode(raw) for number, raw in state.persons.items()}
        self._young = state.young
        self._last, self.interval_us = state.last, state.interval_us
        self.live.decode(state.live)
        self.widen()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Person)


def _at(last_us: int, now_us: int, share: float) -> int:
    """Return the time at a share of the way between two positions."""
    return last_us + round(share * (now_us - last_us))


def _edge_share(way: tuple[float, float], side: int, band: Array, inner: float) -> float:
    """Return the share of a way at which it meets the edge of a line's band on one side.

    way: how far left of the line it begins and ends. `inner` where the side is in the band.
    """
    if side not in SIDES:
        return inner
    begin, end = way
    edge = float(band[0]) if SIDES[side] == LEFT else -float(band[1])
    return min(max((edge - begin) / (end - begin), 0.0), 1.0) if end != begin else inner
