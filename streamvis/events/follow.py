"""Follow the feed of a run to its end, with notes on who publishes it.

A publisher sends heartbeats each second, so SILENCE_S without a message shows that it is gone.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from streamvis.errors import SourceError
from streamvis.events.client import Subscription
from streamvis.events.envelope import Event
from streamvis.events.inbox import Inbox
from streamvis.events.several import joined

LOOK_S = 0.25  # between two looks at the clock while nothing comes
SILENCE_S = 3.0  # without a message, heartbeats among them: the publisher is gone


def follow_all(
    subscriptions: Sequence[Subscription], timeout_s: float | None = None, *, wait: bool = False
) -> Iterator[Event | str]:
    """Follow several feeds, each to the end of its run, as `follow` does."""
    if len(subscriptions) == 1:
        yield from follow(subscriptions[0], timeout_s, wait=wait)
        return

    def read(one: Subscription, left: threading.Event) -> Iterator[Event | str]:
        return follow(one, timeout_s, wait=wait, left=left.is_set)

    yield from joined([partial(read, one) for one in subscriptions])


def follow(
    subscription: Subscription,
    timeout_s: float | None = None,
    *,
    wait: bool = False,
    left: Callable[[], bool] = lambda: False,
) -> Iterator[Event | str]:
    """Yield events until the run has ended, and a note (str) where a publisher or source is absent.

    wait: go on with the next publisher when a run ends or its publisher dies. left: asked with each
    message, and every LOOK_S; once it says so, this ends. Raises SourceError when nothing came for
    `timeout_s`, and, without `wait`, when the publisher is gone.
    """
    where, inbox = subscription.endpoint, subscription.inbox
    heard = time.monotonic()
    warned = False  # that nobody is there
    missing = inbox.source is not None  # perhaps; that is said once
    look_s = min(LOOK_S, SILENCE_S if timeout_s is None else timeout_s)
    for events in subscription.messages(round(look_s * 1000)):
        if left():
            return
        if events is not None:
            if warned:
                yield f"there is a publisher at {where} now"
            heard, warned = time.monotonic(), False
            yield from events
            if missing and inbox.sources:
                missing = False
                if inbox.source not in inbox.sources:
                    there = ", ".join(inbox.sources)
                    yield f"no source '{inbox.source}' at {where} yet; open there: {there}"
            if inbox.ended and not wait:
                return
            continue
        silent_s = time.monotonic() - heard
        if timeout_s is not None and silent_s >= timeout_s:
            raise SourceError(f"nothing came from {where} for {timeout_s:g} s")
        if not warned and silent_s >= SILENCE_S:
            warned = True
            yield _silence(where, inbox, wait=wait, with_keys=subscription.with_keys)


def _silence(where: str, inbox: Inbox, *, wait: bool, with_keys: bool) -> str:
    """Describe that nobody publishes; SourceError when a publisher was there and died."""
    if inbox.ready and not inbox.ended and not wait:
        raise SourceError(
            f"{where}: no heartbeat for {SILENCE_S:g} s, expected one each second; the "
            "publisher died or cannot be reached. With --wait, tail goes on when it is back"
        )
    if inbox.ready:
        return f"no publisher at {where} any more; waiting for the next"
    if with_keys:  # libzmq does not say to a client that the server has other keys
        return f"nothing at {where} yet, or its keys are not those of --keys; waiting for a run"
    return f"nothing at {where} yet; waiting for a run"
