"""The settings that the library's classes take as keywords, for type checkers and editors.

They are those of the kinds of stages, with their defaults: docs/settings.md describes them.
"""

from collections.abc import Sequence
from typing import Literal, TypedDict

Polygon = Sequence[tuple[float, float]]  # corners, shares of width and height


class NetworkSettings(TypedDict, total=False):
    """Settings of all classes with a network but the detector, which has int8 too."""

    precision: Literal["auto", "fp32", "bf16"]
    engine: Literal["auto", "torch", "openvino"]


class DetectorSettings(TypedDict, total=False):
    """Settings of `mask_rcnn`."""

    precision: Literal["auto", "fp32", "bf16", "int8"]
    engine: Literal["auto", "torch", "openvino"]
    min_score: float
    speed: Literal["fast", "balanced", "accurate"]
    short_side: Literal["auto"] | int | None
    masks: Literal["auto"] | bool
    tiles: Literal["auto"] | int
    region: Sequence[Polygon]
    min_height: float


class EmbedderSettings(NetworkSettings, total=False):
    """Settings of `appearance`."""

    min_score: float
    masks: bool


class SegmenterSettings(NetworkSettings, total=False):
    """Settings of `segment`."""

    lines: int | None


class ActionSettings(NetworkSettings, total=False):
    """Settings of `off`."""

    scope: Literal["frame", "people", "both"]
    begin: float
    end: float
    min_s: float
    ignore: Sequence[str]
    people: int
    min_height: float
    context: float


class PoseSettings(NetworkSettings, total=False):
    """Settings of `pose`."""

    interval_s: float
    people: int
    min_height: float
    min_score: float


class TrackerSettings(TypedDict, total=False):
    """Settings of `jipda`."""

    mode: Literal["auto", "jipda", "jipda_embed", "gnn_embed"]
    camera: Literal["auto", "fixed", "moving"]
    space: Literal["auto", "image", "ground"]
    birth_score: float
    p_detect: float
    memory_s: float
    remember_s: float
    refresh_s: float
    reentry: bool
    clutter: float | None
