"""Lanes by brute force: from the bodies of events, one bin and one span after the other."""

from streamvis.stages.actions.events import ActionBegin, ActionEnd
from streamvis.stages.pose.events import PostureBegin, PostureEnd
from streamvis.stages.segment.events import UnknownBegin, UnknownEnd
from streamvis.stages.track.events import TrackBegin, TrackEnd
from streamvis.stages.zones.events import LineCross, ZoneEnter, ZoneExit, ZoneRevise

STATES = ("source.connecting", "source.online", "source.stalled", "source.offline", "source.eof")


def effects(event):
    """Yield (lane, verb, key) of an event."""
    what, kind = event.what, event.type
    match what:
        case TrackBegin(track):
            yield ("track", ""), "begin", track.id
        case TrackEnd(track):
            yield ("track", ""), "end", track.id
        case ZoneEnter(zone):
            yield ("zone", zone.name), "begin", zone.track
        case ZoneExit(zone):
            yield ("zone", zone.name), "end", zone.track
        case ZoneRevise(zone):
            was = {one.track for one in zone.was if one.left_us is None}
            now = {one.track for one in zone.now if one.left_us is None}
            yield ("zone", zone.name), "mark", ""
            for key in sorted(was - now):
                yield ("zone", zone.name), "silent end", key
            for key in sorted(now - was):
                yield ("zone", zone.name), "silent begin", key
        case LineCross(line):
            yield ("line", line.name), "mark", ""
        case ActionBegin(action):
            yield ("action", action.label), "begin", action.track or ""
        case ActionEnd(action):
            yield ("action", action.label), "end", action.track or ""
        case PostureBegin(posture):
            yield ("posture", posture.label), "begin", posture.track
        case PostureEnd(posture):
            yield ("posture", posture.label), "end", posture.track
        case UnknownBegin():
            yield ("unknown", ""), "begin", ""
        case UnknownEnd():
            yield ("unknown", ""), "end", ""
        case _ if kind in STATES:
            yield ("source", ""), "replace", "" if kind == "source.eof" else kind.split(".")[1]
        case _ if kind.startswith("forecast."):
            yield ("forecast", ""), "mark", ""
        case _ if not kind.endswith(".update"):
            yield ("source", ""), "mark", ""


class Lane:
    def __init__(self):
        self.spans = []  # [key, from, to, first, last]
        self.marks = []  # (at, offset, type)
        self.levels = []  # (at, open after, begins, events)

    def open(self):
        return [span for span in self.spans if span[2] is None]


def lanes_of(events):
    """Return by lane all that is known after these events, in order."""
    lanes = {}
    for event in events:
        at_us, offset = event.time.media_us, event.offset
        for name, verb, key in effects(event):
            lane = lanes.setdefault(name, Lane())
            known = [span for span in lane.open() if span[0] == key]
            begins, counted = 0, int(not verb.startswith("silent"))
            if verb == "replace":
                for span in lane.open():
                    span[2], span[4] = at_us, offset
                lane.levels.append((at_us, 0, 0, 0))
                verb = "begin" if key else "mark"
                known = []
            if verb.endswith("begin") and not known:
                lane.spans.append([key, at_us, None, offset, -1])
                begins = 1
            elif verb.endswith("end") and known:
                known[0][2], known[0][4] = at_us, offset
            elif verb == "mark":
                lane.marks.append((at_us, offset, event.type))
            lane.levels.append((at_us, len(lane.open()), begins, counted))
    return lanes


def bins_of(lane, first_us, bin_us, bins):
    """Return begins, most and events of each bin."""
    begins, most, events = [], [], []
    for start in range(first_us, first_us + bins * bin_us, bin_us):
        inside = [one for one in lane.levels if start <= one[0] < start + bin_us]
        before = [one[1] for one in lane.levels if one[0] < start]
        begins.append(sum(one[2] for one in inside))
        events.append(sum(one[3] for one in inside))
        most.append(max([before[-1] if before else 0, *(one[1] for one in inside)]))
    return begins, most, events
