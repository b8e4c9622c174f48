"""Events of density: one for each interval, in a line and in rows of a table."""

import numpy as np
from factories import packet

from streamvis.events.envelope import type_of
from streamvis.messages import Density
from streamvis.stages.density.deriver import DensityDeriver
from streamvis.stages.density.events import DENSITY_EVENTS


def density(cells, people, frames=5):
    return Density(
        cells=np.array(cells, np.int32).reshape(-1, 2),
        people=np.array(people, np.float32),
        cell=64.0,
        unit="px",
        start_us=0,
        end_us=500_000,
        frames=frames,
    )


def test_an_interval_is_one_event_and_no_interval_is_none():
    deriver = DensityDeriver()
    assert deriver.derive(packet(0)).drafts == []
    assert deriver.derive(packet(0, density([], [], frames=0))).drafts == []
    [draft] = deriver.derive(packet(5, density([(1, 2), (3, 2)], [0.25, 1.5]))).drafts
    grid = draft.what.density
    assert type_of(draft.what) == "density.update"
    assert (grid.people, grid.frames, grid.end_us) == (1.75, 5, 500_000)
    assert [(c.column, c.row, c.people) for c in grid.cells] == [(1, 2, 0.25), (3, 2, 1.5)]


def test_nobody_is_an_event_too():
    [draft] = DensityDeriver().derive(packet(5, density([], []))).drafts
    assert (draft.what.density.people, draft.what.density.cells) == (0, ())
    assert DENSITY_EVENTS.line(draft.what) == "0.0 people in 0 cells"
    assert DENSITY_EVENTS.csv_rows(draft.what) == [{"since_us": 0, "people": 0}]


def test_a_line_names_the_cell_with_most_people_and_a_table_has_a_row_for_each():
    [draft] = DensityDeriver().derive(packet(5, density([(1, 2), (3, 2)], [0.25, 1.5]))).drafts
    line = DENSITY_EVENTS.line(draft.what)
    assert line == "1.8 people in 2 cells, most in column 3, row 2: 1.5"
    assert DENSITY_EVENTS.csv_rows(draft.what) == [
        {"since_us": 0, "people": 1.75},
        {"since_us": 0, "column": 1, "row": 2, "people": 0.25},
        {"since_us": 0, "column": 3, "row": 2, "people": 1.5},
    ]
