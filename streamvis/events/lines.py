"""Format each event as one line of text for `streamvis events tail`."""

from typing import assert_never

import msgspec

from streamvis.events import schema
from streamvis.events.schema import Box, Event, EventBody

LONGEST = 200  # characters of an event of an unknown type


def line(event: Event) -> str:
    """The event in one line: media time, source, type, and the members of its type."""
    seconds = event.time.media_us / 1e6
    text = _body(event.what)
    return f"{seconds:10.3f}  {event.source}  {event.type:<12}  {text}".rstrip()


def _body(what: EventBody) -> str:
    match what:
        case schema.TrackBegin() | schema.TrackUpdate() | schema.TrackEnd():
            return _track(what)
        case schema.TrackMerge(merge):
            return f"{merge.gone} is {merge.kept}"
        case schema.TrackSplit(splits):
            return ", ".join(
                f"{split.id} was {split.other} from {split.since_us / 1e6:.3f} s on"
                for split in splits
            )
        case schema.ActionBegin(action) | schema.ActionUpdate(action):
            return f"{action.track or 'frame':<16} {action.label} p={action.p:.2f}"
        case schema.ActionEnd(ended):
            return f"{ended.track or 'frame':<16} {ended.label} ({ended.reason})"
        case (
            schema.SceneUpdate()
            | schema.UnknownBegin()
            | schema.UnknownEnd()
            | schema.ForecastSegmentation()
            | schema.ForecastScored()
        ):
            return _scene(what)
        case schema.Heartbeat(beat):
            if beat.sources:
                return f"open: {', '.join(beat.sources)}"
            return ", ".join(f"{family} {tseq}" for family, tseq in beat.last.items())
        case schema.Lost(topic, first, last):
            return f"{topic} {first}..{last} never came; the log has them"
        case schema.Other(_, members):
            return msgspec.json.encode(members).decode()[:LONGEST]
        case _:
            return _source(what)


def _track(what: schema.TrackBegin | schema.TrackUpdate | schema.TrackEnd) -> str:
    if isinstance(what, schema.TrackEnd):
        ended = what.track
        into = f", goes on as {ended.into}" if ended.into else ""
        age = f"after {ended.age_s:.1f} s ({ended.reason}{into})"
        return f"{ended.id:<16} {_box(ended.box_px)}  {age}"
    track = what.track
    speed = "" if track.speed_m_s is None else f"  {track.speed_m_s:.1f} m/s"
    return f"{track.id:<16} {_box(track.box_px)}  p={track.p_exist:.2f}{speed}"


def _scene(what: schema.SceneBody) -> str:
    match what:
        case schema.SceneUpdate(scene):
            unknown = f"; unknown {scene.unknown.share:.1%}" if scene.unknown else ""
            return _largest(scene.classes) + unknown
        case schema.UnknownBegin(seen):
            return f"{_box(seen.box_px)}  p={seen.p:.2f}"
        case schema.UnknownEnd(ended):
            return f"{_box(ended.box_px)}  p={ended.p:.2f} ({ended.reason})"
        case schema.ForecastSegmentation(forecast):
            zones = "".join(f"; {zone.zone} p={zone.p:.2f}" for zone in forecast.zones)
            return f"in {forecast.horizon_us / 1e6:g} s: {_largest(forecast.classes)}{zones}"
        case schema.ForecastScored(score):
            return f"made {score.horizon_us / 1e6:g} s ago: mIoU {score.miou:.2f}"
        case _:
            assert_never(what)


def _source(what: schema.SourceBody) -> str:
    match what:
        case schema.SourceOnline(stream):
            rate = f", {stream.fps:g} fps" if stream.fps else ""
            return f"{stream.label}, {stream.w}x{stream.h}{rate}{', live' if stream.live else ''}"
        case schema.SourceConnecting(change):
            return change.reason
        case schema.SourceStalled(change):
            return change.reason
        case schema.SourceOffline(change):
            return change.reason
        case schema.SourceEof(finish):
            return f"{finish.frames} frames"
        case schema.SourceGap(gap):
            some = f"{gap.count} of " if 0 < gap.count <= gap.last - gap.first else ""
            return f"{gap.reason}, {some}pictures {gap.first}..{gap.last}"
        case schema.SourceEpoch(restart):
            return f"stream epoch {restart.stream_epoch}" + (
                f" ({restart.reason})" if restart.reason else ""
            )
        case _:
            assert_never(what)


def _box(box: Box) -> str:
    return " ".join(f"{value:7.1f}" for value in box)


def _largest(classes: dict[str, float]) -> str:
    """The three classes with most of the picture."""
    first = sorted(classes.items(), key=lambda pair: -pair[1])[:3]
    return ", ".join(f"{label} {share:.0%}" for label, share in first)
