"""Derive scene, out-of-distribution and forecast events from the parts of a frame. Pure.

`scene.update` and forecasts are sampled. A published forecast is scored when its target time is
reached, an unpublished one is not. Out-of-distribution events use hysteresis in the area of the
largest region and in media time.
"""

from typing import TYPE_CHECKING, NamedTuple

import cv2
import msgspec
import numpy as np

from streamvis.events.mask_attachments import png
from streamvis.events.schema import (
    EndedSighting,
    ForecastScored,
    ForecastSegmentation,
    Mask,
    Outlook,
    Region,
    Scene,
    SceneBody,
    SceneUpdate,
    Score,
    Sighting,
    SightingReason,
    Unknown,
    UnknownBegin,
    UnknownEnd,
    ZoneForecast,
)
from streamvis.messages import Array, Forecast, ForecastScore, Frame, HorizonForecast, Segmentation

if TYPE_CHECKING:
    from streamvis.stages.publish import Alarm

END_SHARE = 0.5  # of the area at which an object begins: below this share of it, it ends
LATE_US = 1_000_000  # after twice its horizon and this, a pending score is dropped


class PublishPolicy(NamedTuple):
    """Which scene events are published: sampling interval, thresholds, masks."""

    every_us: int
    alarm: "Alarm"
    masks: bool = False


class BodyWithMask(NamedTuple):
    """An event body, and the attachments of its message."""

    what: SceneBody
    attachments: tuple[bytes, ...] = ()


class OpenUnknown(msgspec.Struct, rename={"begun": "told"}):
    """An out-of-distribution object that may begin, is open, or may end."""

    region: Region  # the last that was large enough
    since_us: int
    share_max: float
    begun: bool = False
    below_us: int | None = None  # since when it is too small


class PublishedForecasts(msgspec.Struct, rename={"published_us": "told_us"}):
    """The forecasts of one horizon that were published and not scored yet."""

    published_us: int
    awaited: list[int] = []  # media times of the frames that they were made from


class SceneState(msgspec.Struct, rename={"published_us": "told_us"}):
    """The state of one source's scene events, in one stream epoch."""

    published_us: int | None = None  # of the last `scene.update`
    sighting: OpenUnknown | None = None
    horizons: dict[int, PublishedForecasts] = {}  # by how far ahead, µs


def derive_segmentation_events(
    state: SceneState, frame: Frame, seen: Segmentation, policy: PublishPolicy
) -> list[BodyWithMask]:
    """Events of a frame's segmentation; updates `state`."""
    unknown = _unknown(frame, seen, policy.alarm.p)
    events: list[BodyWithMask] = []
    if unknown is not None:
        events += _unknown_events(state, unknown.largest, frame.media_us, policy.alarm)
    if state.published_us is None or frame.media_us - state.published_us >= policy.every_us:
        state.published_us = frame.media_us
        mask, attachments = _mask(seen.labels, seen.classes, policy)
        scene = Scene(classes=_shares(seen.labels, seen.classes), unknown=unknown, mask=mask)
        events.append(BodyWithMask(SceneUpdate(scene), attachments))
    return events


def derive_forecast_events(
    state: SceneState, frame: Frame, forecast: Forecast, policy: PublishPolicy
) -> list[BodyWithMask]:
    """Scores of earlier forecasts, then the new forecasts; updates `state`."""
    events = [BodyWithMask(what) for came in forecast.scores for what in _score_events(state, came)]
    for future in forecast.horizons:
        horizon = state.horizons.get(future.horizon_us)
        if horizon and frame.media_us - horizon.published_us < policy.every_us:
            continue
        latest_us = frame.media_us - 2 * future.horizon_us - LATE_US
        awaited = [made_us for made_us in horizon.awaited if made_us > latest_us] if horizon else []
        state.horizons[future.horizon_us] = PublishedForecasts(
            frame.media_us, [*awaited, frame.media_us]
        )
        mask, attachments = _mask(forecast.labels, future.classes, policy)
        outlook = _outlook(frame, forecast, future, mask)
        events.append(BodyWithMask(ForecastSegmentation(outlook), attachments))
    return events


def close_unknown(state: SceneState, reason: SightingReason) -> list[SceneBody]:
    """End the open out-of-distribution object, if there is one."""
    sighting, state.sighting = state.sighting, None
    return [_ended(sighting, reason)] if sighting and sighting.begun else []


def _unknown(frame: Frame, seen: Segmentation, p: float) -> Unknown | None:
    """The pixels whose probability is at least `p`; None with weights that do not detect them."""
    if not seen.unknown.size:
        return None
    height, width = seen.unknown.shape
    likely = (seen.unknown >= 255 * p).astype(np.uint8)
    share = _short(likely.mean(), 5)
    count, places, stats, _ = cv2.connectedComponentsWithStats(likely, connectivity=8)
    if count == 1:  # the rest of the picture, which is not a region
        return Unknown(share=share)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    x, y, w, h, area = stats[largest].tolist()
    sx, sy = frame.width / width, frame.height / height
    region = Region(
        share=_short(area / likely.size, 5),
        box_px=(
            *(round(x * sx, 2), round(y * sy, 2)),
            *(round((x + w) * sx, 2), round((y + h) * sy, 2)),
        ),
        p=_short(seen.unknown[places == largest].mean() / 255, 4),
    )
    return Unknown(share=share, largest=region)


def _unknown_events(
    state: SceneState, region: Region | None, media_us: int, rule: "Alarm"
) -> list[BodyWithMask]:
    share, min_us = region.share if region else 0.0, round(rule.min_s * 1e6)
    sighting = state.sighting
    if region and share >= rule.area and sighting is None:
        sighting = state.sighting = OpenUnknown(region, media_us, share)
    if sighting is None:
        return []
    if region and share >= END_SHARE * rule.area:
        sighting.region, sighting.share_max = region, max(share, sighting.share_max)
    if not sighting.begun:
        if share < rule.area:
            state.sighting = None
        elif media_us - sighting.since_us >= min_us:
            sighting.begun = True
            return [BodyWithMask(UnknownBegin(_sighting(sighting)))]
        return []
    if share >= END_SHARE * rule.area:
        sighting.below_us = None
    elif sighting.below_us is None:
        sighting.below_us = media_us
    if sighting.below_us is not None and media_us - sighting.below_us >= min_us:
        return [BodyWithMask(what) for what in close_unknown(state, "over")]
    return []


def _sighting(sighting: OpenUnknown) -> Sighting:
    region = sighting.region
    return Sighting(
        share=region.share, box_px=region.box_px, p=region.p, since_us=sighting.since_us
    )


def _ended(sighting: OpenUnknown, reason: SightingReason) -> UnknownEnd:
    region = sighting.region
    return UnknownEnd(
        EndedSighting(
            share=region.share,
            box_px=region.box_px,
            p=region.p,
            since_us=sighting.since_us,
            share_max=sighting.share_max,
            reason=reason,
        )
    )


def _score_events(state: SceneState, came: ForecastScore) -> list[SceneBody]:
    horizon = state.horizons.get(came.horizon_us)
    if horizon is None or came.made_us not in horizon.awaited:
        return []
    horizon.awaited = [made_us for made_us in horizon.awaited if made_us > came.made_us]
    return [
        ForecastScored(
            Score(
                made_us=came.made_us,
                horizon_us=came.horizon_us,
                miou=_short(came.miou, 4),
                accuracy=_short(came.accuracy, 4),
            )
        )
    ]


def _outlook(
    frame: Frame, forecast: Forecast, future: HorizonForecast, mask: Mask | None
) -> Outlook:
    return Outlook(
        horizon_us=future.horizon_us,
        target_us=frame.media_us + future.horizon_us,
        classes=_shares(forecast.labels, future.classes),
        zones=tuple(ZoneForecast(zone=one.zone, p=_short(one.p, 4)) for one in future.zones),
        warm=forecast.warm,
        mask=mask,
    )


def _shares(labels: tuple[str, ...], classes: Array) -> dict[str, float]:
    counts = np.bincount(classes.ravel(), minlength=len(labels))[: len(labels)]
    shares = (counts / max(classes.size, 1)).round(5).tolist()
    return dict(zip(labels, shares, strict=True))


def _mask(
    labels: tuple[str, ...], classes: Array, policy: PublishPolicy
) -> tuple[Mask | None, tuple[bytes, ...]]:
    data = png(classes) if policy.masks else None
    if data is None:
        return None, ()
    height, width = classes.shape
    return Mask(attachment=0, w=width, h=height, labels=labels), (data,)


def _short(value: float, digits: int) -> float:
    """Short in JSON, and always finite."""
    return round(float(np.nan_to_num(value)), digits)
