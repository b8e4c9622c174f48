"""The operation `GET /api/lanes`, and the thread that counts the lanes of the log for it.

The thread begins with the first request, and rests when nobody has asked for a while. The log is
only read.
"""

import threading
import time

from streamvis.errors import DataError, StreamvisError
from streamvis.events.lane_file import FILE
from streamvis.events.lane_index import LaneIndex, LaneIndexError
from streamvis.logs import log as say
from streamvis.web.lane_query import timeline_of
from streamvis.web.operations import Answered, Call
from streamvis.web.problems import RefusedError
from streamvis.web.run_folder import RunFolder

LOOK_S = 1.0  # between two looks at the log
WATCHED_S = 60.0  # after a request, in which the log is looked at
FIRST_S = 0.5  # that a request waits for the log to be read, which is enough for a short one
BUSY_SHARE = 0.8  # of the time, at most, that the thread works; the rest is for requests


class LaneCounter:
    """Answers requests for lanes, and counts them meanwhile."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._index: LaneIndex | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._wanted = threading.Event()  # somebody asks
        self._ended = threading.Event()
        self._complete = threading.Event()  # all of the log was read, at the last look
        self._asked = -WATCHED_S  # when somebody asked last
        self._failure = ""
        self._damage = ""  # of the counts, as a request found it

    def lanes(self, call: Call) -> Answered:
        """Return the lanes of a source in a stretch of media time, as spans or counts."""
        index, is_first = self._watched()
        if is_first:
            self._complete.wait(FIRST_S)
        try:
            with self._folder.log() as log:
                return Answered(value=timeline_of(log, index, call.query))
        except LaneIndexError as error:
            self._damage = str(error)
            raise RefusedError(
                503, "the counts of lanes", str(error), to_do="ask again in a while"
            ) from None

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            self._ended.set()
            self._wanted.set()
            self._complete.set()
        if self._thread is not None:
            self._thread.join()
        if self._index is not None:
            self._index.close()

    def _watched(self) -> tuple[LaneIndex, bool]:
        """Have the thread look at the log for a while; return whether it did not before."""
        with self._lock:
            if self._ended.is_set():
                raise RefusedError(503, "the server", "it is about to end")
            if self._index is None:
                if not self._folder.log_path.exists():
                    self._folder.log().close()  # it says why there is none
                self._index = LaneIndex(self._folder.out / FILE)
                self._thread = threading.Thread(
                    target=self._run, args=(self._index,), name="lanes", daemon=True
                )
                self._thread.start()
            is_first = time.monotonic() - self._asked > WATCHED_S
            if is_first:
                self._complete.clear()
            self._asked = time.monotonic()
            self._wanted.set()
            return self._index, is_first

    def _run(self, index: LaneIndex) -> None:
        while not self._ended.is_set():
            self._wanted.clear()  # first: who asks, or ends this, from here on sets it again
            if time.monotonic() - self._asked > WATCHED_S and not self._ended.is_set():
                self._wanted.wait()
            try:
                self._catch_up(index)
                self._failure = ""
            except StreamvisError as error:  # the file is being made, or a disk fails: look again
                if str(error) != self._failure:
                    say("warning", "lanes are not counted", error=str(error))
                self._failure = str(error)
            self._complete.set()
            self._ended.wait(LOOK_S)

    def _catch_up(self, index: LaneIndex) -> None:
        if self._damage:
            index.recover(self._damage)
            self._damage = ""
        identity = self._folder.log_identity()
        if identity is None:
            raise DataError(f"{self._folder.log_path}: there is no event log any more")
        with self._folder.log() as log:
            while not self._ended.is_set():
                began = time.perf_counter()
                if index.advance(log, f"{identity[0]}:{identity[1]}"):
                    return
                self._ended.wait((time.perf_counter() - began) * (1 / BUSY_SHARE - 1))
