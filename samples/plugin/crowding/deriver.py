"""Derives the events of crowding by hysteresis in the number of close people. Pure."""

from typing import Literal

import msgspec

from crowding import Crowding, Neighbours
from crowding.events import Crowd, CrowdingBegin, CrowdingEnd, EndedCrowd
from streamvis.events.deriver import Draft, FrameEvents
from streamvis.events.envelope import EventBody, Reason
from streamvis.messages import Findings, Packet
from streamvis.stages.hysteresis import Hysteresis


class Open(msgspec.Struct):
    """A crowd that may begin, is open, or may end."""

    hysteresis: Hysteresis
    people_max: int = 0
    close_us: int = 0


class CrowdingDeriver:
    """Derives the events of one source; the open crowd is all that it remembers."""

    def __init__(self, config: Crowding, state: bytes | None) -> None:
        self.config = config
        self.open = None if state is None else msgspec.msgpack.decode(state, type=Open | None)

    def derive(self, packet: Packet) -> FrameEvents:
        part = packet.part(Neighbours)
        if part is None:  # the stage was skipped
            return FrameEvents()
        people, now_us = len(part.ids), packet.frame.media_us
        enough = people >= self.config.people
        if self.open is None:
            if not enough:
                return FrameEvents()
            self.open = Open(Hysteresis(now_us))
        crowd = self.open
        crowd.people_max = max(crowd.people_max, people)
        crowd.close_us = max(crowd.close_us, *part.close_us.tolist(), 0)
        min_us = round(self.config.min_s * 1e6)
        change = crowd.hysteresis.step(now_us, min_us, begins=enough, ends=not enough)
        if change == "begin":
            body = CrowdingBegin(Crowd(people=people, since_us=crowd.hysteresis.since_us))
            return FrameEvents(drafts=[Draft(body)])
        if change == "dropped":
            self.open = None
        return FrameEvents(ends=self._end("over") if change == "end" else [])

    def close(self, reason: Reason) -> list[EventBody]:
        return self._end(reason)

    def findings(self, so_far: Findings) -> Findings:
        return so_far  # it adds none

    def state(self) -> bytes:
        return msgspec.msgpack.encode(self.open)

    def _end(self, reason: Reason | Literal["over"]) -> list[EventBody]:
        crowd, self.open = self.open, None
        if crowd is None or not crowd.hysteresis.begun:
            return []
        ended = EndedCrowd(
            people_max=crowd.people_max,
            since_us=crowd.hysteresis.since_us,
            close_s=round(crowd.close_us / 1e6, 3),
            reason=reason,
        )
        return [CrowdingEnd(ended)]
