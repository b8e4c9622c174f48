"""Forecasts of the segmentation."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from streamvis.events.deriver import Deriver, PublishPolicy
from streamvis.events.family import EventTypes
from streamvis.fields import Name, Polygon, signed_area
from streamvis.messages import Forecast, Part, Segmentation, SourceInfo
from streamvis.stages.protocol import Parts, Site, Stage, StageConfig
from streamvis.stages.segment.features import SegmenterFeatures

if TYPE_CHECKING:
    from streamvis.stages.overlay import Drawing, Overlay


class Zone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A region of the frame for which the probability of being occupied is forecast."""

    name: Name  # name in events
    polygon: Polygon  # corners in order, as shares of the frame's width and height, from the upper
    # left corner
    holds: Annotated[tuple[str, ...], Meta(min_length=1)] = ("pedestrian", "bicyclist")  # classes
    # that occupy the zone
    min_area: Annotated[float, Meta(gt=0, le=1)] = 0.0005  # share of the frame that these classes
    # must cover inside the zone for it to count as occupied

    def __post_init__(self) -> None:
        area = abs(signed_area(self.polygon))
        if area < self.min_area:
            raise ValueError(
                f"zone '{self.name}' encloses {area:.2g} of the picture, less than its `min_area`, "
                f"{self.min_area:g}; make that smaller, or list the corners of `polygon` in order, "
                "as you would walk around it"
            )


class Forecaster(StageConfig, frozen=True, tag="forecast"):
    """Forecast the segmentation from the features of the segmenter in the same worker."""

    weights: Annotated[tuple[str, ...], Meta(min_length=1)] = (
        "street-forecast-0.2",
        "street-forecast-0.6",
    )  # names of shipped weights, or paths to .safetensors files: one for each forecast horizon
    zones: tuple[Zone, ...] = ()  # regions for which the probability of being occupied is forecast
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # arithmetic of the network; auto: bf16
    # where the hardware supports it
    engine: Literal["auto", "torch", "openvino"] = "auto"  # inference engine; auto: OpenVINO on a
    # CPU when it is installed, else torch

    reads: ClassVar[Parts] = frozenset({Segmentation})

    writes: ClassVar[type[Part]] = Forecast
    stateful: ClassVar[bool] = True
    torch: ClassVar[bool] = True
    borrows: ClassVar[type | None] = SegmenterFeatures

    def __post_init__(self) -> None:
        names = [zone.name for zone in self.zones]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two zones are called '{name}'")

    def build(self, site: Site) -> Stage:
        from streamvis.stages.forecast.stage import ForecastStage

        return ForecastStage(self, site)

    def overlay(self, drawing: "Drawing") -> "Overlay":
        from streamvis.stages.forecast.overlay import ForecastOverlay

        wanted_s = drawing.horizon_s
        return ForecastOverlay(None if wanted_s is None else round(wanted_s * 1e6))

    @classmethod
    def event_types(cls) -> EventTypes:
        from streamvis.stages.forecast.events import FORECAST_EVENTS

        return FORECAST_EVENTS

    def deriver(self, source: SourceInfo, policy: PublishPolicy, state: bytes | None) -> Deriver:
        from streamvis.stages.forecast.deriver import ForecastDeriver

        return ForecastDeriver(source, policy, state)
