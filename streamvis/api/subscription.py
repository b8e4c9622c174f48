"""Subscribe to the feed of a run, with the event types of all installed kinds of stages.

async for event in streamvis.subscribe("tcp://127.0.0.1:5560", source="cam1", family="track"):
    match event.what:
        case TrackBegin(track): ...
        case Lost(topic, first, last): ...
"""

from pathlib import Path
from typing import overload

from streamvis.api.checks import check_path, check_text
from streamvis.errors import UsageError
from streamvis.events.client import Subscription
from streamvis.events.codec import Codec
from streamvis.events.several import Subscriptions, starts_of
from streamvis.logs import warn
from streamvis.parsing import shown
from streamvis.stages import event_codec
from streamvis.transport.keys import client_keys


@overload
def subscribe(
    endpoint: str,
    source: str | None = None,
    family: str | None = None,
    *,
    since: object = "now",
    until_ended: bool = False,
    keys: str | Path | None = None,
    replay: str | None = None,
) -> Subscription: ...


@overload
def subscribe(
    endpoint: list[str] | tuple[str, ...],
    source: str | None = None,
    family: str | None = None,
    *,
    since: object = "now",
    until_ended: bool = False,
    keys: str | Path | None = None,
) -> Subscriptions: ...


def subscribe(
    endpoint: str | list[str] | tuple[str, ...],
    source: str | None = None,
    family: str | None = None,
    *,
    since: object = "now",
    until_ended: bool = False,
    keys: str | Path | None = None,
    replay: str | None = None,
) -> Subscription | Subscriptions:
    """Return the events of one source or all, of one family (`track`, `source`, `hb`, …) or all.

    For `for` and `async for`. Continues from run to run; with `until_ended`, to the end of the run.
    `since`: `now`; `snapshot`, to begin with a `Snapshot` of each source; an offset in the log of
    `source`; or a `cursor` that an earlier subscription had. `keys`: the file of a client, which
    `streamvis keys new` made. `replay`: the address of the replay server, where the one that the
    publisher names cannot be reached; of one address alone. A family that no installed stage has is
    logged: its events, of a later version or another package, come as `Other`.

    Of several addresses, those of hubs that share the sources, all events come in one loop; `since`
    is `now`, `snapshot`, or a `cursor` that such a subscription had.
    """
    addresses = [*endpoint] if isinstance(endpoint, list | tuple) else [endpoint]
    expected = "an address, such as tcp://127.0.0.1:5560"
    for address in addresses:
        check_text(address, "endpoint", f"{expected}, or a list of them")
    for name, text, wanted in (
        ("source", source, "the id of a source, or None"),
        ("family", family, "a family of events, such as track, or None"),
        ("replay", replay, f"{expected}, or None"),
    ):
        if text is not None:
            check_text(text, name, wanted)
    if not isinstance(until_ended, bool):
        raise UsageError(f"until_ended is {shown(until_ended)}; expected True or False")
    known = None
    if keys is not None:
        known = client_keys(check_path(keys, "keys", "the path of a client's file, or None"))
    codec = _codec(family)
    if not isinstance(endpoint, str):
        starts = starts_of(since, endpoint)
        if replay is not None:
            raise UsageError(
                f"replay={replay!r}: expected none with several addresses, each of which names its "
                "own; subscribe to each address by itself"
            )
        return Subscriptions(
            [
                Subscription(
                    *(address, codec, source, family),
                    since=start,
                    until_ended=until_ended,
                    keys=known,
                )
                for address, start in starts.items()
            ]
        )
    return Subscription(
        *(endpoint, codec, source, family),
        since=since,
        until_ended=until_ended,
        keys=known,
        replay=replay,
    )


def _codec(family: str | None) -> Codec:
    """Return the codec of all installed event types, and warn where none is of this family."""
    codec = event_codec()
    if family is not None and family not in codec.families:
        known = ", ".join(codec.families)
        warn("no installed stage has events of this family", family=family, known=known)
    return codec
