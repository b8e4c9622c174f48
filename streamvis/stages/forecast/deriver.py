"""Derive the events of forecasts. Pure.

Forecasts are sampled. A published forecast is scored when its target time is reached, an
unpublished one is not.
"""

import msgspec

from streamvis.events.deriver import Draft, FrameEvents, PublishPolicy, rounded
from streamvis.events.envelope import EventBody, Reason
from streamvis.events.mask_attachments import mask_attachment
from streamvis.messages import (
    Findings,
    Forecast,
    ForecastScore,
    Frame,
    HorizonForecast,
    MeanForecastScore,
    Packet,
    SourceInfo,
    class_shares,
)
from streamvis.stages.forecast.events import (
    ForecastScored,
    ForecastSegmentation,
    Outlook,
    Score,
    ZoneForecast,
)

LATE_US = 1_000_000  # after twice its horizon and this, a pending score is dropped


class PublishedForecasts(msgspec.Struct):
    """The forecasts of one horizon that were published and not scored yet."""

    published_us: int
    awaited: list[int] = []  # media times of the frames that they were made from


class ForecastEventState(msgspec.Struct):
    """The state of one source's forecast events."""

    horizons: dict[int, PublishedForecasts] = {}  # by horizon, µs
    scores: dict[int, tuple[int, float]] | None = None  # horizon µs -> how many, sum of mIoU;
    # None: no frame had a forecast


class ForecastDeriver:
    """Derives the events of one source's forecasts."""

    def __init__(self, source: SourceInfo, policy: PublishPolicy, state: bytes | None) -> None:
        self.policy = policy
        self._state = (
            ForecastEventState()
            if state is None
            else msgspec.msgpack.decode(state, type=ForecastEventState)
        )

    def derive(self, packet: Packet) -> FrameEvents:
        """Return scores of earlier forecasts, then the new forecasts that are due."""
        forecast = packet.part(Forecast)
        if forecast is None:
            return FrameEvents()
        if self._state.scores is None:
            self._state.scores = {}
        drafts = [Draft(what) for score in forecast.scores for what in self._scored(score)]
        drafts += [
            self._published(packet.frame, forecast, one)
            for one in forecast.horizons
            if self._is_due(packet.frame, one)
        ]
        return FrameEvents(drafts=drafts)

    def close(self, reason: Reason) -> list[EventBody]:
        """Nothing is open; in a new stream epoch, no score is awaited."""
        if reason == "epoch":
            self._state.horizons = {}
        return []

    def findings(self, so_far: Findings) -> Findings:
        """Return the findings with the mean score of each horizon."""
        if self._state.scores is None:
            return so_far
        means = {
            horizon_us: MeanForecastScore(count=count, miou=round(total / count, 4))
            for horizon_us, (count, total) in sorted(self._state.scores.items())
        }
        return msgspec.structs.replace(so_far, forecasts=means)

    def state(self) -> bytes:
        """Return the awaited scores, and the sums of those that came."""
        return msgspec.msgpack.encode(self._state)

    def _is_due(self, frame: Frame, forecast: HorizonForecast) -> bool:
        last = self._state.horizons.get(forecast.horizon_us)
        return last is None or frame.media_us - last.published_us >= self.policy.every_us

    def _published(self, frame: Frame, forecast: Forecast, one: HorizonForecast) -> Draft:
        last = self._state.horizons.get(one.horizon_us)
        oldest_us = frame.media_us - 2 * one.horizon_us - LATE_US
        awaited = [made_us for made_us in last.awaited if made_us > oldest_us] if last else []
        self._state.horizons[one.horizon_us] = PublishedForecasts(
            frame.media_us, [*awaited, frame.media_us]
        )
        mask, attachments = mask_attachment(forecast.labels, one.classes, self.policy)
        outlook = Outlook(
            horizon_us=one.horizon_us,
            target_us=frame.media_us + one.horizon_us,
            classes=class_shares(forecast.labels, one.classes),
            zones=tuple(ZoneForecast(zone=z.zone, p=rounded(z.p, 4)) for z in one.zones),
            warm=forecast.warm,
            mask=mask,
        )
        return Draft(ForecastSegmentation(outlook), attachments)

    def _scored(self, score: ForecastScore) -> list[EventBody]:
        horizon = self._state.horizons.get(score.horizon_us)
        if horizon is None or score.made_us not in horizon.awaited:
            return []
        horizon.awaited = [made_us for made_us in horizon.awaited if made_us > score.made_us]
        published = Score(
            made_us=score.made_us,
            horizon_us=score.horizon_us,
            miou=rounded(score.miou, 4),
            accuracy=rounded(score.accuracy, 4),
        )
        scores = self._state.scores = self._state.scores or {}
        count, total = scores.get(score.horizon_us, (0, 0.0))
        scores[score.horizon_us] = (count + 1, total + published.miou)
        return [ForecastScored(published)]
