"""Consistency of a tracker: whether its covariances and probabilities say how wrong it is.

    beliefs = concatenated([…])
    report = consistency(beliefs)

A filter is consistent if its squared errors, normalised by its own covariances, are χ² distributed
(Bar-Shalom, Li and Kirubarajan 2001, section 5.4). Two errors are looked at: the innovations of
detections that surely belong to a track (NIS), and the difference of the state to that of the
person whom the track follows (NEES). Both are divided by their degrees of freedom: 1 is
consistent, more is too sure, less is too cautious. The probability of existence is calibrated if
the share of tracks that are on a person is what it says.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import pairwise

import msgspec
import numpy as np
from scipy.stats import chi2

from streamvis.messages import Array

COMPONENTS = ("across", "along", "log width", "log height")
PLACE = [0, 1, 4, 5]  # of a state: the anchor and the size, which are measured
VELOCITY = [2, 3]
TAIL = 0.05  # probability outside of the bounds, half of it at each side
BINS = np.linspace(0, 1, 11)  # of the probability of existence
UNSEEN_S = (0.0, 0.2, 0.5, 1.0, 2.0, np.inf)
LAGS_S = (0.1, 0.25, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class TrackBeliefs:
    """What a tracker believes of its confirmed tracks in each frame, and the truth: N rows.

    What is not known is NaN: states of tracks that follow nobody, detections that are not surely
    the track's.
    """

    track: Array  # (N,) int64
    frame: Array  # (N,) int64
    frame_s: Array  # (N,) time from frame to frame
    unseen_s: Array  # (N,) time since the last detection, 0 with one
    edge: Array  # (N,) bool, the box comes to the picture's edge
    existence: Array  # (N,)
    right: Array  # (N,) 1 on a person, IoU >= 0.5; 0 on nobody; NaN: on one who is not scored
    error: Array  # (N, 6) state − true state
    covariance: Array  # (N, 6, 6) of the state; of velocities with that of the true one
    innovation: Array  # (N, 4) of the detection that is surely the track's
    innovation_covariance: Array  # (N, 4, 4)
    detection_error: Array  # (N, 4) that detection − true state
    noise: Array  # (N, 4, 4) covariance that the tracker takes for it

    def __len__(self) -> int:
        return len(self.track)

    def where(self, keep: Array) -> "TrackBeliefs":
        return TrackBeliefs(**{name: values[keep] for name, values in vars(self).items()})


class NormalisedErrors(msgspec.Struct, frozen=True, kw_only=True):
    """Squared normalised errors over their degrees of freedom; 1 is consistent."""

    n: int
    tracks: int
    mean: float | None
    error: float | None  # standard error over tracks, whose errors persist from frame to frame
    low: float | None  # bounds of the mean of n independent χ² values
    high: float | None
    median: float | None  # over the median of χ²
    beyond: float | None  # share beyond the 95 % quantile


class ComponentErrors(msgspec.Struct, frozen=True, kw_only=True):
    """One measured component: mean squares over variances, and how long errors persist."""

    nis: float | None
    nees: float | None
    detections: float | None  # detection − truth over the noise that the tracker takes
    detection_rms: float | None  # in the state's units: pixels, metres or nats
    lag_s: list[float]
    correlation: list[float | None]  # of detection − truth after `lag_s`
    innovation_correlation: float | None  # with the innovation of the frame before


class ExistenceBin(msgspec.Struct, frozen=True, kw_only=True):
    """Tracks of about the same probability of existence, and the share that is on a person."""

    low: float
    high: float
    n: int
    existence: float | None
    right: float | None


class UnseenTracks(msgspec.Struct, frozen=True, kw_only=True):
    """Tracks that have not been detected for `low_s` to `high_s` (None: or longer)."""

    low_s: float
    high_s: float | None
    edge: bool
    n: int
    existence: float | None
    right: float | None
    nees: NormalisedErrors


class TrackGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Tracks in one situation."""

    n: int
    nees: NormalisedErrors  # place and size
    velocity: NormalisedErrors
    calibration: list[ExistenceBin]
    calibration_error: float | None  # mean distance of the bins' shares, weighted by n


class Consistency(msgspec.Struct, frozen=True, kw_only=True):
    """NIS, NEES and the calibration of existence."""

    nis: NormalisedErrors
    groups: dict[str, TrackGroup]  # "all", "seen, inside", "unseen, at the edge", …
    components: dict[str, ComponentErrors]
    unseen: list[UnseenTracks]


def blank(n: int) -> TrackBeliefs:
    """Return N rows of which nothing is known."""
    numbers = {"track": np.int64, "frame": np.int64, "edge": np.bool_}
    sides = {"error": (6,), "covariance": (6, 6), "innovation": (4,), "detection_error": (4,)}
    sides |= {"innovation_covariance": (4, 4), "noise": (4, 4)}
    names = [field.name for field in fields(TrackBeliefs)]
    return TrackBeliefs(
        **{
            name: np.zeros(n, numbers[name])
            if name in numbers
            else np.full((n, *sides.get(name, ())), np.nan)
            for name in names
        }
    )


def concatenated(parts: Iterable[TrackBeliefs], *, apart: bool = True) -> TrackBeliefs:
    """Return all rows. apart: the parts are of several sequences, whose tracks are others."""
    parts = [blank(0), *parts]
    first = np.cumsum([0, *(part.track.max(initial=0) + 1 for part in parts[:-1])]) * apart
    columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(TrackBeliefs)}
    columns["track"] = [part.track + start for part, start in zip(parts, first, strict=True)]
    return TrackBeliefs(**{name: np.concatenate(values) for name, values in columns.items()})


def consistency(beliefs: TrackBeliefs) -> Consistency:
    """Compare errors with the covariances, and shares with the probabilities."""
    seen, edge = beliefs.unseen_s == 0, beliefs.edge
    places = {
        "all": np.ones(len(beliefs), dtype=bool),
        "seen, inside": seen & ~edge,
        "seen, at the edge": seen & edge,
        "unseen, inside": ~seen & ~edge,
        "unseen, at the edge": ~seen & edge,
    }
    innovations = normalised(beliefs.innovation, beliefs.innovation_covariance)
    return Consistency(
        nis=normalised_errors(innovations, len(COMPONENTS), beliefs.track),
        groups={name: _group(beliefs.where(keep)) for name, keep in places.items()},
        components={name: _component(beliefs, i) for i, name in enumerate(COMPONENTS)},
        unseen=[
            _unseen(beliefs.where(~seen & (edge == at_edge)), low, high, at_edge)
            for at_edge in (False, True)
            for low, high in pairwise(UNSEEN_S)
        ],
    )


def normalised(error: Array, covariance: Array) -> Array:
    """Return eᵀC⁻¹e (N,) of errors (N, D) and covariances (N, D, D); NaN where one is unknown."""
    known = np.isfinite(error).all(axis=1) & np.isfinite(covariance).all(axis=(1, 2))
    found = np.full(len(error), np.nan)
    e, C = error[known], covariance[known]
    found[known] = (e * np.linalg.solve(C, e[:, :, None])[:, :, 0]).sum(axis=1)
    return found


def normalised_errors(distance2: Array, freedom: int, track: Array) -> NormalisedErrors:
    """Summarise squared normalised errors (N,), NaN left out, of `freedom` components."""
    known = np.isfinite(distance2)
    values, track = distance2[known], track[known]
    n, tracks = len(values), len(np.unique(track))
    if n == 0:
        return NormalisedErrors(
            n=0, tracks=0, mean=None, error=None, low=None, high=None, median=None, beyond=None
        )
    low, high = chi2.ppf([TAIL / 2, 1 - TAIL / 2], n * freedom) / (n * freedom)
    return NormalisedErrors(
        n=n,
        tracks=tracks,
        mean=float(values.mean()) / freedom,
        error=_clustered_error(values, track) / freedom if tracks > 1 else None,
        low=float(low),
        high=float(high),
        median=float(np.median(values) / chi2.median(freedom)),
        beyond=float((values > chi2.ppf(1 - TAIL, freedom)).mean()),
    )


def calibration(existence: Array, right: Array) -> list[ExistenceBin]:
    """Return the bins of probabilities (N,), with the share of tracks that are right (N,)."""
    number = np.clip(np.searchsorted(BINS, existence, side="right") - 1, 0, len(BINS) - 2)
    return [
        ExistenceBin(
            low=float(BINS[i]),
            high=float(BINS[i + 1]),
            n=int((number == i).sum()),
            existence=_mean(existence[number == i]),
            right=_mean(right[number == i]),
        )
        for i in range(len(BINS) - 1)
    ]


def correlation(values: Array, beliefs: TrackBeliefs, lag_s: float) -> float | None:
    """Return Σ v(t) v(t + lag) / Σ v² of values (N,), to the nearest whole frame but one at least.

    Not of deviations from a mean: a constant error is an error that persists. None where the lag is
    less than half a frame, or nothing is known.
    """
    before, after = _apart(beliefs, lag_s)
    both = np.isfinite(values[before]) & np.isfinite(values[after])
    a, b = values[before[both]], values[after[both]]
    power = float((a * a).sum() + (b * b).sum()) / 2
    return float(a @ b) / power if power > 0 else None


def _apart(beliefs: TrackBeliefs, lag_s: float) -> tuple[Array, Array]:
    """Return pairs of rows (K,), (K,) of one track that are `lag_s` apart; 0: the next frame."""
    if len(beliefs) == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    frames = np.maximum(np.round(lag_s / beliefs.frame_s), lag_s == 0).astype(np.int64)
    span = int(beliefs.frame.max() + frames.max()) + 1
    at = beliefs.track * span + beliefs.frame
    order = np.argsort(at)
    later = np.searchsorted(at[order], at + frames)
    later = order[np.minimum(later, len(at) - 1)]
    found = np.flatnonzero((at[later] == at + frames) & (frames > 0))
    return found, later[found]


def _group(beliefs: TrackBeliefs) -> TrackGroup:
    known = beliefs.where(np.isfinite(beliefs.right))
    bins = calibration(known.existence, known.right)
    apart = [one.n * abs(one.existence - one.right) for one in bins if one.n]  # type: ignore[operator]
    return TrackGroup(
        n=len(beliefs),
        nees=_nees(beliefs, PLACE),
        velocity=_nees(beliefs, VELOCITY),
        calibration=bins,
        calibration_error=sum(apart) / len(known) if len(known) else None,
    )


def _nees(beliefs: TrackBeliefs, of: list[int]) -> NormalisedErrors:
    covariance = beliefs.covariance[:, of][:, :, of]
    return normalised_errors(normalised(beliefs.error[:, of], covariance), len(of), beliefs.track)


def _unseen(beliefs: TrackBeliefs, low: float, high: float, edge: bool) -> UnseenTracks:
    own = beliefs.where((beliefs.unseen_s > low) & (beliefs.unseen_s <= high))
    known = np.isfinite(own.right)
    return UnseenTracks(
        low_s=low,
        high_s=high if np.isfinite(high) else None,
        edge=edge,
        n=len(own),
        existence=_mean(own.existence[known]),
        right=_mean(own.right[known]),
        nees=_nees(own, PLACE),
    )


def _component(beliefs: TrackBeliefs, i: int) -> ComponentErrors:
    def square(error: Array, covariance: Array) -> float | None:
        return _mean(error**2 / covariance)

    of = PLACE[i]
    white = beliefs.innovation[:, i] / np.sqrt(beliefs.innovation_covariance[:, i, i])
    error = beliefs.detection_error[:, i] / np.sqrt(beliefs.noise[:, i, i])
    rms = _mean(beliefs.detection_error[:, i] ** 2)
    return ComponentErrors(
        nis=_mean(white**2),
        nees=square(beliefs.error[:, of], beliefs.covariance[:, of, of]),
        detections=_mean(error**2),
        detection_rms=None if rms is None else float(np.sqrt(rms)),
        lag_s=list(LAGS_S),
        correlation=[correlation(error, beliefs, lag) for lag in LAGS_S],
        innovation_correlation=correlation(white, beliefs, 0.0),
    )


def _mean(values: Array) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _clustered_error(values: Array, track: Array) -> float:
    """Return the standard error of a mean of values (N,) that belong together by track."""
    _, own = np.unique(track, return_inverse=True)
    sums = np.bincount(own, values - values.mean())
    k = len(sums)
    return float(np.sqrt(k / (k - 1) * (sums**2).sum()) / len(values))
