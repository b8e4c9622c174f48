"""What a run found in one source, counted while it runs, in memory that does not grow. Pure.

People are counted as `Corrections.who` would name them by the end: an id that was merged into
another is nobody of its own, one that took over a part of another's past is somebody. For that the
tally keeps when each of the last RECENT ids was seen; corrections reach back a minute or so.
"""

import msgspec

from streamvis.events.schema import (
    ActionBegin,
    ForecastScored,
    Split,
    TrackMerge,
    TrackSplit,
    UnknownBegin,
    What,
)
from streamvis.messages import (
    Actions,
    Busiest,
    Findings,
    Forecast,
    Frame,
    Scored,
    Segmentation,
    Stay,
    Tracks,
)

RECENT = 128  # ids beside those in the picture that corrections can still reach


class Span(msgspec.Struct, array_like=True):
    """From the first frame in which somebody was followed to the last, media µs."""

    first_us: int
    last_us: int


class Crowd(msgspec.Struct):
    """The tracks of one source; ids are numbers of the stream epoch that is open."""

    people: int = 0  # in all stream epochs, corrections made
    tracks: int = 0  # ids begun, in all stream epochs
    merges: int = 0
    splits: int = 0
    spans: dict[int, Span] = {}  # ids that stand for somebody, the one seen last at the end
    newest: int = 0  # highest id begun
    skipped: list[int] = []  # lower ids that have not begun
    emptied: list[int] = []  # ids that were begun and stand for nobody any more
    stay: Stay | None = None  # the longest of those that are not in `spans` any more
    busiest: Busiest | None = None


class Tally(msgspec.Struct):
    """All that was found; None where no stage says anything of it."""

    crowd: Crowd | None = None
    actions: dict[str, int] | None = None  # label -> how often one began
    unknown: int | None = None  # how often something of no class was there
    forecasts: dict[int, tuple[int, float]] | None = None  # horizon µs -> how many, sum of mIoU


def people_seen(tally: Tally, name: str, frame: Frame, tracks: Tracks, whats: list[What]) -> None:
    """Count a frame: what it corrected, then who is there. `name` is what ids begin with."""
    crowd = tally.crowd = tally.crowd or Crowd()
    for what in whats:
        match what:
            case TrackSplit(splits):
                crowd.splits += len(splits)
                _split(crowd, splits)
            case TrackMerge(merge):
                crowd.merges += 1
                _merge(crowd, _number(merge.gone), _number(merge.kept))
    ids = tracks.ids.tolist()
    for number, first_us in zip(ids, tracks.first_seen_us.tolist(), strict=True):
        _followed(crowd, number, frame.media_us, first_us)
    while len(crowd.spans) > RECENT + len(ids):
        number = next(iter(crowd.spans))
        crowd.stay = _longer(crowd.stay, name, number, crowd.spans.pop(number))
    if len(ids) > (crowd.busiest.people if crowd.busiest else 0):
        crowd.busiest = Busiest(
            people=len(ids), media_us=frame.media_us, capture_us=frame.capture_us
        )


def happened(
    tally: Tally,
    whats: list[What],
    actions: Actions | None,
    seen: Segmentation | None = None,
    forecast: Forecast | None = None,
) -> None:
    """Count what began in a frame beside tracks; a part shows that its stage is there."""
    if actions is not None and tally.actions is None:
        tally.actions = {}
    if seen is not None and seen.unknown.size and tally.unknown is None:
        tally.unknown = 0
    if forecast is not None and tally.forecasts is None:
        tally.forecasts = {}
    for what in whats:
        match what:
            case ActionBegin(action) if tally.actions is not None:
                tally.actions[action.label] = tally.actions.get(action.label, 0) + 1
            case UnknownBegin() if tally.unknown is not None:
                tally.unknown += 1
            case ForecastScored(score) if tally.forecasts is not None:
                count, total = tally.forecasts.get(score.horizon_us, (0, 0.0))
                tally.forecasts[score.horizon_us] = (count + 1, total + score.miou)


def next_epoch(tally: Tally, name: str) -> None:
    """Ids begin again at 1, and media time at 0; `name` is what the old ids began with."""
    if (crowd := tally.crowd) is not None:
        crowd.stay = _longest(crowd, name)
        crowd.spans, crowd.newest, crowd.skipped, crowd.emptied = {}, 0, [], []


def findings(tally: Tally, name: str) -> Findings:
    """What was found so far."""
    found = Findings(
        actions=tally.actions, unknown=tally.unknown, forecasts=_scores(tally.forecasts)
    )
    if (crowd := tally.crowd) is None:
        return found
    return msgspec.structs.replace(
        found,
        people=crowd.people,
        tracks=crowd.tracks,
        merges=crowd.merges,
        splits=crowd.splits,
        longest=_longest(crowd, name),
        busiest=crowd.busiest,
    )


def _scores(forecasts: dict[int, tuple[int, float]] | None) -> dict[int, Scored] | None:
    if forecasts is None:
        return None
    return {
        horizon_us: Scored(count=count, miou=round(total / count, 4))
        for horizon_us, (count, total) in sorted(forecasts.items())
    }


def _followed(crowd: Crowd, number: int, media_us: int, first_us: int) -> None:
    """An id is in the picture."""
    if span := crowd.spans.pop(number, None):
        span.last_us = media_us
        crowd.spans[number] = span  # at the end now
        if not _begins(crowd, number):
            return
        crowd.tracks += 1  # it stood for somebody before it began, by a split
        _note_begun(crowd, number)
    elif _begins(crowd, number):
        crowd.tracks += 1
        _note_begun(crowd, number)
        _give(crowd, number, Span(media_us, media_us), known=False)
    else:
        known = number not in crowd.emptied
        _give(crowd, number, Span(first_us if known else media_us, media_us), known=known)


def _begins(crowd: Crowd, number: int) -> bool:
    return number > crowd.newest or number in crowd.skipped


def _note_begun(crowd: Crowd, number: int) -> None:
    if number in crowd.skipped:
        crowd.skipped.remove(number)
    else:
        crowd.skipped = [*crowd.skipped, *range(crowd.newest + 1, number)][-RECENT:]
        crowd.newest = number


def _split(crowd: Crowd, splits: tuple[Split, ...]) -> None:
    """All at once: what was seen of an id from `since_us` on was of another."""
    pieces: list[tuple[int, Span]] = []
    for split in splits:
        number = _number(split.id)
        span = crowd.spans.get(number)
        if span is None or span.last_us < split.since_us:
            continue
        pieces.append(
            (_number(split.other), Span(max(span.first_us, split.since_us), span.last_us))
        )
        if span.first_us < split.since_us:
            span.last_us = split.since_us
        else:
            _empty(crowd, number)
    for other, piece in pieces:
        _give(crowd, other, piece, known=_is_known(crowd, other))


def _merge(crowd: Crowd, gone: int, kept: int) -> None:
    if not _is_known(crowd, gone):
        return
    span = crowd.spans.get(gone)
    _empty(crowd, gone)
    if span is not None:
        _give(crowd, kept, span, known=_is_known(crowd, kept))


def _is_known(crowd: Crowd, number: int) -> bool:
    """Whether it stands for somebody: seen lately, or begun so long ago that it is not kept."""
    begun = not _begins(crowd, number) and number not in crowd.emptied
    return number in crowd.spans or begun


def _give(crowd: Crowd, number: int, span: Span, *, known: bool) -> None:
    """Somebody was seen then; `known`: they are counted already."""
    crowd.people += not known
    if number in crowd.emptied:
        crowd.emptied.remove(number)
    was = crowd.spans.setdefault(number, span)
    was.first_us = min(was.first_us, span.first_us)
    was.last_us = max(was.last_us, span.last_us)


def _empty(crowd: Crowd, number: int) -> None:
    crowd.spans.pop(number, None)
    crowd.people -= 1
    crowd.emptied = [*crowd.emptied, number][-RECENT:]


def _longest(crowd: Crowd, name: str) -> Stay | None:
    longest = crowd.stay
    for number, span in crowd.spans.items():
        longest = _longer(longest, name, number, span)
    return longest


def _longer(stay: Stay | None, name: str, number: int, span: Span) -> Stay:
    seconds = (span.last_us - span.first_us) / 1e6
    if stay is not None and stay.seconds >= seconds:
        return stay
    return Stay(track=f"{name}:{number}", seconds=seconds, from_us=span.first_us)


def _number(track: str) -> int:
    return int(track.rpartition(":")[2])
