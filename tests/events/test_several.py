"""Events of several feeds in one loop."""

import asyncio
import itertools
import json
import threading
from contextlib import ExitStack, closing

import pytest
from talking_feed import publishing
from waiting import PATIENCE_S, until

import streamvis
from streamvis.errors import UsageError
from streamvis.events.client import Subscription
from streamvis.events.feed import Feed
from streamvis.events.follow import follow_all
from streamvis.events.several import joined, starts_of
from streamvis.stages import event_codec


def check(got):
    """All sources are there, each in order and without a gap."""
    assert {event.source for event in got} == {"cam1", "cam2", "cam3"}
    for source in ("cam1", "cam2", "cam3"):
        tseqs = [event.tseq for event in got if event.source == source]
        assert tseqs == list(range(tseqs[0], tseqs[0] + len(tseqs)))


@pytest.fixture
def feeds():
    with ExitStack() as stack:
        yield [stack.enter_context(publishing(*names)) for names in (["cam1"], ["cam2", "cam3"])]


def test_one_loop_over_two_feeds(feeds):
    subscription = streamvis.subscribe(feeds, family="source")
    got = []
    for event in subscription:
        got.append(event)
        if len(got) >= 200 and len({one.source for one in got}) == 3:
            break
    check(got)
    cursors = json.loads(subscription.cursor)
    assert set(cursors) == set(feeds)
    for event in got:  # the last of each source is where the cursor stands
        (cursor,) = [one for one in cursors.values() if event.source in one["sources"]]
        assert cursor["sources"][event.source]["offset"] >= event.offset
    last = {event.source: event.offset for event in got}
    found = {name: at["offset"] for one in cursors.values() for name, at in one["sources"].items()}
    assert {name: found[name] for name in last} == last


def test_the_same_with_async_for(feeds):
    async def read():
        got = []
        async for event in streamvis.subscribe(feeds, family="source"):
            got.append(event)
            if len(got) >= 200 and len({one.source for one in got}) == 3:
                break
        return got

    check(asyncio.run(asyncio.wait_for(read(), PATIENCE_S)))


def test_it_ends_once_all_runs_have_ended(tmp_path):
    feeds = [Feed(f"ipc://{tmp_path}/{name}", epoch=name) for name in "ab"]
    for feed, name in zip(feeds, "ab", strict=True):
        feed.open_source(name)
    seen = set()
    addresses = [feed.endpoint for feed in feeds]
    for event in streamvis.subscribe(addresses, family="hb", until_ended=True):
        seen.add(event.epoch)
        if seen == {"a", "b"}:
            for feed in feeds:
                feed.close(ended=True)
            feeds.clear()
    assert seen == {"a", "b"}


def test_an_error_of_one_ends_the_loop():
    def fails(left):
        yield 1
        raise UsageError("no")

    def goes_on(left):
        for number in itertools.count():
            if left.is_set():
                return
            yield number

    with pytest.raises(UsageError, match="no"):
        list(joined([fails, goes_on]))


def test_readers_end_when_the_loop_is_left():
    ended = threading.Event()

    def endless(left):
        try:
            yield from itertools.count()
        finally:
            ended.set()

    loop = joined([endless])
    assert next(loop) == 0
    loop.close()
    assert ended.wait(PATIENCE_S)


def test_who_follows_a_feed_without_events_ends_when_the_loop_is_left(tmp_path):
    """Its heartbeats come, so that there is no silence to tell of either."""
    with closing(Feed(f"ipc://{tmp_path}/still", epoch="a")) as still, publishing("cam1") as busy:
        before = set(threading.enumerate())
        loop = follow_all(
            [
                Subscription(address, event_codec(), None, "source")
                for address in (still.endpoint, busy)
            ]
        )
        while isinstance(next(loop), str):
            pass
        loop.close()
        until(lambda: set(threading.enumerate()) <= before, "the end of the readers")


def test_where_each_begins():
    assert starts_of("now", ["a", "b"]) == {"a": "now", "b": "now"}
    cursor = json.dumps({"a": {"epoch": "e", "sources": {}}})
    starts = starts_of(cursor, ["a", "b"])
    assert json.loads(starts["a"]) == {"epoch": "e", "sources": {}}
    assert starts["b"] == "snapshot"


@pytest.mark.parametrize(
    "since", [17, "yesterday", "[]", "{}", '{"epoch": "e", "sources": {}}', '{"c": {}}']
)
def test_what_is_no_beginning_of_several_is_refused(since):
    with pytest.raises(UsageError, match="several addresses"):
        starts_of(since, ["a", "b"])


def test_several_addresses_have_no_replay_server_in_common():
    with pytest.raises(UsageError, match="replay='tcp://b:1': expected none with several"):
        streamvis.subscribe(["tcp://a:1", "tcp://a:2"], replay="tcp://b:1")


@pytest.mark.parametrize("addresses", [[], ["a", "a"]])
def test_each_address_is_given_once(addresses):
    with pytest.raises(UsageError, match="each of them once"):
        starts_of("now", addresses)
