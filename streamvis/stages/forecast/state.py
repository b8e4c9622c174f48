"""The state of the forecast stage for one source: clock, past features, pending forecasts.

Samples are as far apart in media time as in training, whatever the frame rate. A forecast is kept,
compressed, until the frame of its target time arrives.
"""

import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from streamvis.evaluation.segmentation import Confusion
from streamvis.messages import Array, HorizonForecast, Score

STEP = 2  # px from one pixel that is compared to the next
NONE = 255  # no class
APART = 2.0  # sampling intervals: after a longer pause, past features are dropped


class PendingForecast(msgspec.Struct, array_like=True):
    """A forecast whose target time is not reached."""

    made_us: int
    horizon_us: int
    shape: tuple[int, int]
    packed: bytes  # every STEP-th pixel's class

    @classmethod
    def of(cls, made_us: int, future: HorizonForecast) -> "PendingForecast":
        some = np.ascontiguousarray(future.classes[::STEP, ::STEP])
        return cls(made_us, future.horizon_us, some.shape, zlib.compress(some.tobytes(), 1))

    @property
    def due_us(self) -> int:
        return self.made_us + self.horizon_us

    def classes(self) -> Array:
        """(h, w) uint8; ValueError when they are damaged."""
        most = self.shape[0] * self.shape[1]
        unpacking = zlib.decompressobj()
        try:
            data = unpacking.decompress(self.packed, most + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        return np.frombuffer(data, np.uint8).reshape(self.shape)


class SampleClock:
    """Chooses the frames to sample: for each due time, the frame nearest to it."""

    def __init__(self, every_us: int) -> None:
        self.every_us = every_us
        self.next_us: int | None = None  # None: at once
        self.last_us: int | None = None  # the frame before

    def early(self, media_us: int) -> int:
        """How much before the due time a frame may be: half the time since the previous one."""
        between = 0 if self.last_us is None else media_us - self.last_us
        return min(between, self.every_us) // 2

    def is_due(self, media_us: int) -> bool:
        """Whether to sample this frame; small delays do not shift the later due times."""
        early, self.last_us = self.early(media_us), media_us
        if self.next_us is None:
            self.next_us = media_us
        if media_us < self.next_us - early:
            return False
        behind = media_us - self.next_us > self.every_us // 2
        self.next_us = (media_us if behind else self.next_us) + self.every_us
        return True


class ForecastState:
    """One source: the past features of each forecaster, and the pending forecasts."""

    def __init__(self, every_us: int, lengths: Sequence[int]) -> None:
        self.every_us = every_us
        self.lengths = tuple(lengths)
        self.restart()

    def restart(self) -> None:
        """Start without features and forecasts; the next frame is sampled."""
        self.clock = SampleClock(self.every_us)
        self.pending: list[PendingForecast] = []
        self.forget()

    def resize(self, width: int, height: int) -> None:
        """Start without features and forecasts: those of another size do not fit."""
        self.restart()

    def forget(self) -> None:
        """Drop past features; pending forecasts stay."""
        self.rings: list[deque[Any]] = [deque(maxlen=most) for most in self.lengths]
        self.newest_us: int | None = None  # the last sample

    @property
    def warm(self) -> bool:
        return all(len(ring) == ring.maxlen for ring in self.rings)

    def score_due(self, media_us: int, classes: Array, labels: Sequence[str]) -> Iterator[Score]:
        """Score the forecasts due now against the segmentation; drop those overdue."""
        early = self.clock.early(media_us)
        due = sorted((t for t in self.pending if media_us >= t.due_us - early), key=_order)
        self.pending = [t for t in self.pending if media_us < t.due_us - early]
        for forecast in due:
            if media_us - forecast.due_us <= self.every_us // 2:
                yield _score(forecast, classes, labels)

    def last_features(self, media_us: int) -> list[Any]:
        """The last features of each forecaster, None without any or after a long pause."""
        if self.newest_us is not None and media_us - self.newest_us > APART * self.every_us:
            self.forget()
        self.newest_us = media_us
        return [ring[-1] if ring else None for ring in self.rings]

    def push(self, latest: Sequence[Any]) -> list[list[Any]]:
        """Append the features of each forecaster; return its inputs, oldest first.

        Until there are enough, the oldest is repeated.
        """
        for ring, features in zip(self.rings, latest, strict=True):
            ring.append(features)
        rings = zip(self.rings, self.lengths, strict=True)
        return [[ring[0]] * (most - len(ring)) + [*ring] for ring, most in rings]

    def state(self) -> bytes:
        """Encode clock and pending forecasts, without features: a successor is not warm at once."""
        at = (self.clock.next_us, self.clock.last_us)
        return _encoder.encode(_StoredForecasts(at, self.pending))

    def restore(self, state: bytes) -> None:
        """Continue from `state`; ValueError or DecodeError on anything else."""
        was = _decoder.decode(state)
        for forecast in was.pending:
            forecast.classes()
        self.clock.next_us, self.clock.last_us = was.at
        self.pending = was.pending


def _order(forecast: PendingForecast) -> tuple[int, int]:
    return forecast.horizon_us, forecast.made_us


def _score(forecast: PendingForecast, classes: Array, labels: Sequence[str]) -> Score:
    confusion = Confusion(labels, ignore=NONE)
    confusion.add(forecast.classes(), classes[::STEP, ::STEP])
    scores = confusion.scores()
    return Score(
        made_us=forecast.made_us,
        horizon_us=forecast.horizon_us,
        miou=scores.miou or 0.0,
        accuracy=scores.accuracy or 0.0,
    )


class _StoredForecasts(msgspec.Struct, array_like=True):
    at: tuple[int | None, int | None]  # media µs of the next sample and of the last frame
    pending: list[PendingForecast]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_StoredForecasts)
