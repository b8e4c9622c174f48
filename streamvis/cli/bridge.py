"""`streamvis bridge`: deliver the events of a log to other systems."""

import re
import signal
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from typer import Argument, Option

from streamvis.cli.options import Json
from streamvis.cli.output import INTERRUPTED, command, put_result, say
from streamvis.cli.run import LogFormat, LogFormatOption, Metrics
from streamvis.errors import UsageError
from streamvis.files import is_same

if TYPE_CHECKING:
    from streamvis.bridges.loop import Mapping, Sink
    from streamvis.bridges.mqtt_broker import Broker as BrokerAddress
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


Broker = Annotated[
    str, Argument(help="mqtt://host:port, or mqtts://host:port with TLS.", show_default=False)
]
User = Annotated[str | None, Option(help="User name at the broker.")]
PasswordFile = Annotated[Path | None, Option(help="File with the password, one line.")]
Ca = Annotated[
    Path | None, Option(help="Certificates to trust, PEM; default: those of the system.")
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
    mapping = Lines(TypeFilter(type or [], event_codec().names, all_=True))
    common = _Common(log, name or "jsonl", state, from_now, until_ended, metrics, log_format)
    if is_same(to, common.log):
        raise UsageError(f"--to {to}: the lines would be written into the log; choose another file")
    sink = LinesOut(stop) if str(to) == "-" else LinesFile(to, stop)
    common.run(mapping, sink, stop, retry_first_s, retry_longest_s)


@command(app)
def mqtt(
    broker: Broker,
    log: Log,
    user: User = None,
    password_file: PasswordFile = None,
    ca: Ca = None,
    prefix: Annotated[str, Option(help="First part of all topics.")] = "sv",
    discovery: Annotated[
        str, Option(help="Home Assistant's prefix for discovery; empty: none is published.")
    ] = "homeassistant",
    remove: Annotated[
        list[str] | None,
        Option(help="Remove a source, with its device, from the broker, and end; repeatable."),
    ] = None,
    snapshot_every: Annotated[
        float | None,
        Option(
            min=1.0,
            help="Publish a picture of each source that is online, every so many seconds; "
            "default: none. The run must be one of this user, on this machine.",
        ),
    ] = None,
    name: Name = None,
    state: State = None,
    from_now: FromNow = False,
    until_ended: UntilEnded = False,
    retry_first_s: RetryFirst = 1.0,
    retry_longest_s: RetryLongest = 60.0,
    metrics: Metrics = None,
    log_format: LogFormatOption = LogFormat.console,
) -> None:
    """Publish the states of sources, and lifecycle events, at an MQTT broker."""
    _need_paho()
    from streamvis.bridges.mqtt import MqttMapping, Topics
    from streamvis.bridges.mqtt_broker import Message, MqttSink
    from streamvis.bridges.publisher_watch import PublisherWatch
    from streamvis.bridges.snapshots import Snapshots
    from streamvis.bridges.stop import Stop
    from streamvis.stages import event_codec

    stop, topics = Stop(), Topics(_topic(prefix, "--prefix"), discovery)
    mapping = MqttMapping(event_codec(), topics, snapshots=snapshot_every is not None)
    common = _Common(log, name or "mqtt", state, from_now, until_ended, metrics, log_format)
    snapshots = Snapshots(common.log.parent, snapshot_every or 0.0, time.monotonic)

    watch = PublisherWatch(common.log.parent, time.monotonic)

    def extras() -> list[Message]:
        gone = mapping.cut_off() if watch.died(mapping.events) else []
        if snapshot_every is None:
            return gone
        taken = snapshots.taken(mapping.online())
        return gone + [mapping.snapshot(one.source, one.jpeg) for one in taken]

    sink = MqttSink(
        _broker(broker, user, password_file, ca),
        stop,
        status=topics.status,
        greeting=mapping.current,
        greet_on=f"{_topic(discovery, '--discovery')}/status" if discovery else None,
        extras=extras,
    )
    if remove:
        from streamvis.bridges.mqtt_removal import remove_sources

        remove_sources(common.file, mapping, sink, remove)
        return
    with closing(snapshots):
        common.run(mapping, sink, stop, retry_first_s, retry_longest_s)


@command(app)
def onvif(
    broker: Broker,
    log: Log,
    user: User = None,
    password_file: PasswordFile = None,
    ca: Ca = None,
    prefix: Annotated[str, Option(help="First part of all topics.")] = "streamvis",
    name: Name = None,
    state: State = None,
    from_now: FromNow = False,
    until_ended: UntilEnded = False,
    retry_first_s: RetryFirst = 1.0,
    retry_longest_s: RetryLongest = 60.0,
    metrics: Metrics = None,
    log_format: LogFormatOption = LogFormat.console,
) -> None:
    """Publish tracks as ONVIF Profile M metadata and events, JSON at an MQTT broker."""
    _need_paho()
    from streamvis.bridges.mqtt_broker import MqttSink
    from streamvis.bridges.onvif import OnvifMapping
    from streamvis.bridges.stop import Stop
    from streamvis.stages import event_codec

    stop = Stop()
    prefix = _topic(prefix, "--prefix")
    common = _Common(log, name or "onvif", state, from_now, until_ended, metrics, log_format)
    address = _broker(broker, user, password_file, ca)
    mapping = OnvifMapping(event_codec(), prefix)
    sink = MqttSink(address, stop, status=f"{prefix}/status")
    common.run(mapping, sink, stop, retry_first_s, retry_longest_s)


@command(app)
def webhook(
    log: Log,
    url: Annotated[str | None, Argument(help="http:// or https:// address to POST to.")] = None,
    secret_file: Annotated[
        Path | None, Option(help="File with the secret that requests are signed with, one line.")
    ] = None,
    type: Types = None,
    timeout_s: Annotated[
        float, Option(min=0.01, help="Longest silence of the server, seconds.")
    ] = 10.0,
    ca: Ca = None,
    dead_letters: Annotated[
        bool, Option("--dead-letters", help="List the events that were refused, and end.")
    ] = False,
    json: Json = False,
    name: Name = None,
    state: State = None,
    from_now: FromNow = False,
    until_ended: UntilEnded = False,
    retry_first_s: RetryFirst = 1.0,
    retry_longest_s: RetryLongest = 60.0,
    metrics: Metrics = None,
    log_format: LogFormatOption = LogFormat.console,
) -> None:
    """Send lifecycle events, or those of --type, to an HTTP server, each as a signed POST."""
    from streamvis.bridges.dead_letters import DeadLetters
    from streamvis.bridges.selection import TypeFilter
    from streamvis.bridges.stop import Stop
    from streamvis.bridges.webhook import Posts, WebhookSink, webhook_at
    from streamvis.events.log import LogReader
    from streamvis.runners.tables import Table
    from streamvis.sources.credentials import password_in
    from streamvis.stages import event_codec

    common = _Common(log, name or "webhook", state, from_now, until_ended, metrics, log_format)
    letters = DeadLetters(common.file.path.with_suffix(".dead.jsonl"))
    if dead_letters:
        listed = letters.listed()
        if not listed:
            LogReader(common.log).close()  # DataError where there is none
            say(f"no event was refused: {letters.path} has none")
        rows = [(one.at, one.id, one.source, one.type, one.status, one.reason) for one in listed]
        columns = ("refused at", "id", "source", "type", "status", "reason")
        put_result(listed, [Table("", columns, rows)], json=json)
        return
    if url is None or secret_file is None:
        raise UsageError(
            "bridge webhook needs the URL, and --secret-file: a file of one line with the secret "
            "that requests are signed with"
        )
    secret = password_in(secret_file, "--secret-file")
    stop = Stop()
    sink = WebhookSink(webhook_at(url, secret, timeout_s=timeout_s, ca=ca), letters, stop)
    mapping = Posts(TypeFilter(type or [], event_codec().names))
    common.run(mapping, sink, stop, retry_first_s, retry_longest_s)


def _need_paho() -> None:
    from importlib.util import find_spec

    if find_spec("paho") is None:
        raise UsageError("MQTT needs paho-mqtt: pip install 'paho-mqtt>=2'")


def _topic(text: str, option: str) -> str:
    """Return a part of a topic; UsageError for one that subscriptions would misread."""
    if not re.fullmatch(r"[^+#\0/]+(/[^+#\0/]+)*", text) or len(text.encode()) > 200:
        raise UsageError(f"{option} {text!r}: expected names separated by /, without + and #")
    return text


def _broker(
    url: str, user: str | None, password_file: Path | None, ca: Path | None
) -> "BrokerAddress":
    from streamvis.bridges.mqtt_broker import broker_at
    from streamvis.sources.credentials import password_in

    password = password_in(password_file, "--password-file") if password_file else None
    return broker_at(url, user, password, ca)


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
        from streamvis.bridges.place import ProgressFile

        if not re.fullmatch(r"[a-z0-9_-]{1,64}", name):
            raise UsageError(f"--name {name}: expected 1 to 64 of a-z, 0-9, - and _")
        if state is not None and not state.is_dir():
            raise UsageError(f"--state {state}: no such directory")
        self.log = log if log.suffix == ".db" or log.is_file() else log / "events.db"
        self.name = name
        self.state = state or self.log.parent
        self.file = ProgressFile(self.state / f"bridge-{name}.json")
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
        from streamvis.runtime.page_server import PageServer

        follower = LogFollower(self.log)
        settings = Settings(
            retry_first_s=first_s, retry_longest_s=longest_s, until_ended=self.until_ended
        )
        loop = Loop(follower, self.file, stop, settings, time.monotonic)
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
