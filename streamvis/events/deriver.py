"""What derives the events of a kind of stage from the parts of a source's frames.

A kind with events gives a `Deriver` for each source (`StageConfig.deriver`). It is pure: equal
frames give equal events. `stages/publish/derive.py` puts the events of all kinds in order, numbers
them, and keeps the state of each deriver in the event log.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from streamvis.events.envelope import EventBody, Reason
from streamvis.messages import Findings, Packet

LARGEST = 1e12  # numbers in events are clipped to this


class PublishPolicy(NamedTuple):
    """How often updates are published, and whether masks go with them."""

    every_us: int = 0  # shortest media time between two updates of the same thing
    masks: bool = False


class Draft(NamedTuple):
    """An event body, and the attachments of its message."""

    what: EventBody
    attachments: tuple[bytes, ...] = ()


class FrameEvents(NamedTuple):
    """The events of one kind in one frame.

    The publisher writes the corrections of all kinds, then the ends, then the rest. Ends come in
    the reverse order of kinds, so that an action ends before the track of its person.
    """

    corrections: list[EventBody] = []  # noqa: RUF012 - of what was published before
    ends: list[EventBody] = []  # noqa: RUF012
    drafts: list[Draft] = []  # noqa: RUF012 - begins and updates


class Deriver(Protocol):
    """Derives the events of one kind of stage for one source, from its frames in order."""

    def derive(self, packet: Packet) -> FrameEvents:
        """Return the events of a frame; a part is absent when its stage was skipped."""

    def close(self, reason: Reason) -> list[EventBody]:
        """End all that is open; with reason `epoch`, numbers and media time start anew."""

    def findings(self, so_far: Findings) -> Findings:
        """Return the findings of the other kinds with those of this one."""

    def state(self) -> bytes:
        """Return the msgpack state from which a successor derives exactly the same events."""


@runtime_checkable
class FrameDeriver(Protocol):
    """A `Deriver` that also describes frames to those who subscribe to them."""

    def frame_body(self, packet: Packet) -> EventBody | None:
        """Return the brief event of a frame, after `derive`; None when its part is absent."""


def rounded(value: float, digits: int) -> float:
    """Return a number that is short in JSON and finite: JSON has no infinity."""
    return round(float(np.nan_to_num(value)), digits)
