"""Pictures of sources that are online, from the run that writes the log.

The log has no pictures. The run answers requests through its control socket, to processes of its
own user on the same machine, with pictures whose privacy masks are applied.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from streamvis.errors import RunError
from streamvis.logs import warn
from streamvis.runtime.control import GetPicture, SourcePicture
from streamvis.runtime.control_client import Conversation
from streamvis.runtime.control_files import IN_OUT, is_living, read


class Snapshots:
    """Asks for a picture of each source, at most once in `every_s`, and never waits for one."""

    def __init__(self, out: Path, every_s: float, now: Callable[[], float]) -> None:
        """`out` is the output directory of the run, which may begin later or be another one."""
        self._file = out / IN_OUT
        self._every_s = every_s
        self._now = now
        self._due: dict[str, float] = {}  # by source
        self._conversation: Conversation | None = None
        self._wrong = ""  # why there are none, as it was logged

    def taken(self, sources: Iterable[str]) -> list[SourcePicture]:
        """Ask for the pictures that are due, and return those that have arrived."""
        at = self._now()
        due = [source for source in sources if self._due.get(source, at) <= at]
        try:
            if due:
                self._due |= dict.fromkeys(due, at + self._every_s)
                self._ask(due)
            replies = self._conversation.replies() if self._conversation is not None else []
        except RunError as error:
            self.close()
            if self._wrong != str(error):
                self._wrong = str(error)
                warn("no snapshots", reason=self._wrong)
            return []
        return [reply for reply in replies if isinstance(reply, SourcePicture)]

    def close(self) -> None:
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            conversation.close()

    def _ask(self, sources: Iterable[str]) -> None:
        run = read(self._file)
        if self._conversation is not None and self._conversation.run != run:
            self.close()
        if run is None or not is_living(run):
            return
        if self._conversation is None:
            self._conversation = Conversation(run)
            self._wrong = ""
        for source in sources:
            self._conversation.send(GetPicture(source))
