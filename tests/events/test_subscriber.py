import itertools
import json
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
from event_logs import END, LEFT, track_of
from hypothesis import given
from hypothesis import strategies as st

from streamvis.errors import UsageError
from streamvis.events import envelope, topics
from streamvis.events.client import beside
from streamvis.events.envelope import Beat, Event, Heartbeat, Lost, Snapshot, Time, encode
from streamvis.events.inbox import Inbox
from streamvis.events.log import Cursor as LogCursor
from streamvis.events.log import LogReader, LogWriter, Row
from streamvis.events.replay import Replay
from streamvis.events.replay_protocol import decode_reply
from streamvis.events.replay_protocol import encode as encoded
from streamvis.events.snapshot import SourceState, fold
from streamvis.events.source_events import Gap, SourceGap
from streamvis.events.subscriber import Cursor, Place, Subscriber, read_since
from streamvis.stages import event_codec
from streamvis.stages.track.events import TrackBegin, TrackEnd, TrackUpdate

CODEC = event_codec()
ENDPOINT = "tcp://127.0.0.1:1"


class Publisher:
    """Logs and publishes events, and says what a subscriber is told; without any socket."""

    def __init__(self, path, epoch="e1"):
        self.path, self.epoch = path, epoch
        self.log = LogWriter(path)
        self.events = []
        self.first = {}
        self.counts = {}  # source -> offset of the next event, family -> tseq
        self.server = None

    def publish(self, source, what, logged=True):
        offset, tseqs = self.counts.setdefault(source, [0, {}])
        family = envelope.family_of(what)
        tseqs[family] = tseqs.get(family, 0) + 1
        event = Event(
            id=f"{self.epoch}/{source}/{offset}",
            source=source,
            epoch=self.epoch,
            tseq=tseqs[family],
            offset=offset,
            time=Time(media_us=offset),
            what=what,
        )
        self.counts[source][0] += 1
        row = Row(source, offset, event.tseq, event.type, offset, encode(event))
        first = self.first.setdefault(source, offset)
        cursor = LogCursor(source, self.epoch, first, offset + 1, "", b"")
        self.log.commit([row] if logged else [], [cursor])
        self.events.append(event)
        return wire(event)

    def restart(self, epoch):
        """Begin the next run in the same log."""
        self.epoch = epoch
        self.events = []
        self.first = {}
        self.counts = {name: [offset, {}] for name, (offset, _) in self.counts.items()}

    def beat(self, source=None, replay=ENDPOINT):
        if source is None:
            hb = Beat(sources=sorted(self.counts), replay=replay or msgspec.UNSET)
        else:
            hb = Beat(last=dict(self.counts[source][1]))
        event = Event(
            id="hb",
            source=source or "_sys",
            epoch=self.epoch,
            tseq=0,
            offset=-1,
            time=Time(media_us=0),
            what=Heartbeat(hb),
        )
        return wire(event, None if source else "sv1/_sys/")

    def answer(self, request):
        """The reply of the replay server; `server` None: it is not there."""
        if self.server is None:
            return None
        return decode_reply(self.server.handle([encoded(request)]))


def wire(event, topic=None):
    topic = topic or topics.of(event.source, event.family)
    return [topic.encode(), event.tseq.to_bytes(8), encode(event)]


@contextmanager
def publishing():
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "events.db"
        publisher = Publisher(path)
        with closing(publisher.log), closing(LogReader(path)) as log:
            publisher.server = Replay(log, CODEC.identities)
            yield publisher


def take(subscriber, publisher, parts):
    """Everything that a message leads to."""
    delivered = list(subscriber.take(parts))
    while (request := subscriber.request) is not None:
        delivered += subscriber.answer(publisher.answer(request))
    return delivered


def subscriber_of(since="now", source=None, family=None):
    return Subscriber(Inbox(CODEC, source, family), since)


def body(number):
    kinds = (TrackBegin(track_of(number, LEFT)), TrackUpdate(track_of(number, LEFT)))
    ended = TrackEnd(msgspec.structs.replace(END.track, id=f"cam1:1:{number}"))
    return [*kinds, ended, SourceGap(Gap(first=0, last=number, reason=""))]


bodies = st.integers(1, 3).flatmap(lambda number: st.sampled_from(body(number)))
steps = st.lists(
    st.tuples(st.sampled_from(["cam1", "cam2"]), bodies, st.booleans(), st.sampled_from("  bs")),
    max_size=30,
)


def drive(publisher, subscriber, steps, joins=0):
    """Publish; the subscriber is there from step `joins` on, and gets some of the messages."""
    delivered = []
    for number, (source, what, arrives, beat) in enumerate(steps):
        if number == joins:
            delivered += take(subscriber, publisher, publisher.beat())
        parts = publisher.publish(source, what)
        if number >= joins:
            if arrives:
                delivered += take(subscriber, publisher, parts)
            if beat != " ":
                told = publisher.beat(source if beat == "b" else None)
                delivered += take(subscriber, publisher, told)
    if len(steps) <= joins:
        delivered += take(subscriber, publisher, publisher.beat())
    for source in publisher.counts:
        delivered += take(subscriber, publisher, publisher.beat(source))
    return delivered


def by_source(events):
    return {name: [e for e in events if e.source == name] for name in ("cam1", "cam2")}


def state_of(payloads):
    state = SourceState()
    for payload in payloads:
        fold(state, payload, CODEC.identities)
    return state.latest


@given(steps, st.integers(0, 30))
def test_a_snapshot_and_what_follows_it_are_all_events_whatever_is_lost(steps, joins):
    with publishing() as publisher:
        delivered = drive(publisher, subscriber := subscriber_of("snapshot"), steps, joins)
        truth = by_source(publisher.events)
        for name, events in by_source(delivered).items():
            before = sum(source == name for source, *_ in steps[:joins])
            if events and isinstance(events[0].what, Snapshot):
                told = [*events[0].what.events, *events[1:]]
                first = events.pop(0).offset + 1
            else:
                told, first = events, 0
            assert first == before or first > before  # a source that has just appeared
            assert events == truth[name][first:]
            assert state_of(map(encode, told)) == state_of(map(encode, truth[name]))
        assert subscriber.inbox.lost == 0


@given(steps, st.sampled_from(["track", "source"]), st.integers(0, 30))
def test_a_filter_gets_all_of_its_family_in_order(steps, family, joins):
    with publishing() as publisher:
        subscriber = subscriber_of("now", "cam1", family)
        delivered = drive(publisher, subscriber, steps, joins)
        truth = [
            event
            for event, step in zip(publisher.events, itertools.count())
            if step >= joins and event.source == "cam1" and event.family == family
        ]
        assert delivered == truth
        assert (subscriber.inbox.lost, subscriber.inbox.refused) == (0, 0)


@given(steps, st.integers(0, 30), st.integers(0, 30))
def test_a_cursor_is_continued(steps, stored, joins):
    with publishing() as publisher:
        before = drive(publisher, subscriber_of("now"), steps[:stored])
        cursor = Cursor("e1")
        for event in before:
            place = cursor.sources.setdefault(event.source, Place(-1))
            place.offset, place.tseq[event.family] = event.offset, event.tseq
        since = read_since(msgspec.json.encode(cursor).decode(), None)
        after = drive(publisher, subscriber := subscriber_of(since), steps[stored:], joins)
        truth = by_source(publisher.events)
        if before or not steps[:stored]:
            assert {n: by_source(before)[n] + e for n, e in by_source(after).items()} == truth
        assert subscriber.inbox.lost == 0


@given(steps, st.integers(0, 30), st.integers(0, 30))
def test_an_offset_is_where_it_begins_if_the_log_goes_so_far(steps, offset, joins):
    with publishing() as publisher:
        delivered = drive(publisher, subscriber_of(offset, "cam1"), steps, joins)
        truth = by_source(publisher.events)["cam1"]
        there = sum(source == "cam1" for source, *_ in steps[:joins])
        assert delivered == truth[min(offset, there) :]


def published(publisher, count, source="cam1"):
    return [publisher.publish(source, body(1)[3]) for _ in range(count)]


def test_another_run_is_begun_with_another_snapshot():
    with publishing() as publisher:
        subscriber = subscriber_of("snapshot")
        published(publisher, 3)
        (first,) = take(subscriber, publisher, publisher.beat())
        publisher.restart("e2")
        (early,) = published(publisher, 1)
        assert take(subscriber, publisher, early) == []  # the heartbeat of its run comes later
        (second,) = take(subscriber, publisher, publisher.beat())
        (parts,) = published(publisher, 1)
        (event,) = take(subscriber, publisher, parts)
    assert [type(one.what) for one in (first, second)] == [Snapshot, Snapshot]
    assert (first.offset, second.epoch, second.offset, event.offset) == (2, "e2", 3, 4)


def test_who_began_now_gets_the_next_run_from_its_start():
    with publishing() as publisher:
        subscriber = subscriber_of("now")
        published(publisher, 3)
        assert take(subscriber, publisher, publisher.beat()) == []
        publisher.restart("e2")
        published(publisher, 5)
        assert take(subscriber, publisher, publisher.beat()) == publisher.events


def test_a_cursor_of_another_run_gets_a_snapshot():
    with publishing() as publisher:
        published(publisher, 3)
        subscriber = subscriber_of(Cursor("e0", {"cam1": Place(7)}))
        (event,) = take(subscriber, publisher, publisher.beat())
    assert (type(event.what), event.offset, event.what.tseq) == (Snapshot, 2, {"source": 3})


def test_a_source_that_is_added_is_there_from_its_first_event():
    with publishing() as publisher:
        subscriber = subscriber_of("now")
        take(subscriber, publisher, publisher.beat())
        *_, last = published(publisher, 4, "cam2")
        assert take(subscriber, publisher, last) == publisher.events


def test_what_the_log_does_not_have_is_lost():
    with publishing() as publisher:
        subscriber = subscriber_of("now")
        published(publisher, 1)
        take(subscriber, publisher, publisher.beat())
        publisher.publish("cam1", body(1)[3], logged=False)
        (parts,) = published(publisher, 1)
        lost, event = take(subscriber, publisher, parts)
        publisher.publish("cam1", body(1)[3], logged=False)
        (last,) = take(subscriber, publisher, publisher.beat("cam1"))
    assert (lost.what, event.offset) == (Lost("sv1/cam1/source/", 2, 2), 2)
    assert (last.what, subscriber.inbox.lost) == (Lost("sv1/cam1/source/", 4, 4), 2)


def evict(publisher, before):
    publisher.log._db.execute("DELETE FROM events WHERE offset < ?", (before,))


def test_what_is_evicted_is_lost_and_the_state_begins_anew():
    with publishing() as publisher:
        published(publisher, 10)
        evict(publisher, 6)
        subscriber = subscriber_of(Cursor("e1", {"cam1": Place(1, {"source": 2})}))
        lost, snapshot = take(subscriber, publisher, publisher.beat())
        (parts,) = published(publisher, 1)
        (event,) = take(subscriber, publisher, parts)
    assert lost.what == Lost("sv1/cam1/source/", 3, 10)
    assert (type(snapshot.what), snapshot.offset, event.offset) == (Snapshot, 9, 10)


def test_who_began_now_gets_what_is_left_after_an_eviction():
    with publishing() as publisher:
        published(publisher, 1)
        subscriber = subscriber_of("now")
        take(subscriber, publisher, publisher.beat())
        published(publisher, 5)
        evict(publisher, 4)
        lost, *events = take(subscriber, publisher, publisher.beat("cam1"))
    assert (lost.what, [e.offset for e in events]) == (Lost("sv1/cam1/source/", 2, 4), [4, 5])


def test_without_a_log_what_comes_is_delivered_and_gaps_are_lost():
    with publishing() as publisher:
        subscriber = subscriber_of("now")
        first, second, third, fourth = published(publisher, 4)
        assert take(subscriber, publisher, second) == []
        got = take(subscriber, publisher, publisher.beat(replay=""))
        got += [one for parts in (third, first) for one in take(subscriber, publisher, parts)]
        assert [event.offset for event in got] == [1, 2]
        (parts,) = published(publisher, 1)
        lost, event = take(subscriber, publisher, parts)
        assert (lost.what, event.offset) == (Lost("sv1/cam1/source/", 4, 4), 4)
        assert fourth
        with pytest.raises(UsageError, match=r"no replay server.*only since='now'"):
            subscriber_of("snapshot").take(publisher.beat(replay=""))


def test_a_server_that_does_not_answer_is_given_up_and_asked_again_later():
    with publishing() as publisher:
        published(publisher, 1)
        subscriber = subscriber_of("snapshot")
        server, publisher.server = publisher.server, None
        assert take(subscriber, publisher, publisher.beat()) == []
        publisher.server = server
        (snapshot,) = take(subscriber, publisher, publisher.beat())
        publisher.server = None
        *_, parts = published(publisher, 3)
        lost, event = take(subscriber, publisher, parts)
        assert (snapshot.offset, lost.what, event.offset) == (
            *(0, Lost("sv1/cam1/source/", 2, 3), 3),
        )
        plain = subscriber_of("now")
        assert take(plain, publisher, publisher.beat()) == []
        assert len(take(plain, publisher, parts)) == 1


@pytest.mark.parametrize(
    "since", ["then", -1, True, 1.5, None, "{", '{"epoch":3}', '{"epoch":"e","place":{}}', "[1]"]
)
def test_a_since_that_is_none(since):
    with pytest.raises(UsageError, match=r"since=.*Expected 'now', 'snapshot', an offset"):
        read_since(since, "cam1")


def test_an_offset_needs_a_source_and_a_cursor_may_be_json_or_a_dict():
    with pytest.raises(UsageError, match="name the source too"):
        read_since(3, None)
    cursor = Cursor("e", {"cam1": Place(4, {"track": 3})})
    text = '{"epoch":"e","sources":{"cam1":{"offset":4,"tseq":{"track":3}}}}'
    assert read_since(text, None) == read_since(json.loads(text), None) == cursor


@pytest.mark.parametrize(
    ("endpoint", "replay", "address"),
    [
        ("tcp://camera.lan:5560", "tcp://0.0.0.0:5561", "tcp://camera.lan:5561"),
        ("tcp://[::1]:5560", "tcp://[::]:7", "tcp://[::1]:7"),
        ("ipc:///run/feed", "ipc:///run/feed-replay", "ipc:///run/feed-replay"),
    ],
)
def test_the_server_is_where_the_feed_is(endpoint, replay, address):
    assert beside(endpoint, replay) == address
