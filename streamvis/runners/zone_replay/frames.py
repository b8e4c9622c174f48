"""Puts the tracks of a frame together from their events."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from streamvis.events.envelope import EventBody
from streamvis.runners.log_bodies import Head
from streamvis.stages.forecast.events import ForecastSegmentation
from streamvis.stages.track.events import (
    Covariance,
    Merge,
    Split,
    Track,
    TrackBegin,
    TrackEnd,
    TrackMerge,
    TrackSplit,
    TrackUpdate,
)
from streamvis.stages.zones.observed import Observed, passed

NOWHERE = (float("nan"), float("nan"))  # without a position on the ground plane
Size = tuple[int, int]  # px, width and height


class LoggedFrame:
    """The events of one frame."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self._tracks: dict[int, Track] = {}  # by number
        self._ended: list[int] = []
        self._splits: list[Split] = []
        self._merges: list[Merge] = []
        self._scene: dict[tuple[str, int], float] = {}

    def add(self, what: EventBody) -> None:
        """Add an event of the frame."""
        match what:
            case TrackBegin(track) | TrackUpdate(track):
                self._tracks[number_of(track.id)] = track
            case TrackEnd(ended):
                self._ended.append(number_of(ended.id))
            case TrackSplit(splits):
                self._splits += splits
            case TrackMerge(merge):
                self._merges.append(merge)
            case ForecastSegmentation(outlook):
                self._scene |= {(zone.zone, outlook.horizon_us): zone.p for zone in outlook.zones}

    def observed(self, open_tracks: dict[int, Track]) -> Observed:
        """Return what was observed in the frame, and bring the open tracks up to date.

        A track without an update in this frame, since the log has only some of them, is where it
        was, as if predicted.
        """
        for number in self._ended:
            open_tracks.pop(number, None)
        open_tracks |= self._tracks
        head, frame = self.head, self.head.frame
        size = (1, 1) if frame is None else (frame.w, frame.h)
        if not (self._tracks or self._ended or self._splits or self._merges):
            return passed(head.time.media_us, size)
        return Observed(
            media_us=head.time.media_us,
            size=size,
            **_columns(open_tracks, self._tracks.keys()),
            ended=tuple(self._ended),
            splits=tuple(
                (number_of(one.id), number_of(one.other), one.since_us) for one in self._splits
            ),
            merges=tuple((number_of(one.gone), number_of(one.kept)) for one in self._merges),
            scene=self._scene,
        )


def number_of(track: str) -> int:
    """Return the number in the id of a track, `source:stream_epoch:number`."""
    return int(track.rpartition(":")[2])


def _columns(open_tracks: dict[int, Track], updated: Iterable[int]) -> dict[str, Any]:
    """Return the tracks as arrays, by ascending number."""
    ids, now = sorted(open_tracks), set(updated)
    tracks = [open_tracks[number] for number in ids]
    return {
        "ids": np.array(ids, np.int64),
        "boxes": _table([one.box_px for one in tracks], 4),
        "seen": np.array(
            [n in now and one.box_from == "update" for n, one in zip(ids, tracks, strict=True)],
            bool,
        ),
        "p_exist": np.array([one.p_exist for one in tracks], np.float64),
        "variance": _table([one.cov_diag for one in tracks], 4),
        "velocity": _table([one.vel_px_s for one in tracks], 2),
        "ground": _table([one.ground_m or NOWHERE for one in tracks], 2),
        "ground_velocity": _table([one.vel_m_s or NOWHERE for one in tracks], 2),
        "ground_variance": np.array(
            [_mean_variance(one.ground_cov_m2) for one in tracks], np.float64
        ),
        "ground_space": any(one.space == "ground" for one in tracks),
    }


def _table(rows: Sequence[Sequence[float]], width: int) -> Any:
    return np.array(rows, np.float64).reshape(-1, width)


def _mean_variance(covariance: Covariance | None) -> float:
    return float("nan") if covariance is None else (covariance[0][0] + covariance[1][1]) / 2
