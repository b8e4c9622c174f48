"""What the zones stage reads of a frame: its tracks, as precisely as the event log has them.

The numbers are rounded as those of `track.update`, so that zones that are computed again from a
log (`streamvis zones replay`) give the same events. N is the number of tracks in the frame.
"""

from collections.abc import Mapping

import msgspec
import numpy as np

from streamvis.events.deriver import LARGEST
from streamvis.messages import Array, Forecast, Frame, Tracks
from streamvis.stages.track.deriver import (
    Merges,
    Splits,
    published_merges,
    published_splits,
    rounded,
)

UNKNOWN = 2**62  # every number is published
FACTORS = np.repeat([1e2, 1e4, 1e6, 1e2], [4, 1, 4, 2])  # digits of boxes, existence, variance and
# velocity in the log


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """The tracks of one frame of a stream epoch."""

    media_us: int
    seq: int = 0  # number of the frame, of those that are analysed
    size: tuple[int, int]  # px; width and height of the frame
    ids: Array  # (N,) int64, ascending, different
    boxes: Array  # (N, 4) float64, xyxy px
    seen: Array  # (N,) bool; False: the box is predicted
    p_exist: Array  # (N,) float64
    first_us: Array  # (N,) int64; media time of the first detection, before the track was reported
    variance: Array  # (N, 4) float64; of x, y, vx, vy of the foot point, px or m as `ground_space`
    velocity: Array  # (N, 2) float64, px/s, of the foot point
    ground: Array  # (N, 2) float64, m; NaN without a position on the ground plane
    ground_velocity: Array  # (N, 2) float64, m/s; NaN where it is not known
    ground_variance: Array  # (N,) float64, m², mean over both axes; NaN where it is not known
    ground_space: bool = False  # tracks are filtered on the ground plane
    ended: tuple[int, ...] = ()  # tracks that end with this frame
    splits: Splits = ()  # boxes reported as `id` since then were of `other`; all at once
    merges: Merges = ()  # both ids are one person, after the splits
    scene: Mapping[tuple[str, int], float] = {}  # (zone, horizon µs) -> probability of being
    # occupied then, by the forecast of the segmentation


def observe(
    frame: Frame, tracks: Tracks | None, forecast: Forecast | None = None, newest: int = UNKNOWN
) -> Observed:
    """Return what was observed in a frame; without `tracks`, only that time has passed.

    newest: highest track number before the frame; corrections of later ones are not published.
    """
    if tracks is None:
        return passed(frame.media_us, (frame.width, frame.height))
    n = len(tracks)
    unknown = np.full((n, 2), np.nan)
    spread = tracks.ground_covariance
    order: Array | slice = slice(None)
    if n and not (tracks.ids[0] > 0 and (tracks.ids[1:] > tracks.ids[:-1]).all()):  # as it has them
        order = np.argsort(tracks.ids, kind="stable")
        order = order[tracks.ids[order] > 0]  # others are not confirmed
    table = _rounded(tracks)
    columns = {
        "ids": tracks.ids.astype(np.int64),
        "boxes": table[:, :4],
        "seen": tracks.supported,
        "p_exist": table[:, 4],
        "first_us": tracks.first_seen_us.astype(np.int64),
        "variance": table[:, 5:9],
        "velocity": table[:, 9:],
        "ground": tracks.ground.astype(np.float64).round(3),
        "ground_velocity": unknown
        if tracks.ground_velocity is None
        else tracks.ground_velocity.astype(np.float64).round(3),
        "ground_variance": unknown[:, 0] if spread is None else mean_variance(spread),
    }
    return Observed(
        media_us=frame.media_us,
        seq=frame.seq,
        size=(frame.width, frame.height),
        ground_space=tracks.space == "ground",
        ended=tuple(tracks.ended.tolist()),
        splits=published_splits(tracks, frame.media_us, newest),
        merges=published_merges(tracks, newest),
        scene={} if forecast is None else scene_of(forecast),
        **{name: column[order] for name, column in columns.items()},
    )


def _rounded(tracks: Tracks) -> Array:
    """Return boxes, existence, variance and velocity (N, 11), as `rounded` has each of them."""
    columns = (tracks.boxes, tracks.existence[:, None], tracks.covariance, tracks.velocity)
    table = np.concatenate(columns, axis=1, dtype=np.float64)
    if not (np.abs(table) <= LARGEST).all():  # NaN is not
        table = np.nan_to_num(table).clip(-LARGEST, LARGEST)
    return np.asarray(np.rint(table * FACTORS) / FACTORS)


def passed(media_us: int, size: tuple[int, int]) -> Observed:
    """Return an observation of no tracks: time has passed."""
    none = np.zeros(0)
    return Observed(
        media_us=media_us,
        size=size,
        ids=none.astype(np.int64),
        boxes=none.reshape(0, 4),
        seen=none.astype(bool),
        p_exist=none,
        first_us=none.astype(np.int64),
        variance=none.reshape(0, 4),
        velocity=none.reshape(0, 2),
        ground=none.reshape(0, 2),
        ground_velocity=none.reshape(0, 2),
        ground_variance=none,
    )


def mean_variance(covariance: Array) -> Array:
    """Return the mean variance (N,) of both axes of covariances (N, 2, 2), rounded as in events."""
    diagonal = rounded(covariance[:, [0, 1], [0, 1]], 6)
    return np.asarray(diagonal.mean(axis=1))


def scene_of(forecast: Forecast) -> dict[tuple[str, int], float]:
    """Return the probability of being occupied of each zone of the segmentation's forecast."""
    return {
        (zone.zone, horizon.horizon_us): round(zone.p, 4)
        for horizon in forecast.horizons
        for zone in horizon.zones
    }
