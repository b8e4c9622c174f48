"""Tracks as ONVIF Profile M metadata and events, in JSON over MQTT.

    PREFIX/onvif-mj/VideoAnalytics/SOURCE/streamvis
        {"Frame": [{"@UtcTime", "@Source", "Transformation", "Object": […], "ObjectTree": {…}}]}
    PREFIX/onvif-ej/RuleEngine/RULE/&SOURCE/CONFIGURATION/NAME
        {"UtcTime", "Source": {"VideoSource", "AnalyticsConfiguration", "Rule"}, "Data": {…}}

`onvif_rules.py` has the rules. Coordinates are those of ONVIF: x from −1 (left) to 1, y from −1
(bottom) to 1. Object ids are integers. Corrections of identities are the operations Merge, Split
and Rename of the ObjectTree.
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import groupby
from operator import or_

import msgspec

from streamvis.bridges.mqtt_broker import Message
from streamvis.bridges.onvif_rules import (
    MODULE,
    Json,
    Rule,
    happening_of,
    object_id,
    states_of,
    utc_of,
)
from streamvis.bridges.source_state import SourceNow, fold, touched_by
from streamvis.errors import DataError
from streamvis.events.codec import Codec
from streamvis.events.envelope import Box, Event, FrameRef
from streamvis.events.log import Row
from streamvis.logs import warn
from streamvis.stages.track.events import (
    Split,
    Track,
    TrackBegin,
    TrackEnd,
    TrackMerge,
    TrackSplit,
    TrackUpdate,
)

FAMILIES = ("track", "zone", "line")
CLASSES = {"person": "Human"}  # in ONVIF's words
IDENTITY = {"Translate": {"@x": 0.0, "@y": 0.0}, "Scale": {"@x": 1.0, "@y": 1.0}}


class OnvifMapping:
    """The metadata of frames with tracks, and an event when the number of people changes."""

    def __init__(self, codec: Codec, prefix: str) -> None:
        self._codec = codec
        self._prefix = prefix
        self._sources: dict[str, SourceNow] = {}

    def messages(self, rows: Sequence[Row]) -> list[Message]:
        messages: list[Message] = []
        for _, events in groupby(self._events(rows), key=_frame_of):
            messages += self._of_frame(list(events))
        return messages

    def state(self) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(self._sources))

    def restore(self, state: msgspec.Raw) -> None:
        try:
            self._sources = msgspec.json.decode(state, type=dict[str, SourceNow] | None) or {}
        except msgspec.DecodeError as error:
            raise DataError(
                f"the progress is not that of an ONVIF bridge: {error}; give each bridge a --name "
                "of its own"
            ) from None

    def _events(self, rows: Sequence[Row]) -> Iterator[Event]:
        for row in rows:
            if row.type.partition(".")[0] not in FAMILIES:
                continue
            try:
                yield self._codec.decode(row.payload)
            except DataError as error:
                warn("an event of the log cannot be read", source=row.source, reason=str(error))

    def _of_frame(self, events: Sequence[Event]) -> list[Message]:
        """Return the messages of the events of one frame."""
        source, at = events[0].source, utc_of(events[0])
        known = self._sources.get(source)
        now = self._sources.setdefault(source, SourceNow())
        touched = reduce(or_, (touched_by(now, event) for event in events))
        before = states_of(now, touched) if known is not None else {}
        tree, objects, happened = Json(), [], []
        for event in events:
            _add_operations(tree, event, now.open)
            if isinstance(event.what, TrackBegin | TrackUpdate) and event.frame is not None:
                objects.append(object_of(event.what.track, event.frame))
            if (found := happening_of(event)) is not None:
                happened.append(self._of_rule(source, at, *found))
            fold(now, event)
        messages = []
        if any(event.type.startswith("track.") for event in events):
            messages.append(self._metadata(source, at, objects, tree))
        after = states_of(now, touched)
        changed = {rule: data for rule, data in after.items() if before.get(rule) != data}
        messages += [self._of_rule(source, at, rule, data) for rule, data in changed.items()]
        gone = [rule for rule in before if rule not in after]
        messages += [Message(self._topic(source, rule), b"") for rule in gone]
        return messages + happened

    def _metadata(self, source: str, at: str, objects: list[Json], tree: Json) -> Message:
        frame: Json = {"@UtcTime": at, "@Source": source, "Transformation": IDENTITY}
        if objects:
            frame["Object"] = objects
        if tree:
            frame["ObjectTree"] = tree
        topic = f"{self._prefix}/onvif-mj/VideoAnalytics/{source}/{MODULE}"
        return Message(topic, msgspec.json.encode({"Frame": [frame]}), retain=False)

    def _of_rule(self, source: str, at: str, rule: Rule, data: Json) -> Message:
        place = {
            "VideoSource": source,
            "AnalyticsConfiguration": rule.configuration,
            "Rule": rule.name,
        }
        payload = {"UtcTime": at, "Source": place, "Data": data}
        return Message(
            self._topic(source, rule), msgspec.json.encode(payload), retain=rule.is_property
        )

    def _topic(self, source: str, rule: Rule) -> str:
        return (
            f"{self._prefix}/onvif-ej/RuleEngine/{rule.topic}/&{source}/"
            f"{rule.configuration}/{rule.name}"
        )


def object_of(track: Track, frame: FrameRef) -> Json:
    """Return the Object of a track."""
    left, top, right, bottom = normalised(track.box_px, frame.w, frame.h)
    likelihood = round(min(max(track.p_exist, 0.0), 1.0), 4)
    return {
        "@ObjectId": object_id(track.id),
        "Appearance": {
            "Shape": {
                "BoundingBox": {"@left": left, "@top": top, "@right": right, "@bottom": bottom},
                "CenterOfGravity": {"@x": (left + right) / 2, "@y": (top + bottom) / 2},
            },
            "Class": {
                "Type": [
                    {"@Likelihood": likelihood, "#text": CLASSES.get(track.label, track.label)}
                ]
            },
        },
    }


def normalised(box: Box, width: int, height: int) -> Box:
    """Return left, top, right, bottom in −1…1 with y up, of a box in pixels with y down."""
    xs = [min(max(2 * x / max(width, 1) - 1, -1.0), 1.0) for x in (box[0], box[2])]
    ys = [min(max(1 - 2 * y / max(height, 1), -1.0), 1.0) for y in (box[1], box[3])]
    return xs[0], ys[0], xs[1], ys[1]


def _frame_of(event: Event) -> tuple[str, str, FrameRef | None, int]:
    return event.source, event.epoch, event.frame, event.time.media_us


def _add_operations(tree: Json, event: Event, present: set[str]) -> None:
    """Add what an event does to identities; `present` are the open tracks before it."""
    match event.what:
        case TrackSplit(splits):
            for name, operation in _splits(splits):
                tree.setdefault(name, []).append(operation)
        case TrackMerge(merge) if merge.kept in present:
            both = [_reference(merge.gone), _reference(merge.kept)]
            operation = {"from": both, "to": _reference(merge.kept)}
            tree.setdefault("Merge", []).append(operation)
        case TrackMerge(merge):
            operation = {"from": _reference(merge.gone), "to": _reference(merge.kept)}
            tree.setdefault("Rename", []).append(operation)
        case TrackEnd(ended) if ended.into is None:
            tree.setdefault("Delete", []).append(_reference(ended.id))


def _splits(splits: Sequence[Split]) -> Iterator[tuple[str, Json]]:
    """Yield two Rename for two tracks that exchange their identities, Split for others."""
    pairs = {(one.id, one.other) for one in splits}
    for one in splits:
        if (one.other, one.id) in pairs:
            yield "Rename", {"from": _reference(one.id), "to": _reference(one.other)}
        else:
            both = [_reference(one.id), _reference(one.other)]
            yield "Split", {"from": _reference(one.id), "to": both}


def _reference(track: str) -> Json:
    return {"@ObjectId": object_id(track)}
