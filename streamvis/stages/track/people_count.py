"""Count the people of one source while it runs, in bounded memory. Pure.

People are counted by the ids that `Corrections.track_id` returns at the end: an id merged into
another does not count, one that took over a part of another does. So the count keeps the time span
of each of the last RECENT ids; corrections reach back about a minute.
"""

from collections.abc import Sequence

import msgspec

from streamvis.events.envelope import EventBody
from streamvis.messages import Busiest, Findings, Frame, LongestStay, Tracks
from streamvis.stages.track.events import Split, TrackMerge, TrackSplit

RECENT = 128  # ids not in the frame that corrections can still reach


class Span(msgspec.Struct, array_like=True):
    """Media time of the first and the last frame of an id, µs."""

    first_us: int
    last_us: int


class PeopleCount(msgspec.Struct):
    """Counts of the tracks of one source; ids are numbers of the open stream epoch."""

    people: int = 0  # in all stream epochs, after corrections
    tracks: int = 0  # ids begun, in all stream epochs
    merges: int = 0
    splits: int = 0
    spans: dict[int, Span] = {}  # of ids that count as a person, in order of last frame
    newest: int = 0  # highest id begun
    skipped: list[int] = []  # lower ids that have not begun
    emptied: list[int] = []  # ids that were begun and no longer count as a person
    stay: LongestStay | None = None  # the longest of those dropped from `spans`
    busiest: Busiest | None = None


def count_frame(
    people_count: PeopleCount,
    name: str,
    frame: Frame,
    tracks: Tracks,
    corrections: Sequence[EventBody],
) -> None:
    """Count a frame: its corrections, then its tracks. `name` is the prefix of ids."""
    for what in corrections:
        match what:
            case TrackSplit(splits):
                people_count.splits += len(splits)
                _split(people_count, splits)
            case TrackMerge(merge):
                people_count.merges += 1
                _merge(people_count, _number(merge.gone), _number(merge.kept))
    ids = tracks.ids.tolist()
    for number, first_us in zip(ids, tracks.first_seen_us.tolist(), strict=True):
        _followed(people_count, number, frame.media_us, first_us)
    while len(people_count.spans) > RECENT + len(ids):
        number = next(iter(people_count.spans))
        people_count.stay = _longer(people_count.stay, name, number, people_count.spans.pop(number))
    if len(ids) > (people_count.busiest.people if people_count.busiest else 0):
        people_count.busiest = Busiest(
            people=len(ids), media_us=frame.media_us, capture_us=frame.capture_us
        )


def start_epoch(people_count: PeopleCount, name: str) -> None:
    """Start a stream epoch: ids restart at 1, media time at 0. `name` is the old id prefix."""
    people_count.stay = _longest(people_count, name)
    people_count.spans, people_count.newest = {}, 0
    people_count.skipped, people_count.emptied = [], []


def people_findings(people_count: PeopleCount, name: str, so_far: Findings) -> Findings:
    """Return the findings with the counts of people so far."""
    return msgspec.structs.replace(
        so_far,
        people=people_count.people,
        tracks=people_count.tracks,
        merges=people_count.merges,
        splits=people_count.splits,
        longest=_longest(people_count, name),
        busiest=people_count.busiest,
    )


def _followed(people_count: PeopleCount, number: int, media_us: int, first_us: int) -> None:
    """Count a frame of an id."""
    if span := people_count.spans.pop(number, None):
        span.last_us = media_us
        people_count.spans[number] = span  # at the end now
        if not _begins(people_count, number):
            return
        people_count.tracks += 1  # a split gave it frames before it began
        _note_begun(people_count, number)
    elif _begins(people_count, number):
        people_count.tracks += 1
        _note_begun(people_count, number)
        _give(people_count, number, Span(media_us, media_us), known=False)
    else:
        known = number not in people_count.emptied
        _give(people_count, number, Span(first_us if known else media_us, media_us), known=known)


def _begins(people_count: PeopleCount, number: int) -> bool:
    return number > people_count.newest or number in people_count.skipped


def _note_begun(people_count: PeopleCount, number: int) -> None:
    if number in people_count.skipped:
        people_count.skipped.remove(number)
    else:
        people_count.skipped = [*people_count.skipped, *range(people_count.newest + 1, number)][
            -RECENT:
        ]
        people_count.newest = number


def _split(people_count: PeopleCount, splits: tuple[Split, ...]) -> None:
    """Apply all splits at once: move the span of an id from `since_us` on to another."""
    pieces: list[tuple[int, Span]] = []
    for split in splits:
        number = _number(split.id)
        span = people_count.spans.get(number)
        if span is None or span.last_us < split.since_us:
            continue
        pieces.append(
            (_number(split.other), Span(max(span.first_us, split.since_us), span.last_us))
        )
        if span.first_us < split.since_us:
            span.last_us = split.since_us
        else:
            _empty(people_count, number)
    for other, piece in pieces:
        _give(people_count, other, piece, known=_is_known(people_count, other))


def _merge(people_count: PeopleCount, gone: int, kept: int) -> None:
    if not _is_known(people_count, gone):
        return
    span = people_count.spans.get(gone)
    _empty(people_count, gone)
    if span is not None:
        _give(people_count, kept, span, known=_is_known(people_count, kept))


def _is_known(people_count: PeopleCount, number: int) -> bool:
    """Whether the id counts as a person: it has a span, or began before those that are kept."""
    begun = not _begins(people_count, number) and number not in people_count.emptied
    return number in people_count.spans or begun


def _give(people_count: PeopleCount, number: int, span: Span, *, known: bool) -> None:
    """Add a span to an id; `known`: the person is counted already."""
    people_count.people += not known
    if number in people_count.emptied:
        people_count.emptied.remove(number)
    was = people_count.spans.setdefault(number, span)
    was.first_us = min(was.first_us, span.first_us)
    was.last_us = max(was.last_us, span.last_us)


def _empty(people_count: PeopleCount, number: int) -> None:
    people_count.spans.pop(number, None)
    people_count.people -= 1
    people_count.emptied = [*people_count.emptied, number][-RECENT:]


def _longest(people_count: PeopleCount, name: str) -> LongestStay | None:
    longest = people_count.stay
    for number, span in people_count.spans.items():
        longest = _longer(longest, name, number, span)
    return longest


def _longer(stay: LongestStay | None, name: str, number: int, span: Span) -> LongestStay:
    seconds = (span.last_us - span.first_us) / 1e6
    if stay is not None and stay.seconds >= seconds:
        return stay
    return LongestStay(track=f"{name}:{number}", seconds=seconds, from_us=span.first_us)


def _number(track: str) -> int:
    return int(track.rpartition(":")[2])
