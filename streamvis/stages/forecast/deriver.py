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
    Frame,
    HorizonForecast,
    MeanForecastScore,
    Packet,
    Score,
    SourceInfo,
    class_shares,
)
from streamvis.stages.forecast.events import (
    ForecastScored,
    ForecastSegmentation,
    Outlook,
    ZoneForecast,
)

LATE_US = 1_000_000  # after twice its horizon and this, a pending score is dropped


class ForecastEventState(msgspec.Struct):
    """The state of one source's forecast events."""

    published_us: dict[int, int] = {}  # horizon µs -> when one was last published
    awaited: dict[int, list[int]] = {}  # horizon µs -> media times of the frames that published
    # forecasts without a score were made from
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
            self._state.published_us, self._state.awaited = {}, {}
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
        last_us = self._state.published_us.get(forecast.horizon_us)
        return last_us is None or frame.media_us - last_us >= self.policy.every_us

    def _published(self, frame: Frame, forecast: Forecast, one: HorizonForecast) -> Draft:
        oldest_us = frame.media_us - 2 * one.horizon_us - LATE_US
        awaited = self._state.awaited.get(one.horizon_us, [])
        kept = [made_us for made_us in awaited if made_us > oldest_us]
        self._state.awaited[one.horizon_us] = [*kept, frame.media_us]
        self._state.published_us[one.horizon_us] = frame.media_us
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

    def _scored(self, score: Score) -> list[EventBody]:
        awaited = self._state.awaited.get(score.horizon_us, [])
        if score.made_us not in awaited:
            return []
        self._state.awaited[score.horizon_us] = [made for made in awaited if made > score.made_us]
        published = msgspec.structs.replace(
            score, miou=rounded(score.miou, 4), accuracy=rounded(score.accuracy, 4)
        )
        scores = self._state.scores = self._state.scores or {}
        count, total = scores.get(score.horizon_us, (0, 0.0))
        scores[score.horizon_us] = (count + 1, total + published.miou)
        return [ForecastScored(published)]
