"""Benchmark of the event log and the feed, beside the two that they consist of.

In each round the same events take three ways on one core, one after another: through log and feed
as the publisher sends them; through a bare XPUB socket; into a bare SQLite table. A round through a
socket ends when a subscriber, in a process on another core, has all of its events. Then commits are
timed while nothing else happens to the log, and while a large log is evicted.
"""

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import zmq

from streamvis.errors import RunError
from streamvis.events import envelope, topics
from streamvis.events.envelope import Event, FrameRef, Provenance, Time, new_epoch
from streamvis.events.feed import QUEUE, WELCOME
from streamvis.events.log import Cursor, LogReader, LogWriter, Row
from streamvis.events.retention import Evictor, Retention
from streamvis.stages.publish.opening import Run
from streamvis.stages.publish.stage import Outbox, OutgoingEvent
from streamvis.stages.track.events import Association, Track, TrackUpdate

BATCH = 10  # events of a commit: the people of a frame
STATE = bytes(800)  # of a source, as it is after a while
COMMITS = 1000  # timed while nothing is evicted
PAUSE_S = 0.002  # before each of them
PATIENCE_S = 60
TABLE = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY, source TEXT, offset INTEGER, tseq INTEGER, type TEXT, media_us INTEGER,
    payload BLOB
);
CREATE UNIQUE INDEX events_by_source ON events (source, offset);
"""
INSERT = "INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?)"


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """Events per second: median of the rounds."""

    per_s: float
    per_cpu_s: float  # of the sending process


class CommitTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Time that a commit of a few events takes."""

    ms_p50: float
    ms_p99: float


class FeedReport(msgspec.Struct, frozen=True, kw_only=True):
    """Rates of log and feed, and of the bare parts; commits beside an eviction."""

    events: int  # in each round
    rounds: int
    bytes_of_an_event: int
    log_and_feed: Rate
    bare_xpub: Rate
    bare_sqlite: Rate
    over_bare_xpub: float  # log and feed over the others, by CPU time
    over_bare_sqlite: float
    over_both: float  # … over a process that does the two bare ones in turn
    commit_alone: CommitTimes
    commit_while_evicting: CommitTimes
    evicted_per_s: float


def measure(events: int = 5000, rounds: int = 9, evicted: int = 200_000) -> FeedReport:
    """Measure rates and commits, in about half a minute. RunError when events were lost."""
    if events > QUEUE:
        raise ValueError(f"events={events}: a round fits into a queue of {QUEUE}")
    with _one_core() as others, tempfile.TemporaryDirectory() as out:
        ours, xpub, table = _rates(Path(out), events, rounds, others)
        alone, evicting, evicted_per_s = _commits(Path(out), evicted)
    both = 1 / (1 / xpub.per_cpu_s + 1 / table.per_cpu_s)
    return FeedReport(
        events=events,
        rounds=rounds,
        bytes_of_an_event=len(rows_from("cam", 0, 1)[0].payload),
        log_and_feed=ours,
        bare_xpub=xpub,
        bare_sqlite=table,
        over_bare_xpub=round(ours.per_cpu_s / xpub.per_cpu_s, 3),
        over_bare_sqlite=round(ours.per_cpu_s / table.per_cpu_s, 3),
        over_both=round(ours.per_cpu_s / both, 3),
        commit_alone=alone,
        commit_while_evicting=evicting,
        evicted_per_s=round(evicted_per_s),
    )


@contextmanager
def _one_core() -> Iterator[list[int]]:
    """Keep this thread, and those that it starts, to one core; yields the cores for others."""
    cores = os.sched_getaffinity(0)
    one = min(cores)
    os.sched_setaffinity(0, {one})
    try:
        yield sorted(cores - {one} or cores)
    finally:
        os.sched_setaffinity(0, cores)


def rows_from(source: str, first: int, count: int) -> list[Row]:
    """Return track updates of a source as they are logged."""
    return [_row(source, offset) for offset in range(first, first + count)]


def _row(source: str, offset: int) -> Row:
    track = Track(
        id=f"{source}:1:{offset % BATCH}",
        box_px=(432.0, 496.5, 544.0, 854.0),
        box_from="update",
        score=0.88,
        vel_px_s=(12.1, -0.4),
        cov_diag=(4.1, 3.9, 0.8, 1.2),
        p_exist=0.97,
        assoc=Association(method="jipda", entropy=0.12, gated=2),
        first_seen_us=115016789,
        age_s=8.44,
    )
    event = Event(
        id=new_epoch(),
        source=source,
        epoch="01999c82-3d00-7a54-b1d5-0c6d2a7f9e11",
        tseq=offset + 1,
        offset=offset,
        time=Time(media_us=40_000 * offset, emit_us=time.time_ns() // 1000),
        frame=FrameRef(n=offset, seq=offset, w=1920, h=1080, stream_epoch=1),
        prov=Provenance(pipeline="8f14e45fceea"),
        what=TrackUpdate(track),
    )
    payload = envelope.encode(event)
    return Row(source, offset, offset + 1, event.type, event.time.media_us, payload)


def _rates(out: Path, events: int, rounds: int, others: list[int]) -> tuple[Rate, Rate, Rate]:
    epoch = new_epoch()
    sources = [f"cam{n}" for n in range(rounds + 1)]  # the first round does not count
    with (
        _log_and_feed(out, epoch) as (outbox, feed),
        _bare_xpub(epoch) as (xpub, bare),
        closing(_bare_table(out / "bare.db")) as table,
        _subscriber(xpub, [feed, bare], events, others) as received,
    ):
        spent: list[list[tuple[float, float]]] = []
        for source in sources:
            batches = _batches(rows_from(source, 0, events))
            ways: list[tuple[Callable[[list[Row]], None], Callable[[], None]]] = [
                (lambda rows: _send_logged(outbox, rows), received),
                (lambda rows: _send_bare(xpub, rows), received),
                (lambda rows: _insert(table, rows), lambda: None),
            ]
            spent.append([_spent(batches, send, done) for send, done in ways])
    wall, cpu = events / np.moveaxis(np.array(spent[1:]), -1, 0)  # each (rounds, 3)
    rates = zip(np.median(wall, axis=0), np.median(cpu, axis=0), strict=True)
    ours, bare_xpub, bare_sqlite = [
        Rate(per_s=round(float(a)), per_cpu_s=round(float(b))) for a, b in rates
    ]
    return ours, bare_xpub, bare_sqlite


def _spent(
    batches: Iterable[list[Row]], send: Callable[[list[Row]], None], done: Callable[[], None]
) -> tuple[float, float]:
    """Return the seconds, and the seconds of CPU time, that the batches took."""
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in batches:
        send(batch)
    done()
    return time.perf_counter() - wall, time.process_time() - cpu


def _batches(rows: list[Row]) -> list[list[Row]]:
    return [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]


@contextmanager
def _log_and_feed(out: Path, epoch: str) -> Iterator[tuple[Outbox, str]]:
    outbox = Outbox(out, "tcp://127.0.0.1:*", Run(epoch, Provenance(pipeline="bench")))
    try:
        assert outbox.endpoint is not None
        yield outbox, outbox.endpoint
    finally:
        outbox.close(ended=True)


def _send_logged(outbox: Outbox, rows: list[Row]) -> None:
    source, following = rows[-1].source, rows[-1].offset + 1
    cursor = Cursor(source, "e", 0, following, "", STATE)
    outbox.send([OutgoingEvent(row) for row in rows], [cursor])


@contextmanager
def _bare_xpub(epoch: str) -> "Iterator[tuple[zmq.Socket[bytes], str]]":
    with zmq.Context() as context, context.socket(zmq.XPUB) as xpub:
        xpub.sndhwm = QUEUE
        xpub.linger = 0
        xpub.setsockopt(zmq.XPUB_WELCOME_MSG, WELCOME + epoch.encode())
        xpub.bind("tcp://127.0.0.1:*")
        yield xpub, xpub.getsockopt_string(zmq.LAST_ENDPOINT)


def _send_bare(xpub: "zmq.Socket[bytes]", rows: list[Row]) -> None:
    for row in rows:
        topic = topics.of(row.source, "track").encode()
        xpub.send_multipart([topic, row.tseq.to_bytes(8), row.payload])


def _bare_table(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.executescript(TABLE)
    return db


def _insert(db: sqlite3.Connection, rows: list[Row]) -> None:
    db.execute("BEGIN IMMEDIATE")
    db.executemany(INSERT, rows)
    db.execute("COMMIT")


@contextmanager
def _subscriber(
    xpub: "zmq.Socket[bytes]", endpoints: list[str], events: int, cores: list[int]
) -> Iterator[Callable[[], None]]:
    """Start a process that subscribes to all; yields what waits until it has a round's events."""
    with zmq.Context() as context, context.socket(zmq.PULL) as acks:
        port = acks.bind_to_random_port("tcp://127.0.0.1")
        settings = json.dumps([endpoints, f"tcp://127.0.0.1:{port}", events, cores])
        process = subprocess.Popen([sys.executable, "-m", __name__, settings])

        def wait() -> None:
            for _ in range(PATIENCE_S * 100):
                xpub.poll(0)  # libzmq handles subscriptions when its socket is used
                if acks.poll(10):
                    acks.recv()
                    return
            raise RunError(f"a subscriber did not receive the {events} events of a round")

        try:
            wait()  # it listens to all
            yield wait
        finally:
            process.kill()
            process.wait()


def _subscribe(endpoints: list[str], acks: str, events: int, cores: list[int]) -> None:
    """Receive events, and say when the subscriptions are in force and after each round."""
    os.sched_setaffinity(0, cores)
    context = zmq.Context()
    subscriber, pusher = context.socket(zmq.SUB), context.socket(zmq.PUSH)
    subscriber.rcvhwm = QUEUE
    pusher.connect(acks)
    for topic in (b"sv1/cam", WELCOME):
        subscriber.subscribe(topic)
    for endpoint in endpoints:
        subscriber.connect(endpoint)
    for _ in endpoints:
        while not subscriber.recv_multipart()[0].startswith(WELCOME):
            pass
    pusher.send(b"")
    while True:
        count = 0
        while count < events:
            count += subscriber.recv_multipart()[0].endswith(b"/track/")
        pusher.send(b"")


def _commits(out: Path, evicted: int) -> tuple[CommitTimes, CommitTimes, float]:
    """Time commits to a log of 20 hours, then while all but its last hour are evicted."""
    path, hours, clock = out / "large.db", 20, [0.0]
    with closing(LogWriter(path, lambda: clock[0])) as writer, LogReader(path) as reader:
        offset = 0
        for hour in range(hours):
            clock[0] = 3600.0 * hour
            rows = rows_from("cam", offset, evicted // hours)
            writer.commit(rows, [])
            offset += len(rows)
        clock[0] = 3600.0 * 1000
        last = offset
        alone = [_commit_ms(writer, last + BATCH * n) for n in range(COMMITS)]
        offset += BATCH * COMMITS
        with closing(Evictor(writer, Retention(keep_days=1), lambda: clock[0])) as evictor:
            began = time.perf_counter()
            evictor.start()
            beside: list[float] = []
            while reader.oldest("cam") < last:
                if time.perf_counter() > began + PATIENCE_S:
                    raise RunError(f"{evicted} events were not evicted within {PATIENCE_S} s")
                beside.append(_commit_ms(writer, offset))
                offset += BATCH
            took_s = time.perf_counter() - began
    return _times(alone), _times(beside), evicted / took_s


def _commit_ms(writer: LogWriter, offset: int) -> float:
    rows = rows_from("cam", offset, BATCH)
    time.sleep(PAUSE_S)
    began = time.perf_counter()
    writer.commit(rows, [Cursor("cam", "e", 0, offset + BATCH, "", STATE)])
    return 1e3 * (time.perf_counter() - began)


def _times(ms: list[float]) -> CommitTimes:
    p50, p99 = np.quantile(ms, [0.5, 0.99])
    return CommitTimes(ms_p50=round(float(p50), 3), ms_p99=round(float(p99), 3))


if __name__ == "__main__":
    _subscribe(*json.loads(sys.argv[1]))
