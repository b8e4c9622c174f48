"""Replay a log: its events at the pace of their media time, as lines or on a feed."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

from streamvis.errors import UsageError
from streamvis.events.feed import Feed, Message
from streamvis.events.log import LogReader, Row
from streamvis.events.topics import SYSTEM

FASTEST_S = 1e-4  # between two events on a feed: faster ones would overflow its queues
LOOK_S = 0.05  # between two looks for a subscriber


def paced(
    rows: Iterable[Row],
    speed: float | None,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Row]:
    """Yield rows when they are due: `speed` seconds of media time in a second; None: at once.

    The media time of each source counts from the first row. Where it goes back, as in the next
    stream epoch of a file, the source goes on without a pause.
    """
    if speed is None:
        yield from rows
        return
    start = now()
    reached = 0.0  # media seconds since the first row
    zero: dict[str, float] = {}  # by source: media seconds at the first row
    last: dict[str, float] = {}
    for row in rows:
        media_s = row.media_us / 1e6
        if row.source != SYSTEM:  # whose media time is 0
            if media_s < last.get(row.source, media_s):
                zero[row.source] = media_s - reached
            last[row.source] = media_s
            zero.setdefault(row.source, media_s if not zero else media_s - reached)
            reached = max(reached, media_s - zero[row.source])
        wait_s = start + reached / speed - now()
        if wait_s > 0:
            sleep(wait_s)
        yield row


def publish(log: LogReader, rows: Iterable[Row], bind: str, wait_s: float) -> Iterator[str]:
    """Publish rows on a feed with their numbers, and yield notes.

    It waits up to `wait_s` for a first subscriber. Attachments are not in a log.
    """
    cursors = log.cursors()
    epoch = max((cursor.epoch for cursor in cursors.values()), default="")
    with closing(Feed(bind, epoch=epoch, option="--to ")) as feed:
        yield f"publishing on {feed.endpoint}"
        deadline = time.monotonic() + wait_s
        while not feed.subscribed and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        if not feed.subscribed:
            yield f"no subscriber within {wait_s:g} s; publishing without one"
        opened: set[str] = set()
        due = time.monotonic()
        for row in rows:
            if row.source not in opened and row.source != SYSTEM:
                opened.add(row.source)
                feed.open_source(row.source)
            feed.publish([Message(row.source, row.type.partition(".")[0], row.tseq, row.payload)])
            due = max(due + FASTEST_S, time.monotonic() - LOOK_S)
            if (pause_s := due - time.monotonic()) > LOOK_S:
                time.sleep(pause_s)
        for source in sorted(opened):
            feed.close_source(source)
        feed.close(ended=True)
        if dropped := sum(feed.dropped.values()):
            yield f"{dropped} times the queue of a subscriber was full"


def speed_of(text: str) -> float | None:
    """Return the speed that a text names: a number above 0, or None for `max`."""
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= 1e6:
        raise UsageError(f"--speed {text}: expected a number above 0, such as 1 or 10, or max")
    return speed
