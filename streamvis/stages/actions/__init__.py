"""Recognition of actions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from streamvis.events.deriver import Deriver, PublishPolicy
from streamvis.events.family import EventTypes
from streamvis.fields import Share
from streamvis.messages import Actions, Part, SourceInfo, Tracks
from streamvis.stages.protocol import Parts, Site, Stage, StageConfig

if TYPE_CHECKING:
    from streamvis.stages.overlay import Drawing, Overlay


class OffActions(StageConfig, frozen=True, tag="off"):
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
    # as a multiple of the person's height, within the frame; wide by default, since a fight
    # involves two people. The shipped weights were trained on such crops and on whole frames
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # arithmetic of the network; auto: bf16
    # where the hardware supports it
    engine: Literal["auto", "torch", "openvino"] = "auto"  # inference engine; auto: OpenVINO on a
    # CPU when it is installed, else torch

    may_read: ClassVar[Parts] = frozenset({Tracks})
    writes: ClassVar[type[Part]] = Actions
    stateful: ClassVar[bool] = True
    torch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.end > self.begin:
            raise ValueError(
                f"`end` is {self.end:g}, above `begin`, {self.begin:g}: an action would be over "
                "before it began; make `end` the smaller"
            )

    def missing(self, above: Sequence[StageConfig]) -> str | None:
        if self.scope == "frame" or any(one.writes is Tracks for one in above):
            return None
        return (
            f"has scope {self.scope}, but no stage above it tracks people; add "
            "{name: detect, run: {kind: mask_rcnn}} and "
            "{name: track, after: [detect], run: {kind: jipda}}, and name track in its "
            "`after`; or set its scope to frame"
        )

    def build(self, site: Site) -> Stage:
        from streamvis.stages.actions.stage import ActStage

        return ActStage(self, site)

    def overlay(self, drawing: "Drawing") -> "Overlay":
        from streamvis.stages.actions.overlay import ActionOverlay

        return ActionOverlay()

    @classmethod
    def event_types(cls) -> EventTypes:
        from streamvis.stages.actions.events import ACTION_EVENTS

        return ACTION_EVENTS

    def deriver(self, source: SourceInfo, policy: PublishPolicy, state: bytes | None) -> Deriver:
        from streamvis.stages.actions.deriver import ActionDeriver

        return ActionDeriver(source, policy, state)
