"""Subscribe to the feeds of several hubs as if they were one.

Each source is at one hub, so the events of each keep their order; between hubs they come as they
arrive.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, Full, Queue
from typing import TypeVar

import msgspec

from streamvis.errors import UsageError
from streamvis.events.client import Subscription
from streamvis.events.envelope import Event
from streamvis.events.subscriber import WORDS
from streamvis.parsing import shown

LOOK_S = 0.25  # between two looks at whether the loop has been left, while nothing comes
QUEUE = 1000  # items that wait for the loop; then feeds wait in their own queues

Item = TypeVar("Item")


class Subscriptions:
    """Events of several feeds, those of each source in order, for `for` and `async for`.

    It ends when each subscription has ended, and raises the first error of one.
    """

    def __init__(self, subscriptions: Sequence[Subscription]) -> None:
        self._subscriptions = list(subscriptions)
        for one in self._subscriptions:
            one.notes = False  # events that wait here have not been in the loop

    @property
    def cursor(self) -> str:
        """Where the loop has come to, as JSON: the cursor of each feed by its address."""
        cursors = {one.endpoint: msgspec.Raw(one.cursor.encode()) for one in self._subscriptions}
        return msgspec.json.encode(cursors).decode()

    def __iter__(self) -> Iterator[Event]:
        def read(one: Subscription, left: threading.Event) -> Iterator[tuple[Subscription, Event]]:
            for event in one.until(left.is_set, LOOK_S):
                yield one, event

        for one, event in joined([partial(read, one) for one in self._subscriptions]):
            one.note(event)
            yield event

    async def __aiter__(self) -> AsyncIterator[Event]:
        queue: asyncio.Queue[tuple[Subscription, Event] | Exception | None] = asyncio.Queue(QUEUE)

        async def read(one: Subscription) -> None:
            try:
                async for event in one:
                    await queue.put((one, event))
                await queue.put(None)
            except Exception as error:  # noqa: BLE001 - it is raised in the loop
                await queue.put(error)

        tasks = [asyncio.create_task(read(one)) for one in self._subscriptions]
        running = len(tasks)
        try:
            while running:
                item = await queue.get()
                if item is None:
                    running -= 1
                elif isinstance(item, Exception):
                    raise item
                else:
                    one, event = item
                    one.note(event)
                    yield event
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def starts_of(since: object, addresses: Sequence[str]) -> dict[str, object]:
    """Return where the subscription of each address begins.

    A feed that a cursor does not know begins with a snapshot. Raises UsageError for what is none
    of `now`, `snapshot` and a cursor, and for no address, or one that is given twice.
    """
    if not addresses or len(set(addresses)) < len(addresses):
        raise UsageError(f"addresses {list(addresses)}: expected one or more, each of them once")
    if isinstance(since, str) and since in WORDS:
        return dict.fromkeys(addresses, since)
    cursors: dict[str, msgspec.Raw] = {}
    # of a text that is no JSON, is nested too deep, or has half a surrogate pair
    with suppress(ValueError, RecursionError):
        cursors = msgspec.json.decode(str(since), type=dict[str, msgspec.Raw])
    if cursors.keys().isdisjoint(addresses):
        raise UsageError(
            f"since {shown(since)}: expected now, snapshot, or the cursor of a subscription to "
            "several addresses, with one of these; an offset, or the cursor of a subscription to "
            "one address, is of a single log"
        )
    return {
        one: bytes(cursors[one]).decode() if one in cursors else "snapshot" for one in addresses
    }


def joined(readers: Sequence[Callable[[threading.Event], Iterator[Item]]]) -> Iterator[Item]:
    """Yield what several readers yield, each in a thread of its own, as it comes.

    A reader is given an event that is set once the loop has been left. Raises the first error of
    a reader.
    """
    queue: Queue[tuple[Item] | Exception | None] = Queue(QUEUE)
    left = threading.Event()

    def put(item: tuple[Item] | Exception | None) -> bool:
        while not left.is_set():
            with suppress(Full):
                queue.put(item, timeout=LOOK_S)
                return True
        return False

    def read(reader: Callable[[threading.Event], Iterator[Item]]) -> None:
        try:
            for item in reader(left):
                if not put((item,)):
                    return
            put(None)
        except Exception as error:  # noqa: BLE001 - it is raised in the loop
            put(error)

    threads = [threading.Thread(target=read, args=(one,), daemon=True) for one in readers]
    for thread in threads:
        thread.start()
    running = len(threads)
    try:
        while running:
            try:
                item = queue.get(timeout=LOOK_S)  # for ever, a signal would not be heard
            except Empty:
                continue
            if item is None:
                running -= 1
            elif isinstance(item, Exception):
                raise item
            else:
                yield item[0]
    finally:
        left.set()
