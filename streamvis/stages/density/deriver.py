"""Derive the events of density: one for each interval. Pure, and without a state."""

from streamvis.events.deriver import Draft, FrameEvents, rounded
from streamvis.events.envelope import EventBody, Reason
from streamvis.messages import Density, Findings, Packet
from streamvis.stages.density.events import CellDensity, DensityGrid, DensityUpdate


class DensityDeriver:
    """Derives the events of one source's density."""

    def derive(self, packet: Packet) -> FrameEvents:
        """Return the event of the interval that ended before this frame, if one did."""
        part = packet.part(Density)
        if part is None or not part.frames:
            return FrameEvents()
        cells = zip(part.cells.tolist(), part.people.tolist(), strict=True)
        grid = DensityGrid(
            start_us=part.start_us,
            end_us=part.end_us,
            frames=part.frames,
            cell=part.cell,
            unit=part.unit,
            people=rounded(float(part.people.sum()), 4),
            cells=tuple(
                CellDensity(column=column, row=row, people=rounded(people, 4))
                for (column, row), people in cells
            ),
        )
        return FrameEvents(drafts=[Draft(DensityUpdate(grid))])

    def close(self, reason: Reason) -> list[EventBody]:
        """Nothing is open: an interval that has not ended has no event."""
        return []

    def findings(self, so_far: Findings) -> Findings:
        """Return the findings unchanged."""
        return so_far

    def state(self) -> bytes:
        """Return nothing: the stage keeps the counts."""
        return b"\xc0"
