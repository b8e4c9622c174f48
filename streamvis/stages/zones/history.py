"""Where people were, as short as counting needs it, and what follows from it. Pure.

A person's history is a list of pieces: what one track id saw without a correction. A piece does not
keep the path, only when it changed between inside and outside of each zone and between the sides of
each line, and where it cut a line. `visits` and `crossings` compute from these, without memory, so
that they can be computed again after ids were merged or split.

Only detections are evidence; between two of them the last value holds. Times are media µs.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec

LEFT, RIGHT, BAND_LEFT, BAND_RIGHT = 1, 2, 3, 4  # of a line: beyond its band, or within it
NEAR_LEFT, NEAR_RIGHT = 5, 6  # beyond its band by no more than the error of a position
SIDES = {LEFT: LEFT, NEAR_LEFT: LEFT, RIGHT: RIGHT, NEAR_RIGHT: RIGHT}  # of who is beyond the band
UNKNOWN = 255  # in `first`: no evidence yet
SPACING_US = 200_000  # between two marks of a trail
MARKS = 18  # of a trail, at most; with the spacing they reach back some minutes
MANY = 12  # changes of a pair from which on old ones are left out
Kind = Literal["zone", "line"]


class Mark(NamedTuple):
    """An anchor at a time, px or m."""

    us: int
    x: float
    y: float


class Transition(NamedTuple):
    """The value of a zone or line is another from `us` on.

    Times are relative to that, because states store short numbers in fewer bytes.
    """

    value: int  # zones: 1 inside, 0 outside. Lines: LEFT to NEAR_RIGHT
    us: int  # when the new value began, interpolated
    between_us: int  # time from the end of the old value on, interpolated: the band of a line
    before_us: int  # time from the last evidence of the old value on
    after_us: int  # time until the first evidence of the new value

    @property
    def until_us(self) -> int:
        """When the old value ended."""
        return self.us - self.between_us

    @property
    def last_us(self) -> int:
        """When the last evidence of the old value was."""
        return self.us - self.before_us

    @property
    def seen_us(self) -> int:
        """When the first evidence of the new value was."""
        return self.us + self.after_us


class Cut(NamedTuple):
    """The path cut a line between two positions."""

    us: int  # interpolated
    sign: int  # 1 from left to right, -1 from right to left
    last_us: int  # of the position before
    seen_us: int  # of the position after


class Run(NamedTuple):
    """The evidence of one value, from the first to the last."""

    value: int
    from_us: int
    to_us: int
    joined: bool  # it follows the run before without a gap in the track
    several: bool  # more than one detection has the value


class Piece(msgspec.Struct, array_like=True):
    """The history of one track between two corrections.

    Groups, zones and lines are numbered by the machine; later ones may be missing.
    """

    trails: list[list[Mark]]  # by group: the first mark, some of the last seconds, the last one
    first: dict[Kind, bytearray]  # of each zone or line: the first value
    changes: dict[Kind, dict[int, list[Transition]]]  # by zone or line, in order
    cuts: dict[int, list[Cut]]  # by line, in order

    @property
    def from_us(self) -> int:
        return min(trail[0].us for trail in self.trails if trail)

    @property
    def to_us(self) -> int:
        return max(trail[-1].us for trail in self.trails if trail)

    def trail(self, group: int) -> list[Mark]:
        """Return the trail of a group, which may be newer than the piece."""
        while len(self.trails) <= group:
            self.trails.append([])
        return self.trails[group]

    def set_first(self, kind: Kind, index: int, value: int) -> None:
        """Set the first value of a zone or line."""
        values = self.first[kind]
        values.extend([UNKNOWN] * (index + 1 - len(values)))
        values[index] = value

    def first_of(self, kind: Kind, index: int) -> int:
        """Return the first value of a zone or line."""
        values = self.first[kind]
        first = values[index] if index < len(values) else UNKNOWN
        changes = self.changes[kind].get(index)
        return changes[0].value if first == UNKNOWN and changes else first

    def last(self, kind: Kind, index: int) -> int:
        """Return the last value of a zone or line."""
        changes = self.changes[kind].get(index)
        return changes[-1].value if changes else self.first_of(kind, index)

    def runs(self, kind: Kind, index: int, group: int) -> Iterator[Run]:
        """Return the runs of one zone or line, whose group is this one."""
        trail, first = self.trail(group), self.first[kind]
        if not trail:
            return
        value = first[index] if index < len(first) else UNKNOWN
        from_us, seen_us, joined = trail[0].us, trail[0].us, False
        for change in self.changes[kind].get(index, ()):
            if value != UNKNOWN:
                yield Run(value, from_us, change.until_us, joined, change.last_us > seen_us)
            value, from_us, joined = change.value, change.us, value != UNKNOWN
            seen_us = change.seen_us
        if value != UNKNOWN:
            to_us = max(from_us, trail[-1].us)
            yield Run(value, from_us, to_us, joined, trail[-1].us > seen_us)


def new_piece() -> Piece:
    """Return a piece without evidence."""
    first: dict[Kind, bytearray] = {"zone": bytearray(), "line": bytearray()}
    return Piece([], first, {"zone": {}, "line": {}}, {})


def mark(trail: list[Mark], now: Mark) -> None:
    """Add the last mark to a trail; the one before goes where it is nearer than the spacing."""
    if len(trail) > 1 and (trail[-1].us - trail[-2].us < SPACING_US or trail[-1].us == now.us):
        trail[-1] = now
    elif not trail or trail[-1].us < now.us:
        trail.append(now)
    if len(trail) > MARKS:
        trail[:] = _thinned(trail)


def _thinned(trail: list[Mark]) -> list[Mark]:
    """Return the first and last mark of a trail, and fewer between the older they are."""
    kept = [trail[-1]]
    for one in reversed(trail[1:-1]):
        if kept[-1].us - one.us >= max(SPACING_US, (trail[-1].us - one.us) // 2):
            kept.append(one)
    return [trail[0], *reversed(kept)]


def divide(piece: Piece, us: int, apart_us: int = 1) -> tuple[Piece | None, Piece | None]:
    """Return a piece until before `us`, and from `us` on; None where there is no evidence.

    The last evidence before was `apart_us` earlier, if there was any in that frame.
    """
    if not any(piece.trails) or us <= piece.from_us:
        return None, piece if any(piece.trails) else None
    if us > piece.to_us:
        return piece, None
    halves = new_piece(), new_piece()
    for group in range(len(piece.trails)):
        _divide_trail(piece, group, halves, us, apart_us)
    kinds: tuple[Kind, Kind] = ("zone", "line")
    for kind in kinds:
        for index in range(len(piece.first[kind])):
            _divide_values(piece, kind, index, halves, us)
    for line, cuts in piece.cuts.items():  # a cut between the halves is none of either
        own_cuts = ([c for c in cuts if c.seen_us < us], [c for c in cuts if c.last_us >= us])
        for half, some in zip(halves, own_cuts, strict=True):
            if some:
                half.cuts[line] = some
    return halves


def _divide_trail(
    piece: Piece, group: int, halves: tuple[Piece, Piece], us: int, apart_us: int
) -> None:
    """Divide the trail of a group; marks are about 0.2 s apart."""
    trail = piece.trails[group]
    before, after = (half.trail(group) for half in halves)
    at = bisect_left(trail, us, key=lambda one: one.us)
    before.extend(trail[:at])
    after.extend(trail[at:])
    if 0 < at < len(trail):
        if us - apart_us > trail[at - 1].us:
            before.append(_between(trail[at - 1], trail[at], us - apart_us))
        if trail[at].us > us:
            after.insert(0, _between(trail[at - 1], trail[at], us))


def _divide_values(
    piece: Piece, kind: Kind, index: int, halves: tuple[Piece, Piece], us: int
) -> None:
    """Divide the changes of a zone or line, and set the first value of each half."""
    first, changes = piece.first[kind][index], piece.changes[kind].get(index, [])
    at = bisect_left(changes, us, key=lambda one: one.seen_us)
    before, after = changes[:at], changes[at:]
    value = before[-1].value if before else first
    while after and after[0].last_us < us:  # between the halves: the value from `us` on
        value, after = after[0].value, after[1:]
    halves[0].set_first(kind, index, first)
    halves[1].set_first(kind, index, value)
    for half, own in zip(halves, (before, after), strict=True):
        if own:
            half.changes[kind][index] = own


def _between(a: Mark, b: Mark, us: int) -> Mark:
    """Return the mark on the straight way from a to b at a time between theirs."""
    share = (us - a.us) / (b.us - a.us)
    return Mark(us, a.x + share * (b.x - a.x), a.y + share * (b.y - a.y))


def joined_runs(pieces: Sequence[Piece], kind: Kind, index: int, group: int) -> list[Run]:
    """Return the runs over all pieces in order; equal values that follow each other are one."""
    runs: list[Run] = []
    for piece in pieces:
        for run in piece.runs(kind, index, group):
            if runs and runs[-1].value == run.value:
                runs[-1] = runs[-1]._replace(to_us=run.to_us, several=True)
            else:
                runs.append(run)
    return runs


def forget_zone(piece: Piece, zone: int, before_us: int, published: Sequence["Interval"]) -> None:
    """Leave out changes before a time that no longer matter to the visits after it."""
    changes = piece.changes["zone"].get(zone, [])
    at = bisect_left(changes, before_us, key=lambda one: one.seen_us)
    if at < MANY:
        return
    old, last = changes[:at], changes[at - 1]
    until_us = min([before_us, *(one.us for one in changes[at : at + 1])])  # a way may go beyond
    current = [
        one.entered_us
        for one in published
        if one.entered_us < until_us and (one.left_us is None or one.left_us >= until_us)
    ]
    entered = [one for one in old if one.value and one.us in current][:1]
    kept = entered + [last] * (bool(last.value) != bool(current))
    piece.set_first("zone", zone, int(bool(current) and not entered))
    piece.changes["zone"][zone] = kept + changes[at:]


def forget_line(piece: Piece, line: int, before_us: int, settle_us: int) -> None:
    """Leave out changes and cuts before a time that no longer matter to the crossings after it."""
    changes = piece.changes["line"].get(line, [])
    at = bisect_left(changes, before_us, key=lambda one: one.seen_us)
    if at < MANY:
        return
    settled, since_us = SIDES.get(piece.first_of("line", line)), 0
    lasting = {0: changes[0], at - 1: changes[at - 1]}  # the first: what joins the piece before it
    begin = 0
    stay: LineStay | None = None
    for i, change in enumerate(changes[:at]):
        side = SIDES.get(change.value)
        later = changes[i + 1] if i + 1 < len(changes) else None
        until_us = before_us if later is None else later.until_us
        several = later is None or later.last_us > change.seen_us
        run = Run(change.value, change.us, until_us, False, several)
        begin = begin if stay is not None and side == stay.side else i
        stay = None if side is None else joined_stay(stay, side, run)
        if stay is None:
            continue
        if settled is None or (stay.side != settled and stay.settles(settle_us)):
            settled = stay.side
            now = {begin: changes[begin]._replace(value=stay.side if stay.sure else change.value)}
            lasting = {0: changes[0], at - 1: changes[at - 1]} | now
        if stay.side == settled:
            since_us = stay.from_us
    piece.changes["line"][line] = [lasting[i] for i in sorted(lasting)] + changes[at:]
    cuts = [one for one in piece.cuts.get(line, []) if one.us > since_us]
    old_cuts = [one for one in cuts if one.us < before_us]
    net = sum(one.sign for one in old_cuts)
    towards = [one for one in old_cuts if one.sign * net > 0]
    piece.cuts[line] = towards[len(towards) - abs(net) :] + cuts[len(old_cuts) :]


class Interval(NamedTuple):
    """A visit by its history."""

    entered_us: int
    left_us: int | None  # None: still inside
    reason: Literal["left", "lost"] | None
    seen_outside: bool  # the person was seen outside before


class Timing(NamedTuple):
    """How long a value has to hold in a zone or beyond a line."""

    begin_us: int  # zones: enter_s; lines: settle_s
    end_us: int = 0  # zones: exit_s


def visits(runs: Sequence[Run], timing: Timing, *, over: bool) -> tuple[list[Interval], int | None]:
    """Return the visits of a zone, and when the next change can follow if the value holds.

    `over`: the track has ended, so that nothing follows.
    """
    found: list[Interval] = []
    entered: int | None = None
    last_inside = 0
    due: int | None = None
    for number, run in enumerate(runs):
        due = None
        if run.value:
            last_inside = run.to_us
            if entered is None and run.to_us - run.from_us >= timing.begin_us:
                entered = run.from_us
                outside = number > 0
            elif entered is None:
                due = run.from_us + timing.begin_us
        elif entered is not None and run.to_us - last_inside >= timing.end_us:
            found.append(Interval(entered, last_inside, "left", outside))
            entered = None
        elif entered is not None:
            due = last_inside + timing.end_us
    if entered is not None:
        left = bool(runs) and not runs[-1].value
        found.append(
            Interval(entered, last_inside, "left" if left else "lost", outside)
            if over
            else Interval(entered, None, None, outside)
        )
    return found, None if over else due


class LineStay(NamedTuple):
    """The time beyond the band of a line on one side, without a break."""

    side: int  # LEFT or RIGHT
    from_us: int
    to_us: int
    several: bool  # more than one detection was there
    sure: bool  # one was farther away than the error of a position

    def settles(self, settle_us: int) -> bool:
        """Whether it is long and far enough for a crossing."""
        return self.several and self.sure and self.to_us - self.from_us >= settle_us


def joined_stay(stay: LineStay | None, side: int, run: Run) -> LineStay:
    """Return a stay with the next run, which is on a side; the stay may be another one."""
    sure = run.value == side
    if stay is None or stay.side != side:
        return LineStay(side, run.from_us, run.to_us, run.several, sure)
    return stay._replace(to_us=run.to_us, several=True, sure=stay.sure or sure)


def stays(runs: Sequence[Run]) -> Iterator[tuple[LineStay, bool]]:
    """Yield the stays of a line in order, and whether each is the end of the runs."""
    stay: LineStay | None = None
    for run in runs:
        side = SIDES.get(run.value)
        if stay is not None and stay.side != side:
            yield stay, False
        stay = None if side is None else joined_stay(stay, side, run)
    if stay is not None:
        yield stay, True


class Passage(NamedTuple):
    """A crossing by its history."""

    us: int
    sign: int  # 1 from left to right, -1 from right to left


def crossings(
    runs: Sequence[Run], cuts: Sequence[Cut], settle_us: int, *, over: bool
) -> tuple[list[Passage], int | None]:
    """Return the crossings of a line, and when the next can follow if the side holds.

    The first side is that of the first evidence beyond the band. A crossing is made by settling on
    the other side, which takes two detections at least: one alone may be wrong; and one that is
    farther than the error of a position from where the band ends, or the end of the track. The cuts
    of the segment since the last time on a side must lead there, which they do not where the path
    passed the segment's end.
    """
    found: list[Passage] = []
    settled = 0  # value of the side
    since = 0  # cuts from here on count
    due: int | None = None
    for stay, is_last in stays(runs):
        due = None
        if stay.side == settled or not settled:
            settled, since = stay.side, stay.from_us
            continue
        if not stay.settles(settle_us) and not (over and is_last):
            due = stay.from_us + settle_us if is_last else None
            continue
        sign = 1 if settled == LEFT else -1
        own = [cut for cut in cuts if since < cut.us <= stay.from_us]
        if sum(cut.sign for cut in own) * sign > 0:
            found.append(Passage(next(cut.us for cut in reversed(own) if cut.sign == sign), sign))
        settled, since = stay.side, stay.from_us
    return found, due
