"""Puts the tracks of a frame together from their events."""

from collections.abc import Sequence
from typing import Any, NamedTuple

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

NO_GROUND = (None, None, None)
NOWHERE = (float("nan"), float("nan"))  # without a position on the ground plane
Size = tuple[int, int]  # px, width and height


class Position(NamedTuple):
    """The last update of a track."""

    track: Track
    media_us: int


OpenTracks = dict[int, Position]  # by number


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

    def observed(self, open_tracks: OpenTracks, spacing_us: int) -> Observed:
        """Return what was observed in the frame, and bring the open tracks up to date.

        Where the log has an update of a track only every `spacing_us`, the track is where it was
        until the next one is due, as if predicted. Otherwise a track without one is not there.
        """
        now_us = self.head.time.media_us
        for number in self._ended:
            open_tracks.pop(number, None)
        for number, old in list(open_tracks.items()):
            if now_us - old.media_us >= spacing_us:
                del open_tracks[number]
        open_tracks |= {n: Position(track, now_us) for n, track in self._tracks.items()}
        frame = self.head.frame
        size = (1, 1) if frame is None else (frame.w, frame.h)
        if not (self._tracks or self._ended or self._splits or self._merges):
            return passed(now_us, size)
        return Observed(
            media_us=now_us,
            seq=0 if frame is None else frame.seq,
            size=size,
            **_columns(open_tracks, now_us),
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


def _columns(open_tracks: OpenTracks, now_us: int) -> dict[str, Any]:
    """Return the tracks as arrays, by ascending number."""
    ids = sorted(open_tracks)
    positions = [open_tracks[number] for number in ids]
    tracks = [position.track for position in positions]
    return {
        **_ground_columns(tracks),
        "ids": np.array(ids, np.int64),
        "boxes": _table([one.box_px for one in tracks], 4),
        "seen": np.array(
            [one.media_us == now_us and one.track.box_from == "update" for one in positions],
            bool,
        ),
        "p_exist": np.array([one.p_exist for one in tracks], np.float64),
        "first_us": np.array([one.first_seen_us for one in tracks], np.int64),
        "variance": _table([one.cov_diag for one in tracks], 4),
        "velocity": _table([one.vel_px_s for one in tracks], 2),
        "ground_space": any(one.space == "ground" for one in tracks),
    }


def _ground_columns(tracks: Sequence[Track]) -> dict[str, Any]:
    if all((one.ground_m, one.vel_m_s, one.ground_cov_m2) == NO_GROUND for one in tracks):
        nowhere = np.full((len(tracks), 5), np.nan)
        return {
            "ground": nowhere[:, :2],
            "ground_velocity": nowhere[:, 2:4],
            "ground_variance": nowhere[:, 4],
        }
    return {
        "ground": _table([one.ground_m or NOWHERE for one in tracks], 2),
        "ground_velocity": _table([one.vel_m_s or NOWHERE for one in tracks], 2),
        "ground_variance": np.array(
            [_mean_variance(one.ground_cov_m2) for one in tracks], np.float64
        ),
    }


def _table(rows: Sequence[Sequence[float]], width: int) -> Any:
    return np.array(rows, np.float64).reshape(-1, width)


def _mean_variance(covariance: Covariance | None) -> float:
    return float("nan") if covariance is None else (covariance[0][0] + covariance[1][1]) / 2
