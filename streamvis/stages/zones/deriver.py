"""Derive the events of zones and lines: those that the stage found. Pure."""

from collections.abc import Sequence

import msgspec

from streamvis.events.deriver import Draft, FrameEvents
from streamvis.events.envelope import EventBody, Reason
from streamvis.messages import Findings, Packet, SourceInfo
from streamvis.stages.zones.events import (
    Departure,
    LineCross,
    LineRevise,
    ZoneBody,
    ZoneDwell,
    ZoneEnter,
    ZoneExit,
    ZoneRevise,
)
from streamvis.stages.zones.part import Zones


class DeriverState(msgspec.Struct):
    """The visits of one source that have not ended, and the totals of the last frame."""

    visits: dict[str, dict[str, int]] = {}  # zone -> track -> when the person entered, µs
    media_us: int = 0  # of the last frame
    zones: dict[str, int] = {}  # visits so far
    lines: dict[str, tuple[int, int]] = {}  # crossings so far, in and out
    at_end: list[ZoneExit | LineCross] = []  # exits and crossings that count if the source ends


class ZonesDeriver:
    """Derives the events of one source's zones and lines."""

    def __init__(self, source: SourceInfo, state: bytes | None) -> None:
        self._state = (
            DeriverState() if state is None else msgspec.msgpack.decode(state, type=DeriverState)
        )

    def derive(self, packet: Packet) -> FrameEvents:
        """Return what was due before and corrections, visits that end, then the rest.

        Each in the stage's order. What came before an exit of the same visit stays before it.
        """
        part = packet.part(Zones)
        if part is None:
            return FrameEvents()
        self._state.media_us = packet.frame.media_us
        self._state.zones = dict(zip(part.zones, part.entries.tolist(), strict=True))
        totals = zip(part.in_total.tolist(), part.out_total.tolist(), strict=True)
        self._state.lines = dict(zip(part.lines, totals, strict=True))
        self._state.at_end = list(part.at_end)
        for what in part.events:
            self._remember(what)
        now = part.events[part.due :]
        corrections = [
            *part.events[: part.due],
            *(what for what in now if isinstance(what, ZoneRevise | LineRevise)),
        ]
        ends, rest = _divided([one for one in now if not isinstance(one, ZoneRevise | LineRevise)])
        return FrameEvents(
            list[EventBody](corrections), list[EventBody](ends), [Draft(what) for what in rest]
        )

    def _remember(self, what: ZoneBody) -> None:
        """Keep which visits are open."""
        visits = self._state.visits
        match what:
            case ZoneEnter(entry):
                visits.setdefault(entry.name, {})[entry.track] = entry.at_us
            case ZoneExit(gone):
                visits.get(gone.name, {}).pop(gone.track, None)
            case ZoneRevise(revision):
                zone = visits.setdefault(revision.name, {})
                for visit in revision.was:
                    if visit.left_us is None:  # an earlier one says nothing of the present
                        zone.pop(visit.track, None)
                zone |= {one.track: one.entered_us for one in revision.now if one.left_us is None}

    def close(self, reason: Reason) -> list[EventBody]:
        """End all visits with the last frame; the next stream epoch begins with nobody inside.

        At the end of the source, who was last seen outside of a zone has left it before, who was
        not seen any more is lost, and who is beyond a line has crossed it.
        """
        until_us = self._state.media_us
        at_end = self._state.at_end if reason == "eof" else []
        before = {
            (one.zone.name, one.zone.track): one for one in at_end if isinstance(one, ZoneExit)
        }
        ends: list[EventBody] = [
            before.get((name, track))
            or ZoneExit(
                Departure(
                    name=name,
                    track=track,
                    at_us=until_us,
                    entered_us=entered_us,
                    dwell_s=(until_us - entered_us) / 1e6,
                    reason=reason,
                )
            )
            for name, tracks in self._state.visits.items()
            for track, entered_us in tracks.items()
        ]
        self._state.visits = {}
        crossed = [one for one in at_end if isinstance(one, LineCross)]
        self._state.lines |= {
            one.line.name: (one.line.in_total, one.line.out_total) for one in crossed
        }
        self._state.at_end = []
        return [*ends, *crossed]

    def findings(self, so_far: Findings) -> Findings:
        """Return the findings with the visits of zones and the crossings of lines."""
        return msgspec.structs.replace(so_far, zones=self._state.zones, lines=self._state.lines)

    def state(self) -> bytes:
        """Return the open visits and the totals."""
        return msgspec.msgpack.encode(self._state)


def _divided(bodies: Sequence[ZoneBody]) -> tuple[list[ZoneBody], list[ZoneBody]]:
    """Divide bodies into exits, with what comes before them of the same visit, and the rest."""
    ends: list[ZoneBody] = []
    rest: list[ZoneBody] = []
    ending: set[tuple[str, str]] = set()  # zone and track of the exits that follow
    for what in reversed(bodies):
        match what:
            case ZoneExit(gone):
                ending.add((gone.name, gone.track))
                ends.append(what)
            case ZoneEnter(entry) if (entry.name, entry.track) in ending:
                ends.append(what)
            case ZoneDwell(stay) if (stay.name, stay.track) in ending:
                ends.append(what)
            case _:
                rest.append(what)
    return ends[::-1], rest[::-1]
