"""A run as the web server sees it: its event log, and its control socket while it is under way."""

import os
from pathlib import Path

from streamvis.errors import RunError, UsageError
from streamvis.events.log import FILE_NAME, LogReader
from streamvis.runtime.control import GetStatus, Reply, Request, RunStatus
from streamvis.runtime.control_client import ask, find_run
from streamvis.runtime.control_files import IN_OUT, RunFile
from streamvis.runtime.metrics import Status
from streamvis.web.problems import RefusedError

Identity = tuple[int, int]  # of a file: device and inode


class RunFolder:
    """The output directory of a run; nothing of it is kept open.

    `run` is the process id or another output directory of the run that is asked.
    """

    def __init__(self, out: Path, run: str | None = None) -> None:
        self.out = out
        self.log_path = out / FILE_NAME
        self._run = run if run is not None else str(out.absolute())

    def check(self) -> None:
        """Raise UsageError for a directory without a run."""
        if not self.out.is_dir():
            raise UsageError(
                f"{self.out} is no directory; expected the --out of a run, with {FILE_NAME}"
            )
        if not self.log_path.exists() and not (self.out / IN_OUT).exists():
            raise UsageError(
                f"{self.out} has no run; expected {FILE_NAME} in it, or a run that is under way: "
                f"`streamvis run … --out {self.out}` starts one"
            )

    def living(self) -> RunFile | None:
        """Return the run while it is under way, else None."""
        try:
            return find_run(self._run)
        except (RunError, UsageError):
            return None

    def ask(self, request: Request) -> Reply:
        """Return the reply of the run; RefusedError without one, UsageError for its refusal."""
        run = self.living()
        if run is None:
            raise RefusedError(
                503,
                "the run",
                "it is not under way",
                expected="a run with a control socket",
                to_do="read what it has logged from /api/events",
            )
        return ask(run, request)

    def status(self) -> Status:
        """Return the status of the run; RefusedError or RunError when there is none."""
        reply = self.ask(GetStatus())
        if not isinstance(reply, RunStatus):
            raise RunError("the run sent another answer than its status")
        return reply.status

    def log(self) -> LogReader:
        """Open the event log; DataError when there is none."""
        return LogReader(self.log_path)

    def log_identity(self) -> Identity | None:
        """Return which file the log is: another one after `run --overwrite`; None without one."""
        try:
            found = os.stat(self.log_path)
        except OSError:
            return None
        return found.st_dev, found.st_ino
