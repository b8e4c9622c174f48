"""Late joins under load, and a subscriber that sleeps, with the sockets and processes of a run.

`pytest --full` runs them in full length.
"""

import asyncio
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import msgspec
import pytest
from event_logs import END, LEFT, track_of
from feed_processes import plain_subscriber

import streamvis
from streamvis.errors import UsageError
from streamvis.events import client
from streamvis.events.client import Subscription
from streamvis.events.envelope import Event, Snapshot, Time, encode
from streamvis.events.feed import Feed, Message
from streamvis.events.log import Cursor, LogWriter, Row
from streamvis.events.replay_process import ReplayProcess, addresses_beside
from streamvis.events.snapshot import SourceState, fold
from streamvis.stages import event_codec
from streamvis.stages.track.events import TrackBegin, TrackEnd, TrackUpdate

EPOCH = "01999c82-3d00-7a54-b1d5-0c6d2a7f9e11"
BIND = "tcp://127.0.0.1:*"
CODEC = event_codec()
BATCH = 25  # events of a transaction
PAUSE_S = 0.01  # between two: 2500 events a second


def walks():
    """Tracks that begin, go on and end, over and over."""
    for number in itertools.count(1):
        yield TrackBegin(track_of(number, LEFT))
        for _ in range(8):
            yield TrackUpdate(track_of(number, LEFT))
            if number > 6:
                yield TrackUpdate(track_of(number - 1 - number % 5, LEFT))
        if number > 6:
            yield TrackEnd(msgspec.structs.replace(END.track, id=f"cam1:1:{number - 6}"))


class Run:
    """Logs and publishes the events of two sources, as the publisher of a run does."""

    def __init__(self, feed, log):
        self.feed, self.log = feed, log
        self.events = {"cam1": [], "cam2": []}
        self._walks = walks()

    def publish(self, count=BATCH):
        rows, cursors = [], []
        for source, events in self.events.items():
            for what in itertools.islice(self._walks, count if source == "cam1" else count // 5):
                event = Event(
                    id=f"{source}/{len(events)}",
                    source=source,
                    epoch=EPOCH,
                    tseq=len(events) + 1,
                    offset=len(events),
                    time=Time(media_us=len(events)),
                    what=what,
                )
                events.append(event)
                rows.append(
                    Row(source, event.offset, event.tseq, event.type, event.offset, encode(event))
                )
            cursors.append(Cursor(source, EPOCH, 0, len(events), "", b""))
        self.log.commit(rows, cursors)
        self.feed.publish(Message(r.source, "track", r.tseq, r.payload) for r in rows)

    @contextmanager
    def publishing(self):
        """Publish from a thread."""
        over = threading.Event()

        def publish():
            while not over.wait(PAUSE_S):
                self.publish()

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@contextmanager
def running(out, queue=10_000):
    with closing(LogWriter(out / "events.db")) as log:
        replay = ReplayProcess(log.path, addresses_beside(BIND), CODEC.identities)
        with (
            closing(replay),
            closing(Feed(BIND, epoch=EPOCH, queue=queue, replay=replay.endpoint)) as feed,
        ):
            replay.start()
            run = Run(feed, log)
            run.publish()
            for source in run.events:
                feed.open_source(source, {"track": len(run.events[source])})
            yield run


def state_of(events):
    state = SourceState()
    for event in events:
        fold(state, encode(event), CODEC.identities)
    return state.latest


def joined(endpoint, count):
    """A late join: each snapshot, and the events that follow, `count` in all."""
    subscription = Subscription(endpoint, CODEC, timeout_s=20, since="snapshot")
    events = list(itertools.islice(subscription, count))
    return events, subscription.inbox


@pytest.fixture
def full(request):
    return request.config.getoption("--full")


def test_fifty_late_joins_under_load_agree_with_who_was_there_from_the_start(tmp_path, full):
    count = 5000 if full else 200
    with running(tmp_path) as run:
        reference = Subscription(run.feed.endpoint, CODEC, timeout_s=20, since="snapshot")
        events = iter(reference)
        there = [next(events), next(events)]  # before anything else is published
        with run.publishing(), ThreadPoolExecutor(5) as pool:
            joins = list(pool.map(lambda _: joined(run.feed.endpoint, count), range(50)))
        total = sum(len(one) for one in run.events.values()) - sum(e.offset + 1 for e in there)
        there += itertools.islice(events, total)
        events.close()
    assert (reference.inbox.lost, reference.inbox.repeated) == (0, 0)
    for source, truth in run.events.items():
        assert told(there, source) == truth
        for got, inbox in joins:
            snapshot, *live = [event for event in got if event.source == source]
            first = snapshot.offset + 1
            assert live == truth[first : first + len(live)]
            assert state_of(snapshot.what.events) == state_of(truth[:first])
            assert (inbox.lost, inbox.refused) == (0, 0)


def told(events, source):
    """The events that a subscriber was told of since the start: its snapshot has the first few."""
    snapshot, *live = [event for event in events if event.source == source]
    assert isinstance(snapshot.what, Snapshot)
    assert snapshot.offset == BATCH // (1 if source == "cam1" else 5) - 1
    return [*first_of(source), *live]


def first_of(source):
    """The first transaction, which is published before anybody subscribes."""
    run = Run(Discard(), Discard())
    run.publish()
    return run.events[source]


class Discard:
    def publish(self, messages):
        return

    def commit(self, rows, cursors):
        return


def test_a_subscriber_that_sleeps_catches_up_from_the_log_and_the_others_lose_nothing(
    tmp_path, full, monkeypatch
):
    monkeypatch.setattr(client, "QUEUE", 100)
    sleep_s = 10.0 if full else 2.0
    with running(tmp_path, queue=200) as run:
        awake = Subscription(run.feed.endpoint, CODEC, "cam1", timeout_s=20, since=0)
        asleep = Subscription(run.feed.endpoint, CODEC, "cam1", timeout_s=20, since=0)
        events = iter(asleep)
        got = [next(events)]
        with ThreadPoolExecutor(1) as pool:
            end = []
            others = pool.submit(
                lambda: list(itertools.takewhile(lambda e: e.id not in end, awake))
            )
            began = time.monotonic()
            while time.monotonic() < began + sleep_s:
                run.publish(100)
                time.sleep(0.002)
            truth = run.events["cam1"]
            got += itertools.islice(events, len(truth) - 1)
            end.append(f"cam1/{len(truth)}")
            run.publish()
            assert others.result() == truth[: len(got)]
        events.close()
        assert got == truth[: len(got)]
        assert (asleep.inbox.lost, awake.inbox.lost) == (0, 0)
        assert asleep.inbox.gaps >= 1
        assert sum(run.feed.dropped.values()) >= 1


def test_the_drops_that_the_publisher_counts_are_gaps_that_the_subscriber_fills(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(client, "QUEUE", 100)
    with (
        running(tmp_path, queue=200) as run,
        plain_subscriber(run.feed.endpoint, "sv1/cam1/track/") as quick,
    ):
        asleep = Subscription(run.feed.endpoint, CODEC, "cam1", timeout_s=20, since=0)
        events = iter(asleep)
        got = [next(events)]
        truth = run.events["cam1"]
        run.publish(1)
        for _ in range(400):  # no faster than `quick`, so that `asleep` alone has gaps
            while int.from_bytes(quick.recv_multipart()[1]) < len(truth):
                pass
            run.publish(100)
        got += itertools.islice(events, len(truth) - 1)
        events.close()
        assert got == truth
        # what is fetched from the log for one gap may hold the messages of the next
        assert 1 <= asleep.inbox.gaps <= sum(run.feed.dropped.values())


def test_a_subscription_is_resumed_with_its_cursor(tmp_path):
    with running(tmp_path) as run, run.publishing():
        got, cursor = [], 0
        for _ in range(5):
            subscription = streamvis.subscribe(run.feed.endpoint, "cam1", since=cursor)
            events = iter(subscription)
            got += itertools.islice(events, 100)
            events.close()
            cursor = subscription.cursor
            time.sleep(0.02)
        assert got == run.events["cam1"][:500]


def test_an_address_of_a_replay_server_that_is_none(tmp_path):
    with running(tmp_path) as run, run.publishing():
        events = iter(streamvis.subscribe(run.feed.endpoint, since="snapshot", replay="nowhere"))
        with pytest.raises(UsageError, match="nowhere is not the address of a replay server"):
            next(events)


def test_with_async_for(tmp_path):
    async def first(endpoint, count):
        got = []
        async for event in streamvis.subscribe(endpoint, since="snapshot"):
            got.append(event)
            if len(got) == count:
                break
        return got

    with running(tmp_path) as run:
        with run.publishing():
            got = asyncio.run(asyncio.wait_for(first(run.feed.endpoint, 200), 30))
        for source, truth in run.events.items():
            snapshot, *live = [event for event in got if event.source == source]
            assert live == truth[snapshot.offset + 1 :][: len(live)]
