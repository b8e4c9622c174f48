"""What a subscriber delivers, and what it asks the replay server. Pure.

    events = subscriber.take(parts)  # of a message of the feed
    while (request := subscriber.request) is not None:
        reply = …  # of the server at subscriber.replay, or None
        events += subscriber.answer(reply)

A subscriber joins once a message of `sv1/_sys/`, the last topic that it subscribes to, shows that
its subscriptions are in force: it asks for a snapshot, or for the place of the last events. What
was published before that is in the log. From then on it delivers the events of each source in order
of offset: it ignores those that are not newer, and asks for the missing ones when it finds a gap.
What the log does not have either is reported as `Lost`.

Without a replay server, as in a run without a log, it delivers what comes, and gaps as `Lost`.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from streamvis.errors import DataError, UsageError
from streamvis.events import replay_protocol as protocol
from streamvis.events import topics
from streamvis.events.envelope import Event, Heartbeat, Lost, Snapshot, Time, new_epoch
from streamvis.events.feed import ON_DEMAND
from streamvis.events.inbox import Inbox
from streamvis.events.topics import SYSTEM
from streamvis.parsing import shown

EARLY = 10_000  # events that are kept until it is known whether there is a replay server
PATIENCE = 50  # of a request that is repeated, before it is given up: where there was no reply in
UNANSWERED = 10  # time, that takes so much of it; where the server asked to come again, one


class Place(msgspec.Struct):
    """The last event of a source that was delivered, or that is older than what is wanted."""

    offset: int
    tseq: dict[str, int] = {}  # family -> last


class Cursor(msgspec.Struct, forbid_unknown_fields=True):
    """Where a subscriber has come to. In JSON it can be stored, and a subscription resumed."""

    epoch: str = ""  # of the run
    sources: dict[str, Place] = {}


Word = Literal["now", "snapshot"]
Since = Word | int | Cursor
WORDS: dict[str, Word] = {"now": "now", "snapshot": "snapshot"}


def read_since(since: object, source: str | None) -> Since:
    """Return where to begin: `now`, `snapshot`, an offset, or a cursor (JSON); or UsageError."""
    if isinstance(since, str) and since in WORDS:
        return WORDS[since]
    if isinstance(since, int) and not isinstance(since, bool) and since >= 0:
        if source is None:
            raise UsageError(
                f"since={since} is an offset, which counts in one source: name the source too"
            )
        return since
    try:
        if isinstance(since, str | bytes):
            return msgspec.json.decode(since, type=Cursor)
        if isinstance(since, dict):
            return msgspec.convert(since, Cursor)
        raise ValueError(f"it is a {type(since).__name__}")
    except (ValueError, RecursionError) as error:  # half a surrogate pair, too
        raise UsageError(
            f"since={shown(since)}: {error}. Expected 'now', 'snapshot', an offset from 0, or the "
            "cursor of a subscription"
        ) from None


class _Fetch(msgspec.Struct):
    """Events that are asked for."""

    source: str
    last: int | None = None  # offset; None: to the end of the log
    held: Event | None = None  # to be delivered after them
    until: dict[str, int] = {}  # by family: tseq that a heartbeat has reported


class Subscriber:
    """The rules of a subscription; `inbox` has the filter, the counts, and reads messages."""

    def __init__(self, inbox: Inbox, since: Since = "now") -> None:
        self.inbox = inbox
        self.replay = ""  # address of the replay server, by the last heartbeat
        self.request: protocol.Request | None = None  # waits for its answer
        self._since = since
        self._epoch: str | None = None  # of the run that it has joined, or joins
        self._plain = False  # there is no replay server
        self._early: list[Event] = []
        self._places: dict[str, Place] = {}
        self._known: dict[str, protocol.SourceCursor] = {}  # by source, when it joined
        self._to_fetch: list[_Fetch] = []
        self._fetch: _Fetch | None = None
        self._new = ""  # source that has just appeared: its place is asked for
        self._held: Event | None = None  # its first event
        self._lapsed = ""  # source whose events are evicted: its snapshot is asked for
        self._joined_once = False
        self._number = 0
        self._patience = self._left = PATIENCE

    def take(self, parts: Sequence[bytes]) -> list[Event]:
        """Return the events to deliver now; `request` may be set then."""
        event = self.inbox.read(parts)
        if event is None:
            return []
        beat = event.what if isinstance(event.what, Heartbeat) else None
        if beat is not None and event.source == SYSTEM:
            early = self._system_beat(event, beat)
            return [*early, *(self.inbox.count(event) if self._plain else [])]
        if self._plain:
            return self.inbox.count(event)
        if self._epoch is None:
            self._early = [*self._early, event] if len(self._early) < EARLY else []
            return []
        if event.epoch != self._epoch:  # of a run that it has not joined yet: it is in the log
            return []
        if beat is not None:
            return self._beat(event, beat)
        if not self.inbox.wants(event):
            return []
        return self.inbox.count(event) if event.offset < 0 else self._live(event)

    def answer(self, reply: protocol.Reply | None) -> list[Event]:
        """Return the events to deliver on a reply; None: there was none in time."""
        request, self.request = self.request, None
        if reply is not None:
            self._patience = PATIENCE
        match reply:
            case protocol.Snapshot(sources) if self._lapsed:
                return self._resumed(sources)
            case protocol.Snapshot(sources) if self._new:
                return self._appeared(sources)
            case protocol.Snapshot(sources):
                return self._joined(sources)
            case protocol.Events():
                return self._fetched(reply)
            case protocol.Gone(oldest=oldest):
                return self._gone(oldest)
            case protocol.Failure(retry=False):
                return self._given_up()
        self._left -= UNANSWERED if reply is None else 1
        if self._left > 0:
            self.request = request
            return []
        self._patience = 1  # until it answers again
        return self._given_up()

    # joining

    def _system_beat(self, event: Event, beat: Heartbeat) -> list[Event]:
        replay = beat.hb.replay or ""
        if event.epoch == self._epoch:
            self.replay = replay or self.replay
            return []
        self.replay = replay
        if not replay:
            if self._since != "now":
                raise UsageError(
                    "the publisher has no replay server: its run has no output directory or does "
                    "without one (publish.replay). Without one, only since='now' can be had"
                )
            self._plain, self._epoch = True, event.epoch
            early, self._early = self._early, []
            return [one for each in early for one in self.inbox.count(each)]
        self._plain, self._epoch = False, event.epoch
        self._early, self._to_fetch, self._fetch, self._held = [], [], None, None
        self._places, self._lapsed, self._new = {}, "", ""
        self._ask_place(self.inbox.source)
        return []

    def _ask_place(self, source: str | None) -> None:
        bare = self._since == "now" or isinstance(self._since, int)
        kind = protocol.GetCursor if bare else protocol.GetSnapshot
        self._ask(kind(source=source, id=self._next()))

    def _ask(self, request: protocol.Request) -> None:
        self.request, self._left = request, self._patience

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _joined(self, sources: dict[str, protocol.SourceCursor]) -> list[Event]:
        """Begin with each source where it was asked for."""
        self._known = dict(sources)
        delivered: list[Event] = []
        for name, known in sources.items():
            if known.epoch == self._epoch and self.inbox.wants_source(name):
                delivered += self._begin(name, known)
        self._joined_once = True
        for name, place in self._places.items():
            if place.offset < sources[name].offset:
                self._to_fetch.append(_Fetch(name))
            else:
                self._catch_up(name)
        self._fetch_next()
        return delivered

    def _begin(self, name: str, known: protocol.SourceCursor) -> list[Event]:
        from_start = Place(max(known.first, known.oldest) - 1)
        if isinstance(self._since, Cursor):
            place = self._since.sources.get(name)
            if self._joined_once or self._since.epoch != self._epoch:
                return self._snapshot(name, known)
            self._places[name] = from_start if place is None else _copy(place)
        elif self._since == "snapshot":
            return self._snapshot(name, known)
        elif self._joined_once:
            self._places[name] = from_start
        elif isinstance(self._since, int):
            self._places[name] = Place(min(self._since - 1, known.offset))
        else:
            self._places[name] = Place(known.offset, dict(known.tseq))
        return []

    def _snapshot(self, name: str, known: protocol.SourceCursor) -> list[Event]:
        """Deliver the state of the source, with what was lost before it."""
        place = self._places.get(name)
        lost: list[Event] = []
        for family, tseq in known.tseq.items() if place else ():
            before = place.tseq.get(family) if place else None
            if before is not None and self.inbox.wants_family(family):
                lost += self._lost(name, family, before + 1, tseq)
        self._places[name] = Place(known.offset, dict(known.tseq))
        payloads = () if known.events is msgspec.UNSET else known.events
        events = tuple(one for one in self._decoded(payloads) if self.inbox.wants(one))
        what = Snapshot(events=events, tseq=dict(known.tseq))
        return [*lost, self._made(name, what, known.offset)]

    def _catch_up(self, name: str) -> None:
        """Take the numbers that the server knew: all events before them were delivered."""
        place = self._places[name]
        for family, tseq in self._known[name].tseq.items():
            place.tseq[family] = max(tseq, place.tseq.get(family, 0))

    # following

    def _live(self, event: Event) -> list[Event]:
        place = self._places.get(event.source)
        if place is None:
            self._new, self._held = event.source, event
            self._ask_place(event.source)
            return []
        if event.offset <= place.offset:
            self.inbox.repeated += 1
            return []
        if self._follows(place, event):
            return self._deliver(event)
        self.inbox.gaps += 1
        self._fetch = _Fetch(event.source, event.offset - 1, event)
        self._ask_events()
        return []

    def _follows(self, place: Place, event: Event) -> bool:
        """Whether nothing that is wanted is missing between the place and the event."""
        if event.offset == place.offset + 1:
            return True
        before = place.tseq.get(event.family)
        return self.inbox.family is not None and event.tseq == (before or 0) + 1

    def _beat(self, event: Event, beat: Heartbeat) -> list[Event]:
        """A heartbeat is sent after the messages it counts: ask for those that did not come."""
        place = self._places.get(event.source)
        wanted = [event] if self.inbox.family == "hb" else []
        if not self.inbox.wants_source(event.source):
            return wanted
        known = place.tseq if place is not None else {}
        until = {
            family: tseq
            for family, tseq in beat.hb.last.items()
            if self.inbox.wants_family(family)
            and family != ON_DEMAND
            and tseq > known.get(family, 0)
        }
        if until and place is None:
            self._new, self._held = event.source, None
            self._ask_place(event.source)
        elif until:
            self.inbox.gaps += 1
            self._fetch = _Fetch(event.source, until=until)
            self._ask_events()
        return wanted

    def _appeared(self, sources: dict[str, protocol.SourceCursor]) -> list[Event]:
        """Begin with a source that was added to the run."""
        name, held, self._new, self._held = self._new, self._held, "", None
        known, delivered = sources.get(name), []
        if known is not None and known.epoch == self._epoch:
            self._known[name] = known
            if self._since == "snapshot":
                delivered = self._snapshot(name, known)
            else:
                self._places[name] = Place(max(known.first, known.oldest) - 1)
        elif held is not None:
            self._places[name] = Place(held.offset - 1)
        if held is not None:
            return [*delivered, *self._live(held)]
        if name in self._places and known and self._places[name].offset < known.offset:
            self._fetch = _Fetch(name)
            self._ask_events()
        return delivered

    # fetching

    def _fetch_next(self) -> None:
        self._fetch = self._to_fetch.pop(0) if self._to_fetch else None
        if self._fetch is not None:
            self._ask_events()

    def _ask_events(self) -> None:
        fetch = self._fetch
        assert fetch is not None
        family = self.inbox.family
        self._ask(
            protocol.GetEvents(
                source=fetch.source,
                from_offset=self._places[fetch.source].offset + 1,
                to_offset=fetch.last,
                types=(family,) if family else (),
                id=self._next(),
            )
        )

    def _fetched(self, reply: protocol.Events) -> list[Event]:
        fetch = self._fetch
        if fetch is None or fetch.source != reply.source:
            return []
        place = self._places[fetch.source]
        delivered: list[Event] = []
        for event in self._decoded(reply.events):
            if event.offset > place.offset and self.inbox.wants(event):
                delivered += self._deliver(event)
        place.offset = max(place.offset, reply.next - 1)
        if reply.more:
            self._ask_events()
            return delivered
        return [*delivered, *self._complete()]

    def _complete(self) -> list[Event]:
        """Deliver what was held, and report what the log does not have."""
        fetch = self._fetch
        assert fetch is not None
        place, delivered = self._places[fetch.source], []
        if fetch.held is None and not fetch.until:  # it has caught up with what was there
            self._catch_up(fetch.source)
        if fetch.held is not None and fetch.held.offset > place.offset:
            delivered += self._deliver(fetch.held)
        for family, tseq in fetch.until.items():
            delivered += self._lost(fetch.source, family, place.tseq.get(family, 0) + 1, tseq)
            place.tseq[family] = max(tseq, place.tseq.get(family, 0))
        self._fetch_next()
        return delivered

    def _gone(self, oldest: int) -> list[Event]:
        """Report the evicted events as lost; who began with a state gets a snapshot."""
        fetch = self._fetch
        assert fetch is not None
        if self._since != "now":
            self._lapsed = fetch.source
            self._ask(protocol.GetSnapshot(source=fetch.source, id=self._next()))
            return []
        if fetch.last is not None and oldest > fetch.last:
            self._places[fetch.source].offset = fetch.last
            return self._complete()
        self._places[fetch.source].offset = oldest - 1
        self._ask_events()
        return []

    def _resumed(self, sources: dict[str, protocol.SourceCursor]) -> list[Event]:
        """Go on after the snapshot of a source whose events were evicted."""
        fetch, name = self._fetch, self._lapsed
        self._lapsed, delivered = "", []
        if name in sources and sources[name].epoch == self._epoch:
            self._known[name] = sources[name]
            delivered = self._snapshot(name, sources[name])
        self._fetch_next()
        if fetch is not None and fetch.held is not None and self._fetch is None:
            delivered += self._live(fetch.held)
        return delivered

    def _given_up(self) -> list[Event]:
        """Go on without an answer."""
        if self._new:
            return self._appeared({})
        self._lapsed = ""
        if self._fetch is not None:
            return self._complete()
        if self._since == "now":
            self._plain = True
        else:
            self._epoch = None  # the next heartbeat tries again
        return []

    # events

    def _deliver(self, event: Event) -> list[Event]:
        place, family = self._places[event.source], event.family
        before = place.tseq.get(family)
        lost: Iterable[Event] = ()
        if before is not None:
            lost = self._lost(event.source, family, before + 1, event.tseq - 1)
        place.offset = event.offset
        place.tseq[family] = event.tseq
        return [*lost, event]

    def _decoded(self, payloads: Iterable[msgspec.Raw]) -> Iterable[Event]:
        for payload in payloads:
            try:
                yield self.inbox.codec.decode(bytes(payload))
            except DataError:
                self.inbox.refused += 1

    def _lost(self, source: str, family: str, first: int, last: int) -> list[Event]:
        if last < first:
            return []
        self.inbox.lost += last - first + 1
        topic = topics.of(source, family)
        return [self._made(source, Lost(topic=topic, first=first, last=last), -1)]

    def _made(self, source: str, what: Lost | Snapshot, offset: int) -> Event:
        """Return an event that no publisher has sent."""
        return Event(
            id=new_epoch(),
            source=source,
            epoch=self._epoch or "",
            tseq=0,
            offset=offset,
            time=Time(media_us=0),
            what=what,
        )


def _copy(place: Place) -> Place:
    return Place(place.offset, dict(place.tseq))
