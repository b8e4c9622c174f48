"""The state from which a successor continues a source, and how a source begins again.

The event log has the state as of the last commit; with each answer, the hub keeps it as of that
answer, with how far the packets had come.
"""

from typing import NamedTuple

import msgspec

from streamvis.errors import RunError
from streamvis.messages import ClipEvent, Findings, SourceInfo
from streamvis.stages.protocol import LogPosition
from streamvis.stages.publish.derive import SourceEvents, SourceStatus, TimedDraft


class Began(msgspec.Struct, frozen=True):
    """Where a source was begun last: it may be removed and added again, or resumed."""

    next: int = 0  # offset of the next event then
    at: tuple[int, int] = (0, -1)  # stream epoch and seq of the last packet then


class SourceState(msgspec.Struct):
    """The state from which a successor continues one source."""

    status: SourceStatus
    epoch: str  # of the run
    events: dict[str, msgspec.Raw] = {}  # state of the events of each kind of stage
    first: int = 0  # offset at which this run begins in the log
    next: int = 0  # offset of the next event
    tseq: dict[str, int] = {}  # family -> last
    at: tuple[int, int] = (0, -1)  # stream epoch and seq of the last packet
    n: int = -1  # its number in the source
    noticed: int = 0  # notices since that packet
    began: Began = Began()
    ending: str = ""
    findings: Findings | None = None  # once the source has ended

    @property
    def reached(self) -> tuple[int, tuple[int, int], int]:
        """Grows with every packet, notice and event."""
        return self.next, self.at, self.noticed


class StreamPosition(msgspec.Struct):
    """The last packet and notice received; behind the source state while packets come again."""

    at: tuple[int, int] = (0, -1)
    noticed: int = 0  # notices since that packet


class PublisherState(NamedTuple):
    """The stage state that is returned with each answer."""

    source_state: SourceState
    position: StreamPosition


class PublishedSource(msgspec.Struct):
    """A source from its begin to its end."""

    state: SourceState
    events: SourceEvents
    position: StreamPosition
    clips_on: frozenset[str]  # types of events of which a clip is recorded
    clips: list[ClipEvent] = []  # wanted, and not in a receipt yet

    def begin_again(
        self, source: SourceInfo, before: LogPosition | None
    ) -> list[TimedDraft] | None:
        """Begin a source of a resumed run, or one that has ended and is added again.

        Its numbers go on in another stream epoch. `before`: where the run was resumed. None when it
        is neither: its worker has died.
        """
        state = self.state
        if source.epoch <= state.status.epoch:
            return None
        if before and before == LogPosition(state.next, *state.at):
            drafts = self.events.resume(source)
        elif state.ending:
            drafts = self.events.add_again(source)
        else:
            return None
        state.noticed, state.ending, state.findings = 0, "", None
        state.began = Began(state.next, state.at)
        self.position = StreamPosition(state.at)
        return drafts


_states = msgspec.msgpack.Decoder(SourceState)
_answers = msgspec.msgpack.Decoder(PublisherState)


def logged_state(state: bytes) -> SourceState:
    """Read the state of a source in the log."""
    return _states.decode(state)


def answered_state(source: str, state: bytes) -> PublisherState:
    """Read the state that came with the last answer; RunError when it is of another version."""
    try:
        return _answers.decode(state)
    except msgspec.DecodeError as error:
        raise RunError(
            f"{source}: the publisher cannot read the state of its predecessor "
            f"({len(state)} bytes): {error}. Run all workers with the same version"
        ) from None


def later(logged: SourceState, answered: PublisherState | None) -> SourceState:
    """Return the later state: that of the log, unless its last events were never logged."""
    if answered is None or answered.source_state.reached <= logged.reached:
        return logged
    return answered.source_state
