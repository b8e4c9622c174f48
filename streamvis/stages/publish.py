"""The sink that tells the world: events into the log, then onto the feed.

What makes a kill -9 leave no trace in the log: a batch's events and the `Book` of each source are
one transaction, written before anything is published or answered. A successor takes up the book
of the log. Packets and notices that come again add nothing; what the predecessor may not have
published, all from the offset of its last answer on, is published again with the same numbers,
but without attachments, which the log does not have. A run that is resumed publishes nothing of
what was logged before: subscribers see from the numbers what they have missed.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from streamvis.config import Publish
from streamvis.errors import RunError
from streamvis.events import derive, schema
from streamvis.events.derive import Draft, State
from streamvis.events.feed import Feed, Message, announce, announced, withdraw
from streamvis.events.ids import epoch_us, event_id, new_epoch
from streamvis.events.log import FILE_NAME, Cursor, LogWriter, Row
from streamvis.events.scenes import Telling
from streamvis.messages import (
    Actions,
    Ending,
    Findings,
    Forecast,
    Logged,
    Notice,
    Packet,
    Receipt,
    Segmentation,
    Site,
    SourceInfo,
    Tracks,
)

REMEMBERED = 256  # notices since the last packet, at most


class Book(msgspec.Struct):
    """All that a successor needs to go on with one source."""

    derived: State
    epoch: str  # of the run
    first: int = 0  # offset at which this run begins in the log
    next: int = 0  # offset of the next event
    tseq: dict[str, int] = {}  # family -> last
    at: tuple[int, int] = (0, -1)  # stream epoch and seq of the last packet
    n: int = -1  # its number in the source
    told: list[Notice] = []  # since that packet
    ending: str = ""


class Place(msgspec.Struct):
    """How far the hub's order has been followed; behind the book while packets come again."""

    at: tuple[int, int] = (0, -1)
    told: int = 0


class Letter(NamedTuple):
    """An event as it is logged, and what only the feed has of it."""

    row: Row
    attachments: tuple[bytes, ...] = ()


class Answered(NamedTuple):
    """What rides back with an answer."""

    book: Book
    place: Place


_encoder = msgspec.msgpack.Encoder()
_books = msgspec.msgpack.Decoder(Book)
_answers = msgspec.msgpack.Decoder(Answered)


class PublishStage:
    """Turn tracks, actions, scenes and notices into events; log them, then publish them."""

    def __init__(self, config: Publish, site: Site) -> None:
        self._telling = Telling(
            every_us=round(config.update_every_s * 1e6),
            alarm=config.unknown,
            masks="masks" in config.attach and config.bind not in (None, "none"),
        )
        self._epoch = site.epoch or new_epoch()
        self._prov = schema.Provenance(pipeline=site.pipeline)
        self._out = site.out
        self._logged = site.logged
        self._books: dict[str, Book] = {}
        self._places: dict[str, Place] = {}
        self._log: LogWriter | None = None
        self._feed: Feed | None = None
        try:
            if site.out is not None:
                self._log = _log_in(site.out)
            if config.bind not in (None, "none"):
                self._feed = self._bound(config.bind)
        except BaseException:
            self.close()
            raise

    @property
    def endpoint(self) -> str | None:
        """Where the feed really listens; None without one."""
        return self._feed.endpoint if self._feed else None

    def _bound(self, bind: str) -> Feed:
        """The feed; a successor takes the free port that its predecessor found."""
        feed = None
        note = announced(self._out) if self._out and bind.endswith(":*") else None
        if note and note[1] == self._epoch:
            with suppress(RunError):
                feed = Feed(note[0], epoch=self._epoch, pipeline=self._prov.pipeline)
        feed = feed or Feed(bind, epoch=self._epoch, pipeline=self._prov.pipeline)
        if self._out:
            announce(self._out, feed.endpoint, self._epoch)
        return feed

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        """Start a source, or go on with it: then the log says how far it came."""
        answered = _read(source.id, state) if state is not None else None
        logged = self._log.cursor(source.id) if self._log else None
        if logged and logged.epoch == self._epoch:
            book = _books.decode(logged.state)
        elif answered:
            book = answered.book
        else:
            self._start(source, first=logged.next if logged else 0)
            return
        self._books[source.id] = book
        self._places[source.id] = answered.place if answered else Place()
        if self._feed:
            self._feed.open(source.id, book.tseq)
        if self._log:
            before = self._logged.get(source.id)
            first = answered.book.next if answered else book.first
            first = max(first, before.offset) if before else first
            self._publish(Letter(row) for row in self._log.events(source.id, first))
            if before and not answered:
                self._resume(source, book, before)

    def _resume(self, source: SourceInfo, book: Book, before: Logged) -> None:
        """Go on after an earlier life of the run, if in another stream epoch: what is open ends."""
        if (before.epoch, before.seq) != book.at or source.epoch <= before.epoch:
            return
        if book.next == before.offset and source.epoch > book.derived.epoch:
            book.told, book.ending = [], ""
            self._commit([book], self._numbered(book, derive.resumed(book.derived, source)))
        self._places[source.id] = Place(book.at)

    def _start(self, source: SourceInfo, first: int) -> None:
        derived, drafts = derive.start(source)
        book = Book(derived, self._epoch, first=first, next=first)
        self._books[source.id] = book
        self._places[source.id] = Place()
        if self._feed:
            self._feed.open(source.id)
        self._commit([book], self._numbered(book, drafts))

    def __call__(self, packets: Sequence[Packet]) -> list[Receipt]:
        """Log the batch in one transaction, publish it, and say how many events each packet gave.

        A packet without `Tracks` was skipped by the tracker and gives none of tracks, and so on.
        """
        letters: list[Letter] = []
        receipts: list[Receipt] = []
        changed: dict[str, Book] = {}
        for packet in packets:
            frame = packet.frame
            book = self._books[frame.source]
            at = (frame.epoch, frame.seq)
            self._places[frame.source] = Place(at)
            if at <= book.at:  # it comes again after a restart
                receipts.append(Receipt())
                continue
            book.at, book.n, book.told = at, frame.n, []
            new = self._numbered(book, self._drafts(book.derived, packet))
            letters += new
            receipts.append(Receipt(written=len(new)))
            changed[frame.source] = book
        self._commit(changed.values(), letters)
        return receipts

    def _drafts(self, state: State, packet: Packet) -> list[Draft]:
        frame, telling = packet.frame, self._telling
        tracks, actions = packet.part(Tracks), packet.part(Actions)
        seen, forecast = packet.part(Segmentation), packet.part(Forecast)
        drafts = derive.frame_seen(state, frame, tracks, telling.every_us, actions)
        return drafts + derive.scene_seen(state, frame, seen, forecast, telling)

    def notice(self, notice: Notice) -> None:
        """Told in its place between packets; one that comes again in the same place is no news."""
        book, place = self._books[notice.source], self._places[notice.source]
        if place.at < book.at:
            return
        ahead = book.told[place.told :]
        if notice in ahead:
            place.told += ahead.index(notice) + 1
            return
        book.told = [*book.told[-REMEMBERED + 1 :], notice]
        place.told = len(book.told)
        self._commit([book], self._numbered(book, derive.noticed(book.derived, notice)))

    def finish(self, source: str, ending: Ending) -> Findings:
        """Open tracks end, then the source; the log keeps that it did. Say what was found."""
        book = self._books[source]
        if not book.ending:
            book.ending = ending
            self._commit([book], self._numbered(book, derive.finished(book.derived, ending)))
        del self._books[source], self._places[source]
        if self._feed:
            self._feed.shut(source)
        return derive.found(book.derived)

    def state(self, source: str) -> bytes:
        return _encoder.encode(Answered(self._books[source], self._places[source]))

    def close(self) -> None:
        if self._feed:
            self._feed.close(ended=not self._books)  # open ones: this worker has failed
            if self._out:
                withdraw(self._out, self._epoch)
        if self._log:
            self._log.close()

    def _numbered(self, book: Book, drafts: Iterable[Draft]) -> list[Letter]:
        source, emit_us = book.derived.info.id, time.time_ns() // 1000
        letters = []
        for draft in drafts:
            family = schema.family_of(draft.what)
            book.tseq[family] = book.tseq.get(family, 0) + 1
            wall_us = draft.time.capture_us or epoch_us(self._epoch) + draft.time.media_us
            event = schema.Event(
                id=event_id(self._epoch, source, book.next, wall_us),
                source=source,
                epoch=self._epoch,
                tseq=book.tseq[family],
                offset=book.next,
                time=msgspec.structs.replace(draft.time, emit_us=emit_us),
                frame=draft.frame,
                prov=self._prov,
                what=draft.what,
            )
            book.next += 1
            row = Row(
                source,
                event.offset,
                event.tseq,
                event.type,
                event.time.media_us,
                schema.encode(event),
            )
            letters.append(Letter(row, draft.attachments))
        return letters

    def _commit(self, books: Iterable[Book], letters: list[Letter]) -> None:
        """To the log first: what has been published must never be missing from it."""
        if self._log:
            cursors = [
                Cursor(
                    book.derived.info.id,
                    book.epoch,
                    book.first,
                    book.next,
                    book.ending,
                    _encoder.encode(book),
                )
                for book in books
            ]
            if cursors:
                self._log.commit([letter.row for letter in letters], cursors)
        self._publish(letters)

    def _publish(self, letters: Iterable[Letter]) -> None:
        if self._feed:
            self._feed.publish(
                Message(row.source, row.type.partition(".")[0], row.tseq, row.payload, attachments)
                for row, attachments in letters
            )


def _log_in(out: Path) -> LogWriter:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out}: cannot make the output directory: {error.strerror}") from None
    return LogWriter(out / FILE_NAME)


def _read(source: str, state: bytes) -> Answered:
    try:
        return _answers.decode(state)
    except msgspec.DecodeError as error:
        raise RunError(
            f"{source}: the publisher cannot go on from the state of its predecessor "
            f"({len(state)} bytes): {error}. Were both of the same version?"
        ) from None
