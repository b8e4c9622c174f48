"""The state of each source for those who begin to watch: folded once for all of them."""

import threading
from typing import NamedTuple

import msgspec

from streamvis.errors import RunError
from streamvis.events.log import LogReader
from streamvis.events.replay import STORE, LogStates
from streamvis.events.snapshot import Identities, SourceState
from streamvis.web.run_folder import Identity, RunFolder


class StreamSnapshot(msgspec.Struct, frozen=True, kw_only=True, tag="snapshot", tag_field="kind"):
    """The state of a source: the latest event of everything that goes on."""

    source: str
    epoch: str  # id of the run
    offset: int  # of the last event that the state includes; -1: none
    ending: str  # eof, drained, failed; empty: the source is open
    events: list[msgspec.Raw]  # as they were published, in order of offset


class Taken(NamedTuple):
    """The states of all sources, which include all events up to a number."""

    number: int
    epoch: str  # of the latest run in the log
    sources: list[StreamSnapshot]


class SourceSnapshots:
    """Folds the log as far as it has grown, whenever a viewer begins to watch.

    It begins with the states that the replay server of the run has stored, where there are some.
    """

    def __init__(self, folder: RunFolder, identities: Identities) -> None:
        self._folder = folder
        self._identities = identities
        self._lock = threading.Lock()
        self._log: LogReader | None = None
        self._states: LogStates | None = None
        self._identity: Identity | None = None
        self._closing = False

    def take(self) -> Taken:
        """Return the present states; DataError without a log, RunError while it is closed."""
        with self._lock:
            self._check_open()
            log, states = self._opened()
            number = log.newest()
            while not states.advance():
                self._check_open()
            cursors = log.cursors()
            sources = [
                StreamSnapshot(
                    source=name,
                    epoch=cursor.epoch,
                    offset=state.offset,
                    ending=cursor.ending,
                    events=[msgspec.Raw(payload) for payload in state.events()],
                )
                for name, cursor in cursors.items()
                for state in [states.states.get(name) or SourceState(offset=cursor.first - 1)]
            ]
            return Taken(number, max((c.epoch for c in cursors.values()), default=""), sources)

    def close(self) -> None:
        """Close the log; a `take` that goes on ends first."""
        self._closing = True
        with self._lock:
            if self._log is not None:
                self._log.close()
            self._log = self._states = None

    def _check_open(self) -> None:
        if self._closing:
            raise RunError("the server is about to end")

    def _opened(self) -> tuple[LogReader, LogStates]:
        """Return the log and its states; those of another file after `run --overwrite`."""
        identity = self._folder.log_identity()
        if self._log is None or self._states is None or identity != self._identity:
            if self._log is not None:
                self._log.close()
            self._log = self._states = None
            self._log = self._folder.log()
            store = self._folder.out / STORE
            self._states = LogStates(self._log, self._identities, store, keeps=False)
            self._identity = identity
        return self._log, self._states
