"""The event types of forecasts, and how they are shown in `events tail` and in CSV."""

from typing import assert_never

import msgspec

from streamvis.events.envelope import Count, Mask
from streamvis.events.family import Cells, EventTypes, largest_shares, members, share_rows
from streamvis.messages import Score


class ZoneForecast(msgspec.Struct, frozen=True, kw_only=True):
    """The probability that a zone will hold one of its classes."""

    zone: str  # its name
    p: float  # probability that it will hold one of its classes


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """The forecast of a scene."""

    horizon_us: Count  # how far ahead
    target_us: int  # media time of the forecast
    classes: dict[str, float]  # share of the picture then, by class
    zones: tuple[ZoneForecast, ...] = ()  # those of the forecast stage
    warm: bool = True  # false: from fewer frames than the network was trained with
    mask: Mask | None = None  # the class of every pixel, where masks are attached


class ForecastSegmentation(
    msgspec.Struct, frozen=True, tag_field="type", tag="forecast.segmentation"
):
    """A forecast of one horizon, at most once in `publish.update_every_s`."""

    forecast: Outlook  # what is forecast


class ForecastScored(msgspec.Struct, frozen=True, tag_field="type", tag="forecast.scored"):
    """A published forecast is compared with the segmentation of the frame that came."""

    forecast: Score  # how well it fits


ForecastBody = ForecastSegmentation | ForecastScored


def line(what: ForecastBody) -> str:
    """Return the line of `events tail`, after the type."""
    match what:
        case ForecastSegmentation(forecast):
            zones = "".join(f"; {zone.zone} p={zone.p:.2f}" for zone in forecast.zones)
            return f"in {forecast.horizon_us / 1e6:g} s: {largest_shares(forecast.classes)}{zones}"
        case ForecastScored(score):
            return f"made {score.horizon_us / 1e6:g} s ago: mIoU {score.miou:.2f}"
        case _:
            assert_never(what)


def csv_rows(what: ForecastBody) -> list[Cells]:
    """Return a row for each class and zone, or the row of a score."""
    match what:
        case ForecastSegmentation(forecast):
            zones: list[Cells] = [{"zone": zone.zone, "p": zone.p} for zone in forecast.zones]
            ahead: Cells = {"horizon_us": forecast.horizon_us}
            return [{**ahead, **row} for row in [*share_rows(forecast.classes), *zones]]
        case ForecastScored(score):
            return [members(score, "horizon_us", "made_us", "miou", "accuracy")]
        case _:
            assert_never(what)


FORECAST_EVENTS = EventTypes(
    (ForecastSegmentation, ForecastScored), line, csv_rows, identity=("horizon_us",)
)
