"""People who come into a picture in which nothing moved are reported as soon as without a gate."""

import numpy as np
import pytest
from factories import detections, frame, source
from stages.test_gate import HEIGHT, PLACE, WIDTH, shown

from streamvis.config import Jipda
from streamvis.events.deriver import PublishPolicy
from streamvis.messages import Packet
from streamvis.stages.gate import LookGate, not_looked
from streamvis.stages.publish.derive import SourceEvents, SourceStatus
from streamvis.stages.zones import ZoneCounter
from streamvis.stages.zones.stage import ZonesStage
from streamvis.tracking.tracker import Tracker
from streamvis.zone_layout import Zone

BODY, FOOT = 90, 280  # px: height of the person, and row of the foot point
ZONE = Zone(name="hall", polygon=((0.25, 0.2), (0.95, 0.2), (0.95, 0.95), (0.25, 0.95)))
LATE_S = 0.3


def walks_in(t: float, start_s: float) -> float | None:
    """The middle of somebody who comes over the left edge at 90 px/s, and stops in the zone."""
    return None if t < start_s else min(-BODY * 0.2 + 90 * (t - start_s), 240)


def appears(t: float, start_s: float) -> float | None:
    """Somebody who stands in the zone at once, as out of a door."""
    return None if t < start_s else 300


def begins(path, start_s: float, fps: int, *, gated: bool) -> tuple[dict[str, float], float]:
    """When events of each type come first, s; and the share of frames that were looked at."""
    info = source(size=(WIDTH, HEIGHT))
    tracker, gate = Tracker(info, Jipda()), LookGate()
    config = ZoneCounter(zones=(ZONE,))
    zones = ZonesStage(config)
    zones.begin(info, None)
    events = SourceEvents(SourceStatus(info), [Jipda(), config], PublishPolicy(every_us=0))
    first: dict[str, float] = {}
    looks = []
    for n in range(round((start_s + 6) * fps)):
        x = path(n / fps, start_s)
        grey = PLACE.copy()
        people = []
        if x is not None:
            left, right = np.clip([x - BODY * 0.2, x + BODY * 0.2], 0, WIDTH)
            grey[FOOT - BODY : FOOT, round(left) : round(right)] -= 40
            people = [[left, FOOT - BODY, right, FOOT]] if right - left > 8 else []
        at = frame(n, fps=fps, size=(WIDTH, HEIGHT))
        looks.append(not gated or gate.looks(shown(grey, n), at.media_us))
        found = detections(people) if looks[-1] else not_looked()
        packet = Packet(frame=at, parts=[tracker.update(found, at.media_us)])
        packet.parts.extend(zones([packet]))
        for draft in events.frame(packet):
            first.setdefault(type(draft.what).__struct_config__.tag, n / fps)
    return first, float(np.mean(looks))


@pytest.mark.parametrize("path", [walks_in, appears])
@pytest.mark.parametrize("fps", [5, 12, 25])
@pytest.mark.parametrize("start_s", [2.2, 2.5, 2.9])
def test_events_of_entry_are_not_later(path, fps, start_s):
    always, _ = begins(path, start_s, fps, gated=False)
    gated, looked = begins(path, start_s, fps, gated=True)
    assert looked < 0.7
    for kind in ("track.begin", "zone.enter"):
        assert gated[kind] <= always[kind] + LATE_S
