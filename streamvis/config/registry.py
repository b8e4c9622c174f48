"""The kinds of stages: their settings, and the parts that they read and write.

Each kind is a struct; `Run`, their tagged union, is the registry by which pipeline files are read.
The comment beside or below a setting is its description in docs/settings.md.
"""

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,64}$")]
Polygon = Annotated[list[tuple[Share, Share]], Meta(min_length=3)]  # corners [x, y] in order


class MaskRcnn(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="mask_rcnn"
):
    """Detect people with Mask R-CNN in the whole frame, in tiles of it, or in a region of it."""

    weights: str = "person-lite"  # name of shipped weights, or path to a .safetensors or .pth file
    min_score: Share = 0.1  # detections with a lower score are discarded; the tracker needs weak
    # ones to continue tracks, so that a high value loses people
    short_side: Annotated[int, Meta(ge=64, le=2160)] | None = (
        None  # px; the frame's shorter side is
    )
    # scaled to this before detection; none: as the weights were trained
    masks: bool = True  # predict a segmentation mask for each detection
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # arithmetic of the network; auto: bf16
    # where the hardware supports it
    engine: Literal["auto", "torch", "openvino"] = "auto"  # inference engine; auto: OpenVINO on a
    # CPU when it is installed, else torch
    tiles: Literal["auto"] | Annotated[int, Meta(ge=1, le=4)] = 1  # n > 1: detect in n × n
    # overlapping tiles at finer scale as well, at 1 + n² times the cost; auto: 2 from 1080 lines up
    region: list[Polygon] = []  # keep only detections whose foot point lies in one of these
    # polygons; corners are shares of the frame's width and height, from the upper left corner;
    # empty: the whole frame
    min_height: Annotated[float, Meta(ge=0)] = (
        0.0  # px of the source frame; detections whose box is
    )
    # lower are discarded

    reads: ClassVar[frozenset[str]] = frozenset()  # parts that the stage requires
    may_read: ClassVar[frozenset[str]] = frozenset()  # parts that it uses where they are written
    writes: ClassVar[str] = "detections"
    stateful: ClassVar[bool] = False
    torch: ClassVar[bool] = True  # runs a network: gets a worker of its own by default

    def __post_init__(self) -> None:
        for polygon in self.region:
            if abs(_twice_area(polygon)) < 1e-9:
                raise ValueError(
                    f"the polygon {[list(corner) for corner in polygon]} in `region` encloses no "
                    "area; list its corners in order, as you would walk around it"
                )


class Appearance(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="appearance"
):
    """Compute appearance embeddings of detected people, for re-identification."""

    weights: str = "person-r18"  # name of shipped weights, or path to a .safetensors or .pth file
    min_score: Share = 0.3  # detections with a lower score get no embedding
    masks: bool = False  # blank the pixels that the detector's mask assigns to the background
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # arithmetic of the network; auto: bf16
    # where the hardware supports it
    engine: Literal["auto", "torch", "openvino"] = "auto"  # inference engine; auto: OpenVINO on a
    # CPU when it is installed, else torch

    reads: ClassVar[frozenset[str]] = frozenset({"detections"})
    may_read: ClassVar[frozenset[str]] = frozenset()
    writes: ClassVar[str] = "embeddings"
    stateful: ClassVar[bool] = False
    torch: ClassVar[bool] = True


class CameraMotion(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="camera_motion"
):
    """Estimate the camera's motion from sparse features of the background. It has no settings."""

    reads: ClassVar[frozenset[str]] = frozenset()
    may_read: ClassVar[frozenset[str]] = frozenset()
    writes: ClassVar[str] = "motion"
    stateful: ClassVar[bool] = True
    torch: ClassVar[bool] = False


class Jipda(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="jipda"):
    """Track people by joint integrated probabilistic data association (JIPDA)."""

    mode: Literal["auto", "jipda", "jipda_embed", "gnn_embed"] = "auto"  # association by motion
    # (jipda), by motion and appearance (jipda_embed), or by global nearest neighbour on appearance
    # (gnn_embed); auto: jipda_embed where a stage above writes embeddings, else jipda
    camera: Literal["auto", "fixed", "moving"] = "auto"  # moving: compensate camera motion; auto:
    # where a stage above estimates it
    space: Literal["auto", "image", "ground"] = "auto"  # coordinates of the track state, pixels or
    # metres on the ground; auto: ground where the source has a ground plane
    birth_score: Share = 0.7  # detections with a lower score can continue a track but not start one
    p_detect: Annotated[float, Meta(gt=0, lt=1)] = 0.9  # probability that a visible person is
    # detected in a frame
    memory_s: Annotated[float, Meta(gt=0, le=60)] = 2.0  # a track without detections is predicted
    # for at most this long
    remember_s: Annotated[float, Meta(ge=0, le=3600)] = 60.0  # a person can be re-identified by
    # appearance for this long after the track was lost
    reentry: bool = False  # also re-identify people who left through the frame's edge; false: they
    # get a new id
    clutter: Annotated[float, Meta(gt=0)] | None = None  # per px² and frame; density of false
    # detections; none: estimated while running

    reads: ClassVar[frozenset[str]] = frozenset({"detections"})
    may_read: ClassVar[frozenset[str]] = frozenset({"embeddings", "motion"})
    writes: ClassVar[str] = "tracks"
    stateful: ClassVar[bool] = True
    torch: ClassVar[bool] = False


class OffActions(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="off"
):
    """Recognise actions of tracked people or of the whole frame by optical-flow-guided features.

    The weights determine the distance between sampled frames. Frames in between cost nothing.
    """

    weights: str = "fight-off"  # name of shipped weights, or path to a .safetensors file
    scope: Literal["frame", "people", "both"] = "people"  # classify each tracked person, the whole
    # frame, or both
    begin: Share = 0.7  # an action begins once its probability has been at least this for `min_s`
    end: Share = 0.5  # an action ends once its probability has been below this for `min_s`; must
    # not exceed `begin`
    min_s: Annotated[float, Meta(ge=0, le=60)] = 0.5  # how long a probability must stay above
    # `begin` or below `end` before an event is published
    ignore: tuple[str, ...] = ("normal",)  # actions that cause no events
    people: Annotated[int, Meta(ge=1, le=256)] = 16  # largest number of people classified in one
    # frame; the tallest are taken
    min_height: Annotated[float, Meta(ge=8)] = 48.0  # px of the source frame; people whose box is
    # lower are not classified
    context: Annotated[float, Meta(ge=1, le=10)] = 4.0  # side of the square crop around a person,
    # as a multiple of the person's height; wide by default, since a fight involves two people and
    # the shipped weights were trained on whole frames
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # arithmetic of the network; auto: bf16
    # where the hardware supports it
    engine: Literal["auto", "torch", "openvino"] = "auto"  # inference engine; auto: OpenVINO on a
    # CPU when it is installed, else torch

    reads: ClassVar[frozenset[str]] = frozenset()
    may_read: ClassVar[frozenset[str]] = frozenset({"tracks"})
    writes: ClassVar[str] = "actions"
    stateful: ClassVar[bool] = True
    torch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.end > self.begin:
            raise ValueError(
                f"`end` is {self.end:g}, above `begin`, {self.begin:g}: an action would be over "
                "before it began; make `end` the smaller"
            )


class Segment(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="segment"
):
    """Assign a class to every pixel and, with suitable weights, find out-of-distribution pixels."""

    weights: str = "street-seg"  # name of shipped weights, or path to a .safetensors file
    lines: Annotated[int, Meta(ge=64, le=2160)] | None = None  # px; the frame is scaled to this
    # height before segmentation; none: as the weights were trained
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # arithmetic of the network; auto: bf16
    # where the hardware supports it
    engine: Literal["auto", "torch", "openvino"] = "auto"  # inference engine; auto: OpenVINO on a
    # CPU when it is installed, else torch

    reads: ClassVar[frozenset[str]] = frozenset()
    may_read: ClassVar[frozenset[str]] = frozenset()
    writes: ClassVar[str] = "segmentation"
    stateful: ClassVar[bool] = False
    torch: ClassVar[bool] = True


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
        area = abs(_twice_area(self.polygon)) / 2
        if area < self.min_area:
            raise ValueError(
                f"zone '{self.name}' encloses {area:.2g} of the picture, less than its `min_area`, "
                f"{self.min_area:g}; make that smaller, or list the corners of `polygon` in order, "
                "as you would walk around it"
            )


class Forecaster(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="forecast"
):
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

    reads: ClassVar[frozenset[str]] = frozenset({"segmentation"})
    may_read: ClassVar[frozenset[str]] = frozenset()
    writes: ClassVar[str] = "forecast"
    stateful: ClassVar[bool] = True
    torch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        names = [zone.name for zone in self.zones]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two zones are called '{name}'")


class Alarm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The condition for `unknown.begin`, which reports an out-of-distribution object."""

    p: Annotated[float, Meta(gt=0, le=1)] = 0.5  # probability from which a pixel counts as
    # out-of-distribution
    area: Annotated[float, Meta(gt=0, le=1)] = 0.002  # share of the frame that connected pixels of
    # this kind must cover; the object has ended once they cover less than half of it
    min_s: Annotated[float, Meta(ge=0, le=60)] = 0.5  # how long they must cover it before the event
    # is published


class Publish(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="publish"
):
    """Write events to the log, then publish them on the feed."""

    bind: str | None = "tcp://127.0.0.1:5560"  # ZeroMQ address of the feed; none: event log only
    update_every_s: Annotated[float, Meta(ge=0)] = 0.0  # shortest interval between two updates of
    # the same track, action, scene or forecast; 0: one for every frame
    unknown: Alarm = Alarm()  # when an out-of-distribution object is reported; needs weights that
    # find them, such as street-outlier
    attach: tuple[Literal["masks"], ...] = ()  # data sent with the events on the feed, not to the
    # log; masks: the label map as PNG

    reads: ClassVar[frozenset[str]] = frozenset()  # at least one below: see `missing_input`
    may_read: ClassVar[frozenset[str]] = frozenset(
        {"tracks", "actions", "segmentation", "forecast"}
    )
    writes: ClassVar[str] = "receipt"
    stateful: ClassVar[bool] = True
    torch: ClassVar[bool] = False


class Record(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="record"
):
    """Write the annotated video."""

    trail_s: Annotated[float, Meta(ge=0)] = 3.0  # length of the trails behind people; 0: no trails
    masks: bool = True  # draw segmentation masks of people
    horizon_s: Annotated[float, Meta(ge=0)] | None = None  # show the forecast whose horizon is
    # nearest to this; none: the farthest
    crf: Annotated[int, Meta(ge=0, le=51)] = 23  # constant rate factor of H.264: lower means better
    # quality and larger files

    reads: ClassVar[frozenset[str]] = frozenset()  # at least one below: see `missing_input`
    may_read: ClassVar[frozenset[str]] = frozenset(
        {"detections", "tracks", "actions", "segmentation", "forecast"}
    )
    writes: ClassVar[str] = "receipt"
    stateful: ClassVar[bool] = True
    torch: ClassVar[bool] = False


Run = (
    MaskRcnn
    | Appearance
    | CameraMotion
    | Jipda
    | OffActions
    | Segment
    | Forecaster
    | Publish
    | Record
)


def _twice_area(polygon: list[tuple[float, float]]) -> float:
    """Return twice the signed area, by the shoelace formula."""
    following = [*polygon[1:], polygon[0]]
    return sum(x * v - u * y for (x, y), (u, v) in zip(polygon, following, strict=True))
