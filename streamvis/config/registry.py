"""What the stages of a pipeline can be: their settings, what they read and write.

Each kind is a struct; `Run`, the union of them, is the registry that files are read by.
"""

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,64}$")]
Polygon = Annotated[list[tuple[Share, Share]], Meta(min_length=3)]  # its corners in order


class MaskRcnn(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="mask_rcnn"
):
    """Find people with Mask R-CNN: in the whole frame, in finer tiles of it, or in a region."""

    weights: str = "person-lite"  # a shipped name, or a path to .safetensors or .pth
    min_score: Share = 0.1  # weak ones sustain tracks; the tracker weighs them by score
    short_side: Annotated[int, Meta(ge=64, le=2160)] | None = None  # px; None: as trained
    masks: bool = True
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where the hardware has it
    engine: Literal["auto", "torch", "openvino"] = "auto"  # auto: openvino on a CPU if installed
    tiles: Literal["auto"] | Annotated[int, Meta(ge=1, le=4)] = 1
    # n > 1: look at n × n finer tiles too, for 1 + n² times the work; auto: 2 from 1080p up
    region: list[Polygon] = []  # only people with their feet in one of these; [x, y] are shares
    # of the frame's width and height, from the upper left; empty: everywhere
    min_height: Annotated[float, Meta(ge=0)] = 0.0  # px of the source frame

    reads: ClassVar[frozenset[str]] = frozenset()  # nothing runs without these
    may_read: ClassVar[frozenset[str]] = frozenset()  # taken too where a stage above writes them
    writes: ClassVar[str] = "detections"
    stateful: ClassVar[bool] = False
    torch: ClassVar[bool] = True  # worth a worker of its own

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
    """Say what detected people look like, as vectors that are close for the same person."""

    weights: str = "person-r18"  # a shipped name, or a path to .safetensors or .pth
    min_score: Share = 0.3  # weaker detections are not looked at
    masks: bool = False  # blank what the detector's masks say is not the person
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    engine: Literal["auto", "torch", "openvino"] = "auto"

    reads: ClassVar[frozenset[str]] = frozenset({"detections"})
    may_read: ClassVar[frozenset[str]] = frozenset()
    writes: ClassVar[str] = "embeddings"
    stateful: ClassVar[bool] = False
    torch: ClassVar[bool] = True


class CameraMotion(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="camera_motion"
):
    """Measure how the camera moves, from sparse features of the background."""

    reads: ClassVar[frozenset[str]] = frozenset()
    may_read: ClassVar[frozenset[str]] = frozenset()
    writes: ClassVar[str] = "motion"
    stateful: ClassVar[bool] = True
    torch: ClassVar[bool] = False


class Jipda(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="jipda"):
    """Follow people by joint integrated probabilistic data association."""

    mode: Literal["auto", "jipda", "jipda_embed", "gnn_embed"] = "auto"
    # what tells whose detection is whose: kinematics, with looks, or looks alone; auto: with looks
    # where a stage above says what people look like
    camera: Literal["auto", "fixed", "moving"] = "auto"  # auto: as a stage above has measured
    space: Literal["auto", "image", "ground"] = "auto"  # auto: ground where a homography is known
    birth_score: Share = 0.7  # weaker detections may sustain a track but not start one
    p_detect: Annotated[float, Meta(gt=0, lt=1)] = 0.9  # that a person in plain view is detected
    memory_s: Annotated[float, Meta(gt=0, le=60)] = 2.0  # how long an unseen person is looked for
    remember_s: Annotated[float, Meta(ge=0, le=3600)] = 60.0  # and is known again by looks
    reentry: bool = False  # also who has left the picture; False: gets a new id
    clutter: Annotated[float, Meta(gt=0)] | None = None  # false detections per px²; None: estimate

    reads: ClassVar[frozenset[str]] = frozenset({"detections"})
    may_read: ClassVar[frozenset[str]] = frozenset({"embeddings", "motion"})
    writes: ClassVar[str] = "tracks"
    stateful: ClassVar[bool] = True
    torch: ClassVar[bool] = False


class OffActions(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="off"
):
    """Name what people do, or what goes on in the whole frame, from how features move.

    How far apart in time it looks is the weights' to say. Frames between cost nothing.
    """

    weights: str = "fight-off"  # a shipped name, or a path to .safetensors
    scope: Literal["frame", "people", "both"] = "people"
    begin: Share = 0.7  # an action is told once its probability has been this or more …
    end: Share = 0.5  # and is over once it has been less than this …
    min_s: Annotated[float, Meta(ge=0, le=60)] = 0.5  # … for so long
    ignore: tuple[str, ...] = ("normal",)  # actions that are no news
    people: Annotated[int, Meta(ge=1, le=256)] = 16  # looked at in one frame: the tallest
    min_height: Annotated[float, Meta(ge=8)] = 48.0  # px of the source frame
    context: Annotated[float, Meta(ge=1, le=10)] = 4.0  # side of what is seen of a person, in
    # heights: it takes two to fight, and the shipped weights have learnt from whole pictures
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    engine: Literal["auto", "torch", "openvino"] = "auto"

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
    """Say what every pixel of the scene is and, where the weights can, what is none of it."""

    weights: str = "street-seg"  # a shipped name, or a path to .safetensors
    lines: Annotated[int, Meta(ge=64, le=2160)] | None = None  # px; None: as trained
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    engine: Literal["auto", "torch", "openvino"] = "auto"

    reads: ClassVar[frozenset[str]] = frozenset()
    may_read: ClassVar[frozenset[str]] = frozenset()
    writes: ClassVar[str] = "segmentation"
    stateful: ClassVar[bool] = False
    torch: ClassVar[bool] = True


class Zone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place of the picture, and what it may come to hold."""

    name: Name
    polygon: Polygon
    holds: Annotated[tuple[str, ...], Meta(min_length=1)] = ("pedestrian", "bicyclist")
    min_area: Annotated[float, Meta(gt=0, le=1)] = 0.0005  # share of the picture, to count

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
    """Say what the scene will be, from what the segmenter in the same worker sees of it."""

    weights: Annotated[tuple[str, ...], Meta(min_length=1)] = (
        "street-forecast-0.2",
        "street-forecast-0.6",
    )
    zones: tuple[Zone, ...] = ()
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    engine: Literal["auto", "torch", "openvino"] = "auto"

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
    """When something in the picture that belongs to no class is news."""

    p: Annotated[float, Meta(gt=0, le=1)] = 0.5  # pixels that are so probably unknown …
    area: Annotated[float, Meta(gt=0, le=1)] = 0.002  # … are connected over this share of it …
    min_s: Annotated[float, Meta(ge=0, le=60)] = 0.5  # … for so long; over once less than half is


class Publish(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="publish"
):
    """Write the event log, then publish the feed."""

    bind: str | None = "tcp://127.0.0.1:5560"  # None: log only
    update_every_s: Annotated[float, Meta(ge=0)] = (
        0.0  # at most one update of a track, an action, a scene or a forecast in this time
    )
    unknown: Alarm = Alarm()  # where the segmenter's weights can tell
    attach: tuple[Literal["masks"], ...] = ()  # beside the events, on the feed only

    reads: ClassVar[frozenset[str]] = frozenset()  # but one of those below: see `missing_input`
    may_read: ClassVar[frozenset[str]] = frozenset(
        {"tracks", "actions", "segmentation", "forecast"}
    )
    writes: ClassVar[str] = "receipt"
    stateful: ClassVar[bool] = True
    torch: ClassVar[bool] = False


class Record(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="record"
):
    """Write an annotated video."""

    trail_s: Annotated[float, Meta(ge=0)] = 3.0
    masks: bool = True
    horizon_s: Annotated[float, Meta(ge=0)] | None = None  # of the forecast that is shown: the
    # nearest to this that there is; None: the farthest
    crf: Annotated[int, Meta(ge=0, le=51)] = 23

    reads: ClassVar[frozenset[str]] = frozenset()  # but one of those below: see `missing_input`
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
    """Twice the signed area, by the shoelace formula."""
    following = [*polygon[1:], polygon[0]]
    return sum(x * v - u * y for (x, y), (u, v) in zip(polygon, following, strict=True))
