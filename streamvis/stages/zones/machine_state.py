"""All that the zones and lines of one source remember between two frames."""

import msgspec

from streamvis.stages.zones.arrangement import ArrangementState
from streamvis.stages.zones.history import Kind, Passage
from streamvis.stages.zones.occupancy import ReportState
from streamvis.stages.zones.persons import Pair, PersonsState
from streamvis.stages.zones.published import PublishedVisit
from streamvis.stages.zones.unseen import Unseen


class MachineState(msgspec.Struct, array_like=True):
    """All that a machine remembers."""

    epoch: int
    arrangement: ArrangementState
    persons: PersonsState
    visits: dict[int, dict[int, list[PublishedVisit]]]
    crossings: dict[int, dict[int, list[Passage]]]
    due: list[tuple[int, Kind, int, int]]
    pending: list[tuple[Pair, list[Passage]]]
    totals: dict[int, tuple[int, int]]
    forget_us: int
    report: ReportState
    unseen: Unseen
