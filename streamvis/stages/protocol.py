"""What a kind of stage consists of: its settings, its stage, and what the worker gives to it.

    class Density(StageConfig, frozen=True, tag="density"):
        cell_px: int = 32
        reads: ClassVar[Parts] = frozenset({Tracks})
        writes: ClassVar[type[Part]] = DensityMap

        def build(self, site: Site) -> Stage: ...

Settings are loaded in every process and by `streamvis check`; so the module of a kind's settings
imports neither torch nor OpenCV, and its methods import what they return.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar, runtime_checkable

import msgspec

from streamvis.errors import ConfigError
from streamvis.events.deriver import Deriver, PublishPolicy
from streamvis.events.family import EventTypes
from streamvis.messages import (
    Array,
    Ending,
    Findings,
    Frame,
    Notice,
    Packet,
    Part,
    Receipt,
    SourceGauges,
    SourceInfo,
)

if TYPE_CHECKING:
    from streamvis.stages.overlay import Drawing, Overlay

Parts = frozenset[type[Part]]
F = TypeVar("F")


class Pixels(Protocol):
    """Returns a frame's pixels: (H, W, 3) uint8 RGB, a read-only view of the shared slot."""

    def __call__(self, frame: Frame) -> Array: ...


class Stage(Protocol):
    """A callable: packets in, one part out for each, in the same order.

    A class may inherit from it, or from `StatefulStage`, for methods that have nothing to do.
    """

    def __call__(self, packets: Sequence[Packet]) -> Iterable[Part]: ...

    def close(self) -> None:
        """Release the stage's resources, if any; called once, when its worker ends normally."""
        return


class StatefulStage(Stage, Protocol):
    """A stage that remembers each source; it sees a source's packets in `seq` order."""

    def begin(self, source: SourceInfo, state: bytes | None) -> None:
        """Start a source, or resume it from the last `state` of a predecessor."""

    def state(self, source: str) -> bytes:
        """Return the state from which a successor continues exactly after the last packet."""

    def notice(self, notice: Notice) -> None:
        """Handle a notice at its position in the order of the source's packets, if it matters."""
        return

    def finish(self, source: str, ending: Ending) -> Findings | None:
        """End a source after all of its packets were answered; return its findings.

        Only the publisher returns findings.
        """


@runtime_checkable
class ServingStage(Protocol):
    """A stage to which other programs connect."""

    def refused_clients(self) -> Mapping[str, int]:
        """Return, by reason, how many connections were refused since the stage was built."""


@runtime_checkable
class GaugedStage(Protocol):
    """A stage with numbers of each source that the metrics of the run show."""

    def take_gauges(self) -> dict[str, SourceGauges]:
        """Return the present numbers by source, the last ones of a source that has ended once."""


class LogPosition(msgspec.Struct, frozen=True, array_like=True):
    """The end of a source's event log when its run was resumed."""

    offset: int  # of the next event
    epoch: int  # stream epoch and seq of the last frame
    seq: int


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """The environment that a worker gives to a stage that it builds."""

    device: str  # cpu, cuda:0, …
    pixels: Pixels
    out: Path | None = None  # output directory; None: write nothing
    epoch: str = ""  # uuid7 of this run: the publisher's boot
    logged: Mapping[str, LogPosition] = {}  # by source, in a run that was resumed
    pipeline: str = ""  # hash of the pipeline's configuration
    above: "tuple[StageConfig, ...]" = ()  # settings of the stages whose parts this one gets
    lent: object = None  # what the stage named by `borrows` lends
    masks: bool = False  # whether a stage reads the masks of its detections

    def borrow(self, kind: type[F]) -> F:
        """Return what another stage of this worker lends; ConfigError when there is none."""
        if not isinstance(self.lent, kind):
            raise ConfigError(
                f"no stage of this worker lends {kind.__name__}, which never leave their worker; "
                "place the stage that lends them in the same worker: `stages: [segment, forecast]`"
            )
        return self.lent


class StageConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """The settings of one kind of stage: a frozen struct, tagged with the name of the kind.

    This base has no settings, only defaults for what a kind need not state.
    """

    reads: ClassVar[Parts] = frozenset()  # parts that the stage requires
    may_read: ClassVar[Parts] = frozenset()  # parts that it uses where they are written
    writes: ClassVar[type[Part]] = Receipt
    stateful: ClassVar[bool] = False  # remembers each source: see StatefulStage
    follows_status: ClassVar[bool] = False  # gets `begin` before its source was ever open, with a
    # SourceInfo of width 0; other stages get `begin` once it is open
    torch: ClassVar[bool] = False  # runs a network: gets a worker of its own by default
    lends: ClassVar[type | None] = None  # type of the attribute `lent` of the stage, which stages
    # in the same worker may use
    borrows: ClassVar[type | None] = None  # type of what one of the stages in `after` has to lend

    def build(self, site: Site) -> Stage:
        """Build the stage in the process that runs it; raises ModelError, DeviceError, …"""
        raise NotImplementedError(f"{type(self).__name__} has no `build`: it cannot run")

    def examine_files(self) -> str | None:
        """Describe files of the settings that were made elsewhere; None for a kind without any.

        Raises ModelError for a file that the stage could not use. `streamvis check` prints it.
        """
        return None

    def overlay(self, drawing: "Drawing") -> "Overlay | None":
        """Return the layer of the stage's part in the annotated video of one source, if it has one.

        A kind that has one overrides this, and imports it in the method: drawing needs OpenCV.
        """
        return None

    @classmethod
    def event_types(cls) -> EventTypes | None:
        """Return the event types of the kind; None when it has no events."""
        return None

    def deriver(self, source: SourceInfo, policy: PublishPolicy, state: bytes | None) -> Deriver:
        """Return what derives the events of a source; `state` is that of a predecessor.

        A kind with event types has one.
        """
        raise NotImplementedError(f"{type(self).__name__} has event types, but no `deriver`")

    def chosen(self, source: SourceInfo) -> dict[str, str]:
        """Return what settings that are `auto` come to for an open source, by name, in words.

        Only those whose value depends on the source and is not plain from its own settings.
        """
        return {}

    def uses(self, other: "StageConfig") -> bool:
        """Whether the stage gets the part of this other stage above it."""
        return other.writes in self.reads | self.may_read

    def keeps_state(self, live: bool) -> bool:
        """Whether the stage remembers each source in this run; `live`: one of them may be live.

        A kind whose settings decide overrides this. Frames of a source whose stage remembers it all
        go to one worker, in order.
        """
        return self.stateful

    @property
    def reads_masks(self) -> bool:
        """Whether the stage reads `Detections.masks` where it gets detections.

        A detector predicts masks only where a stage reads them.
        """
        return True

    @property
    def reads_pixels(self) -> bool:
        """Whether the stage reads the pixels of frames: it should be where they are decoded."""
        return True

    @property
    def reads_runs(self) -> bool:
        """Whether the stage reads where the stages above it ran and for how long: `Packet.ran`."""
        return False

    def missing(self, above: "Sequence[StageConfig]") -> str | None:
        """Describe what the settings require of the stages above and none gives, or None.

        The text follows "stage 'name'" in a sentence, and ends with what to add.
        """
        return None


def has_overlay(config: StageConfig) -> bool:
    """Whether the part of this stage is drawn in the annotated video."""
    return type(config).overlay is not StageConfig.overlay


def has_events(config: StageConfig) -> bool:
    """Whether the kind has event types; tells without importing them."""
    return type(config).event_types.__func__ is not StageConfig.event_types.__func__  # type: ignore[attr-defined]


def part_name(part: type[Part]) -> str:
    """Return the name of a part: its tag, such as `detections`."""
    return str(part.__struct_config__.tag)


def kind_name(kind: type[StageConfig]) -> str:
    """Return the name of a kind in pipeline files: its tag, such as `mask_rcnn`."""
    return str(kind.__struct_config__.tag)
