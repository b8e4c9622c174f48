"""The rules of ONVIF's analytics service that the events of a source are messages of.

Names and items are those of the ONVIF Analytics Service Specification, annex "Specified Rules". The
messages of a property are retained: each has a topic of its own, and the broker keeps the last one.
"""

import re
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, NamedTuple

from streamvis.bridges.source_state import Shapes, SourceNow
from streamvis.events.envelope import Event
from streamvis.stages.zones.events import LineCross, ZoneDwell

MODULE = "streamvis"  # of analytics, and the configuration of rules about the whole picture
ZONES, LINES = "zones", "lines"  # configurations of rules: names of both may be equal
LATEST_US = 253_402_300_799_000_000  # the year 9999 ends

Json = dict[str, Any]


class Rule(NamedTuple):
    """A rule that sends messages."""

    topic: str  # below RuleEngine
    configuration: str
    name: str
    is_property: bool = True  # its messages are a state, not something that happens


def states_of(now: SourceNow, shapes: Shapes) -> dict[Rule, Json]:
    """Return the `Data` of each property: of the source, and of these zones and lines."""
    counter, occupancy = "CountAggregation/Counter", "CountAggregation/OccupancyCounter"
    states: dict[Rule, Json] = {Rule(occupancy, MODULE, "people"): {"Count": len(now.open)}}
    for name in sorted(shapes.zones & now.zones.keys()):
        zone = now.zones[name]
        inside = " ".join(str(object_id(track)) for track in zone.inside)
        states[Rule("FieldDetector/ObjectsInside", ZONES, name)] = {
            "IsInside": zone.people > 0,
            "ObjectId": inside,
        }
        states[Rule(occupancy, ZONES, name)] = {"Count": zone.people}
    for name in sorted(shapes.lines & now.lines.keys()):
        line = now.lines[name]
        states[Rule(counter, LINES, f"{name}_in")] = {"Count": line.in_total}
        states[Rule(counter, LINES, f"{name}_out")] = {"Count": line.out_total}
    return states


def happening_of(event: Event) -> tuple[Rule, Json] | None:
    """Return the rule and its `Data` for something that happens; None for other events."""
    match event.what:
        case LineCross(crossing):
            rule = Rule("LineDetector/Crossed", LINES, crossing.name, is_property=False)
            return rule, {
                "ObjectId": str(object_id(crossing.track)),
                f"{MODULE}:Direction": crossing.direction,
            }
        case ZoneDwell(stay):
            name = f"{stay.name}_{stay.threshold_s:g}s"
            rule = Rule("LoiteringDetector/ObjectIsLoitering", ZONES, name, is_property=False)
            ago_us = event.time.media_us - stay.entered_us
            since = utc(_wall_us(event) - ago_us)
            return rule, {"ObjectId": str(object_id(stay.track)), "Since": since}
    return None


def object_id(track: str) -> int:
    """Return the integer of a track id, `source:stream_epoch:number`, unique in its source.

    In the first stream epoch it is the number; JavaScript's integers hold it for 2²⁰ epochs. An id
    of another form has the negative integer of its digest.
    """
    if match := re.fullmatch(r"[^:]*:([0-9]{1,7}):([0-9]{1,9})", track):
        return (int(match[1]) - 1 << 32) + int(match[2])
    return -int.from_bytes(blake2b(track.encode(errors="replace"), digest_size=6).digest())


def utc_of(event: Event) -> str:
    """Return the wall clock of the frame, or of the event where that is unknown."""
    return utc(_wall_us(event))


def utc(at_us: int) -> str:
    """Return a time since 1970 as ONVIF writes it."""
    at = datetime.fromtimestamp(min(max(at_us, 0), LATEST_US) / 1e6, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _wall_us(event: Event) -> int:
    return event.time.capture_us or event.time.emit_us
