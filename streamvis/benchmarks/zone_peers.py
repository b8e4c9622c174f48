"""LineZone and PolygonZone of supervision on the tracks of SORT and ByteTrack.

None of them is a dependency. The anchor is the middle of the lower edge, as in ours; otherwise
they have their authors' settings. A LineZone has two variants: it counts once a track has been seen
on the other side in one frame, or in two in a row. A PolygonZone tells who is inside in a frame; a
visit is made of that with the `enter_s` and `exit_s` of our zones, where it has neither.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from streamvis.benchmarks.tracker_protocol import ReportedTracks
from streamvis.evaluation.zones import (
    CountedCrossing,
    CountedVisit,
    SequenceTime,
    ZoneRecord,
    zone_visits,
)
from streamvis.messages import Array
from streamvis.zone_layout import ZoneLayout

SEEN_BEYOND = (1, 2)  # minimum_crossing_threshold
INSTALL = "pip install supervision && pip install --no-deps trackers"


def counted_by_supervision(
    layout: ZoneLayout,
    tracked: Sequence[ReportedTracks],
    time: SequenceTime,
    size: tuple[int, int],
) -> dict[str, ZoneRecord]:
    """Return what supervision counts in these tracks of frames 1 to F, by variant of LineZone."""
    import supervision as sv

    frames = [
        sv.Detections(
            xyxy=np.asarray(one.boxes, np.float32).reshape(-1, 4),
            tracker_id=np.asarray(one.ids, int),
        )
        for one in tracked
    ]
    times = time.at(np.arange(1, len(frames) + 1))
    visits, people = _visits(layout, frames, times, size)
    occupied = (people > 0).astype(float)
    return {
        f"LineZone {seen}": ZoneRecord(
            _crossings(layout, frames, times, size, seen), visits, people, people + 0.0, occupied
        )
        for seen in SEEN_BEYOND
    }


def _crossings(
    layout: ZoneLayout, frames: Sequence[Any], times: Array, size: tuple[int, int], seen: int
) -> list[CountedCrossing]:
    import supervision as sv

    found = []
    for i, line in enumerate(layout.lines):
        start, end = (sv.Point(*(np.array(at) * size).tolist()) for at in (line.start, line.end))
        zone = sv.LineZone(
            start,
            end,
            triggering_anchors=[sv.Position.BOTTOM_CENTER],
            minimum_crossing_threshold=seen,
        )
        for at_s, detections in zip(times.tolist(), frames, strict=True):
            to_left, to_right = zone.trigger(detections)
            found += [CountedCrossing(i, "right_to_left", at_s)] * int(to_left.sum())
            found += [CountedCrossing(i, "left_to_right", at_s)] * int(to_right.sum())
    return sorted(found, key=lambda one: one.at_s)


def _visits(
    layout: ZoneLayout, frames: Sequence[Any], times: Array, size: tuple[int, int]
) -> tuple[list[CountedVisit], Array]:
    """Return visits by time, and the number of people inside (F, Z)."""
    import supervision as sv

    visits: list[CountedVisit] = []
    people = np.zeros((len(frames), len(layout.zones)), np.int64)
    for i, zone in enumerate(layout.zones):
        polygon = sv.PolygonZone(np.rint(np.array(zone.polygon) * size).astype(np.int64))
        seen: dict[int, list[tuple[float, bool]]] = {}  # track -> time, whether inside
        for n, detections in enumerate(frames):
            inside = polygon.trigger(detections)
            people[n, i] = inside.sum()
            for track, within in zip(detections.tracker_id.tolist(), inside.tolist(), strict=True):
                seen.setdefault(track, []).append((float(times[n]), within))
        for path in seen.values():
            at, within_ = np.array([t for t, _ in path]), np.array([w for _, w in path])
            stays = [CountedVisit(i, *stay) for stay in zone_visits(at, within_, zone)]
            if stays and within_[-1] and at[-1] == times[-1]:
                stays[-1] = stays[-1]._replace(ended=False)
            visits += stays
    return sorted(visits, key=lambda one: one.entered_s), people
