"""`streamvis bridge`: deliver the events of a log to other systems."""

import re
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from typer import Option

from streamvis.cli.output import INTERRUPTED, command, say
from streamvis.cli.run import LogFormat, LogFormatOption, Metrics
from streamvis.errors import UsageError

if TYPE_CHECKING:
    from streamvis.bridges.loop import Mapping, Sink
    from streamvis.bridges.stop import Stop

app = typer.Typer(help="Deliver the events of a log to other systems.", no_args_is_help=True)
M = TypeVar("M")

Log = Annotated[Path, Option(help="events.db, or the directory that holds it; --out of the run.")]
Name = Annotated[
    str | None,
    Option(help="Name of this bridge; its progress is kept under it. Default: its kind."),
]
State = Annotated[
    Path | None, Option(help="Directory for the progress file; default: beside the log.")
]
FromNow = Annotated[
    bool, Option("--from-now", help="At the first start, leave out what is in the log.")
]
UntilEnded = Annotated[
    bool, Option("--until-ended", help="End when the run has ended and all is delivered.")
]
RetryFirst = Annotated[float, Option(min=0.01, help="Pause after a failure, seconds; it doubles.")]
RetryLongest = Annotated[float, Option(min=0.01, help="The longest pause, seconds.")]
Types = Annotated[
    list[str] | None,
    Option("--type", help="Only this type or family, like track.end or track; repeatable."),
]


@command(app)
def jsonl(
    log: Log,
    to: Annotated[Path, Option(help="File to append to; -: stdout.")] = Path("-"),
    type: Types = None,
    name: Name = None,
    state: State = None,
    from_now: FromNow = False,
    until_ended: UntilEnded = False,
    retry_first_s: RetryFirst = 1.0,
    retry_longest_s: RetryLongest = 60.0,
    metrics: Metrics = None,
    log_format: LogFormatOption = LogFormat.console,
) -> None:
    """Append events to a file as JSON lines, all of them unless --type selects some."""
    from streamvis.bridges.jsonl import Lines, LinesFile, LinesOut
    from streamvis.bridges.selection import TypeFilter
    from streamvis.bridges.stop import Stop
    from streamvis.stages import event_codec

    stop = Stop()
    sink = LinesOut(stop) if str(to) == "-" else LinesFile(to, stop)
    mapping = Lines(TypeFilter(type or [], event_codec().names, all_=True))
    common = _Common(log, name or "jsonl", state, from_now, until_ended, metrics, log_format)
    common.run(mapping, sink, stop, retry_first_s, retry_longest_s)


class _Common:
    """What all bridges have in common on the command line."""

    def __init__(
        self,
        log: Path,
        name: str,
        state: Path | None,
        from_now: bool,
        until_ended: bool,
        metrics: str | None,
        log_format: LogFormat,
    ) -> None:
        from streamvis import logs

        if not re.fullmatch(r"[a-z0-9_-]{1,64}", name):
            raise UsageError(f"--name {name}: expected 1 to 64 of a-z, 0-9, - and _")
        if state is not None and not state.is_dir():
            raise UsageError(f"--state {state}: no such directory")
        self.log = log if log.suffix == ".db" else log / "events.db"
        self.name = name
        self.state = state or self.log.parent
        self.from_now = from_now
        self.until_ended = until_ended
        self.metrics = metrics
        logs.configure(log_format.value)

    def run(
        self, mapping: "Mapping[M]", sink: "Sink[M]", stop: "Stop", first_s: float, longest_s: float
    ) -> None:
        """Deliver until a signal, or the end of the run, says otherwise."""
        from streamvis.bridges.follower import LogFollower
        from streamvis.bridges.loop import Loop, Settings
        from streamvis.bridges.metrics import pages
        from streamvis.bridges.place import ProgressFile
        from streamvis.runtime.page_server import PageServer

        follower = LogFollower(self.log)
        settings = Settings(
            retry_first_s=first_s, retry_longest_s=longest_s, until_ended=self.until_ended
        )
        file = ProgressFile(self.state / f"bridge-{self.name}.json")
        loop = Loop(follower, file, stop, settings, time.monotonic)
        with ExitStack() as stack:
            if self.metrics is not None:
                answer = pages(loop, self.name, lambda: follower.lag(loop.progress.place))
                server = PageServer(self.metrics, answer)
                stack.callback(server.close)
                say(f"metrics are served at {server.url}/metrics")
            stack.enter_context(stop.on_signals())
            loop.run(mapping, sink, skip=self.from_now)
        say(f"{loop.counts.delivered} messages delivered, {loop.counts.refused} refused")
        if stop.signal == signal.SIGINT:
            raise typer.Exit(INTERRUPTED)
