"""The zones and lines of a source by number, and their geometry for the size of its frames.

Zones, lines and groups are numbered as they come, so that a change of the layout leaves the numbers
of those that stay; the numbers of removed ones stay unused.
"""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from streamvis.stages.zones.history import Kind, Timing
from streamvis.stages.zones.shapes import Group, GroupKey, key_of
from streamvis.zone_layout import Line, Zone, ZoneLayout

S = TypeVar("S", Zone, Line)


class ArrangementState(msgspec.Struct, array_like=True):
    """What an arrangement is computed from."""

    size: tuple[int, int]
    zones: dict[int, Zone]
    lines: dict[int, Line]
    keys: list[GroupKey]
    next_numbers: tuple[int, int]


class Arrangement:
    """The numbered zones and lines of one source."""

    def __init__(self) -> None:
        self.size = (1, 1)  # px, of frames; none so far
        self.zones: dict[int, Zone] = {}  # in the order of the layout
        self.lines: dict[int, Line] = {}
        self.groups: dict[int, Group] = {}
        self.group_of: dict[tuple[Kind, int], int] = {}
        self.timings: dict[tuple[Kind, int], Timing] = {}
        self._keys: list[GroupKey] = []  # by number of the group
        self._next = (0, 0)  # numbers of the next zone and line

    @property
    def layout(self) -> ZoneLayout:
        """The zones and lines as they are set."""
        return ZoneLayout(zones=tuple(self.zones.values()), lines=tuple(self.lines.values()))

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many groups, zones and lines have had a number."""
        return len(self._keys), *self._next

    def set_layout(self, layout: ZoneLayout) -> None:
        """Change the zones and lines; those that stay as they are keep their numbers."""
        self.zones, next_zone = _numbered(self.zones, layout.zones, self._next[0])
        self.lines, next_line = _numbered(self.lines, layout.lines, self._next[1])
        self._next = (next_zone, next_line)
        self._arrange()

    def set_size(self, size: tuple[int, int]) -> None:
        """Change the size of frames."""
        self.size = size
        self._arrange()

    def _arrange(self) -> None:
        members: dict[GroupKey, tuple[list[tuple[int, Zone]], list[tuple[int, Line]]]] = {}
        for number, zone in self.zones.items():
            members.setdefault(key_of(zone), ([], []))[0].append((number, zone))
        for number, line in self.lines.items():
            members.setdefault(key_of(line), ([], []))[1].append((number, line))
        self._time()
        self._keys += [key for key in members if key not in self._keys]
        self.groups = {
            self._keys.index(key): Group(key, *shapes, self.size) for key, shapes in members.items()
        }
        self.group_of = {
            **{("zone", z): g for g, group in self.groups.items() for z in group.zones.tolist()},
            **{("line", k): g for g, group in self.groups.items() for k in group.lines.tolist()},
        }

    def _time(self) -> None:
        self.timings = {
            **{
                ("zone", z): Timing(_us(one.enter_s), _us(one.exit_s))
                for z, one in self.zones.items()
            },
            **{("line", k): Timing(_us(one.settle_s)) for k, one in self.lines.items()},
        }

    def state(self) -> ArrangementState:
        """Return what `restore` continues from."""
        return ArrangementState(self.size, self.zones, self.lines, self._keys, self._next)

    def restore(self, state: ArrangementState) -> None:
        """Continue from a state."""
        self.size, self.zones, self.lines = state.size, state.zones, state.lines
        self._keys, self._next = state.keys, state.next_numbers
        self._arrange()


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


def _numbered(old: dict[int, S], shapes: Iterable[S], next_: int) -> tuple[dict[int, S], int]:
    """Return the shapes by number, and the next free number; unchanged ones keep theirs."""
    numbers = {shape: number for number, shape in old.items()}
    new: dict[int, S] = {}
    for shape in shapes:
        number = numbers.get(shape)
        new[next_ if number is None else number] = shape
        next_ += number is None
    return new, next_
