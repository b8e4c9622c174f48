"""The event type of density, and how it is shown in `events tail` and in CSV."""

from typing import Literal

import msgspec

from streamvis.events.envelope import Count
from streamvis.events.family import Cells, EventTypes


class CellDensity(msgspec.Struct, frozen=True, kw_only=True):
    """A cell of the grid in which there were people."""

    column: int  # from the left of the frame, or along x on the ground plane; from 0
    row: int  # from the top of the frame, or along y on the ground plane
    people: float  # mean number of people in the cell


class DensityGrid(msgspec.Struct, frozen=True, kw_only=True):
    """The mean number of people in each cell of a grid over an interval; other cells had none."""

    start_us: int  # media time when the interval began
    end_us: int  # media time when it ended
    frames: Count  # frames in the interval that had tracks
    cell: float  # side of a square cell in `unit`; cell (0, 0) begins at the origin
    unit: Literal["px", "m"]  # pixels of the source frame, or metres on the ground plane
    people: float  # mean number of people in all cells
    cells: tuple[CellDensity, ...]  # those with people, in ascending order


class DensityUpdate(msgspec.Struct, frozen=True, tag_field="type", tag="density.update"):
    """An interval of `density.interval_s` has ended."""

    density: DensityGrid  # the grid


def line(what: DensityUpdate) -> str:
    """Return the line of `events tail`, after the type."""
    grid = what.density
    total = f"{grid.people:.1f} people in {len(grid.cells)} cells"
    if not grid.cells:
        return total
    most = max(grid.cells, key=lambda cell: cell.people)
    return f"{total}, most in column {most.column}, row {most.row}: {most.people:.1f}"


def csv_rows(what: DensityUpdate) -> list[Cells]:
    """Return a row for each cell, after one for all of them."""
    grid = what.density
    known: Cells = {"since_us": grid.start_us}
    cells = [{"column": one.column, "row": one.row, "people": one.people} for one in grid.cells]
    return [{**known, "people": grid.people}, *({**known, **cell} for cell in cells)]


DENSITY_EVENTS = EventTypes((DensityUpdate,), line, csv_rows, ("column", "row", "people"))
