import asyncio
import itertools
import struct
import subprocess
import sys
from contextlib import closing

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from talking_feed import EPOCH, event_of, publishing
from waiting import PATIENCE_S

import streamvis
from streamvis.api.subscription import subscribe
from streamvis.errors import UsageError
from streamvis.events import topics
from streamvis.events.client import Subscription
from streamvis.events.envelope import Beat, Heartbeat, Lost, encode
from streamvis.events.feed import Feed
from streamvis.events.inbox import Inbox
from streamvis.stages import event_codec


def beat_of(last, source="cam1", epoch=EPOCH):
    event = event_of(0, source, epoch)
    return msgspec.structs.replace(event, what=Heartbeat(Beat(last={"source": last})))


def wire(event, topic=None):
    topic = topic or topics.of(event.source, event.family)
    return [topic.encode(), struct.pack(">Q", event.tseq), encode(event)]


def took(inbox, events):
    """What comes out, briefly: a tseq, or (first, last) of what is lost."""
    out = [one for event in events for one in inbox.take(wire(event))]
    return [
        (one.what.first, one.what.last) if isinstance(one.what, Lost) else one.tseq for one in out
    ]


def test_a_late_joiner_starts_where_it_joins():
    inbox = Inbox(event_codec())
    assert took(inbox, [event_of(7), event_of(8)]) == [7, 8]
    assert (inbox.lost, inbox.repeated, inbox.refused) == (0, 0, 0)


def test_what_is_missing_is_told_in_its_place():
    inbox = Inbox(event_codec())
    assert took(inbox, [event_of(1), event_of(4), event_of(5)]) == [1, (2, 3), 4, 5]
    assert inbox.lost == 2


def test_what_comes_again_is_left_out():
    inbox = Inbox(event_codec())
    assert took(inbox, [event_of(n) for n in (1, 2, 1, 2, 3)]) == [1, 2, 3]
    assert (inbox.lost, inbox.repeated) == (0, 2)


def test_a_heartbeat_tells_of_the_last_message_that_never_came():
    inbox = Inbox(event_codec())
    assert took(inbox, [event_of(1), beat_of(1), beat_of(3), event_of(4)]) == [1, (2, 3), 4]
    assert inbox.ready


def test_after_the_first_heartbeat_nothing_is_missed_unnoticed():
    assert took(Inbox(event_codec()), [beat_of(5), event_of(7)]) == [(6, 6), 7]


def test_sources_are_counted_apart():
    events = [event_of(1), event_of(9, "cam10"), event_of(2), event_of(10, "cam10")]
    assert took(Inbox(event_codec()), events) == [1, 9, 2, 10]


def test_a_new_boot_counts_anew():
    inbox = Inbox(event_codec())
    assert took(inbox, [event_of(8), event_of(1, epoch="next"), event_of(2, epoch="next")]) == [
        *(8, 1, 2)
    ]
    assert inbox.repeated == 0


def test_only_what_was_asked_for():
    assert took(Inbox(event_codec(), source="cam1"), [event_of(1, "cam10"), event_of(1)]) == [1]
    assert took(Inbox(event_codec(), family="track"), [event_of(1), beat_of(1), beat_of(5)]) == []
    beats = Inbox(event_codec(), family="hb")
    assert took(beats, [event_of(1), beat_of(1), beat_of(5)]) == [0, 0]


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_every_loss_is_counted(arrives):
    events = [event_of(n) for n, here in enumerate(arrives, start=1) if here]
    inbox = Inbox(event_codec())
    inbox.take(wire(beat_of(0)))
    out = took(inbox, [*events, beat_of(len(arrives))])
    assert [n for n in out if isinstance(n, int)] == [event.tseq for event in events]
    assert inbox.lost == arrives.count(False)
    assert sum(last - first + 1 for first, last in (n for n in out if isinstance(n, tuple))) == (
        inbox.lost
    )


good = wire(event_of(1))


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b""],
        good[:2],
        [good[0], b"\0\0\1", good[2]],
        [good[0], struct.pack(">Q", 2), good[2]],
        [b"sv1/cam2/source/", *good[1:]],
        [b"sv1/cam1/track/", *good[1:]],
        [b"\xff\xfe", *good[1:]],
        [*good[:2], good[2][:-5]],
        [*good[:2], b" " * (2 << 20)],
        [*good[:2], b"\xff"],
        [*good, b" " * (2 << 20)],
        [*good, *[b"mask"] * 20],
    ],
    ids=range(13),
)
def test_malformed_messages_are_counted_and_left_out(parts):
    inbox = Inbox(event_codec())
    assert inbox.take(parts) == []
    assert inbox.refused == 1
    assert took(inbox, [event_of(1)]) == [1]


@given(st.lists(st.binary(max_size=30), max_size=5))
def test_noise_never_raises(parts):
    assert Inbox(event_codec()).take(parts) == []


def test_what_is_attached_comes_with_its_event_and_the_welcome_is_no_trouble():
    inbox = Inbox(event_codec())
    (event,) = inbox.take([*good, b"mask", b"more"])
    assert (event.tseq, event.attachments) == (1, (b"mask", b"more"))
    assert [event.attachments for event in inbox.take(wire(event_of(2)))] == [()]
    assert inbox.take([b"sv1-welcome/" + EPOCH.encode()]) == []
    assert inbox.refused == 0


def test_events_with_async_for():
    async def first(endpoint, count):
        got = []
        async for event in streamvis.subscribe(endpoint, source="cam1", family="source"):
            got.append(event)
            if len(got) == count:
                break
        return got

    with publishing("cam1", "cam10") as endpoint:
        got = asyncio.run(asyncio.wait_for(first(endpoint, 50), 20))
    assert {event.source for event in got} == {"cam1"}
    tseqs = [event.tseq for event in got]
    assert tseqs == list(range(tseqs[0], tseqs[0] + 50))


def test_events_with_for_of_all_sources():
    with publishing("cam1", "cam10") as endpoint:
        subscription = Subscription(endpoint, event_codec(), timeout_s=20)
        got = list(itertools.islice(subscription, 50))
    assert {event.source for event in got} == {"cam1", "cam10"}
    assert subscription.inbox.lost == 0


def test_thirty_late_joins_under_load_leave_no_gap():
    with publishing("cam1", "cam10") as endpoint:
        for _ in range(30):
            subscription = Subscription(endpoint, event_codec(), source="cam1", timeout_s=20)
            list(itertools.islice((e for e in subscription if subscription.inbox.ready), 10))
            assert (subscription.inbox.lost, subscription.inbox.refused) == (0, 0)


def test_silence_ends_it_when_asked_to():
    with closing(Feed("tcp://127.0.0.1:*", epoch=EPOCH)) as feed:
        endpoint = feed.endpoint
    assert list(Subscription(endpoint, event_codec(), timeout_s=0.05)) == []


COLLECTED = """
import gc, sys
from streamvis.api.subscription import subscribe
events = iter(subscribe(sys.argv[1]))
next(events)
circle = [events]
circle.append(circle)
del circle, events
gc.collect()
"""


def test_a_subscription_that_is_garbage_is_closed_without_a_hang():
    with publishing("cam1") as endpoint:
        subprocess.run([sys.executable, "-c", COLLECTED, endpoint], check=True, timeout=PATIENCE_S)


def test_an_address_that_is_none():
    with pytest.raises(
        UsageError, match=r"cam1 is not the address of a feed .*Expected tcp://HOST:PORT"
    ):
        next(iter(subscribe("cam1")))
    with pytest.raises(UsageError, match=r"endpoint is 5560; expected an address, such as tcp"):
        subscribe(5560)
    for wrong, says in (
        ({"endpoint": ["tcp://127.0.0.1:1", None]}, "endpoint is None; expected an address"),
        ({"source": 5}, "source is 5; expected the id of a source, or None"),
        ({"family": b"track"}, "family is b'track'; expected a family of events"),
        ({"replay": 5560}, "replay is 5560; expected an address"),
        ({"keys": 5}, "keys is 5; expected the path of a client's file"),
        ({"until_ended": "no"}, "until_ended is 'no'; expected True or False"),
        ({"since": np.zeros(3)}, "since=array.*: it is a ndarray. Expected 'now'"),
    ):
        with pytest.raises(UsageError, match=says):
            subscribe(**{"endpoint": "tcp://127.0.0.1:5560", **wrong})


def test_a_family_that_no_installed_stage_has_is_logged(capfd):
    subscribe("tcp://127.0.0.1:5560", family="trak")
    said = capfd.readouterr().err
    assert "no installed stage has events of this family" in said
    assert "family=trak" in said
    subscribe("tcp://127.0.0.1:5560", family="track")
    assert capfd.readouterr().err == ""


def test_importing_streamvis_is_cheap_and_subscribe_is_there():
    code = "import sys, streamvis; assert 'zmq' not in sys.modules; streamvis.subscribe"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE_S)
    with pytest.raises(AttributeError, match="no attribute 'unsubscribe'"):
        _ = streamvis.unsubscribe
