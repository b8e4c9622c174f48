"""The kinds of stages: the built-in ones, and those of other installed packages.

A package announces a kind by an entry point of the group `streamvis.stages`, whose value is the
class of its settings (docs/stages.md).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple, TypeVar

import msgspec

from streamvis.errors import ConfigError
from streamvis.events.codec import Codec
from streamvis.events.family import EventTypes
from streamvis.messages import PARTS, Part, PartDecoder
from streamvis.stages.actions import OffActions
from streamvis.stages.camera_motion import CameraMotion
from streamvis.stages.density import DensityMap
from streamvis.stages.detect import MaskRcnn
from streamvis.stages.embed import Appearance
from streamvis.stages.forecast import Forecaster
from streamvis.stages.pose import PoseEstimation
from streamvis.stages.protocol import StageConfig, kind_name, part_name
from streamvis.stages.publish import Publish
from streamvis.stages.record import Record
from streamvis.stages.segment import Segment
from streamvis.stages.track import Jipda
from streamvis.stages.yolox import Yolox
from streamvis.stages.zones import ZoneCounter

T = TypeVar("T")
GROUP = "streamvis.stages"
INSTALL = "install the package again, with what it requires"  # advice
CORRECT = "correct the package"
KINDS: tuple[type[StageConfig], ...] = (
    *(MaskRcnn, Yolox, Appearance, CameraMotion, Jipda, OffActions, Segment, Forecaster),
    *(DensityMap, ZoneCounter, PoseEstimation, Publish, Record),
)


class InstalledKinds(NamedTuple):
    """All kinds at hand, and why those of other packages that cannot be used are not."""

    kinds: tuple[type[StageConfig], ...]
    packages: dict[str, str]  # name and version of the package, by kind that is not built in
    problems: dict[str, str]  # one line each, by name of the entry point


@cache
def installed_kinds() -> InstalledKinds:
    """Return `KINDS` and the kinds of other installed packages, which are imported once."""
    return with_entries(entry_points(group=GROUP))


def with_entries(entries: Iterable[EntryPoint]) -> InstalledKinds:
    """Return `KINDS` and the kinds that these entry points name, without those that do not fit."""
    kinds = list(KINDS)
    packages: dict[str, str] = {}
    problems: dict[str, str] = {}
    for entry in sorted(entries, key=lambda one: (one.name, _package(one))):
        try:
            kinds.append(_checked(entry, kinds, packages))
            packages[entry.name] = _package(entry)
        except ConfigError as error:
            problems[entry.name] = (
                f"package {_package(entry)}, entry point '{entry.name}' = '{entry.value}': {error}"
            )
    return InstalledKinds(tuple(kinds), packages, problems)


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"


def _checked(
    entry: EntryPoint, kinds: Sequence[type[StageConfig]], packages: Mapping[str, str]
) -> type[StageConfig]:
    """Return the class of the settings; ConfigError says why it cannot be used."""
    kind = _called("the class of the settings cannot be imported", entry.load, INSTALL)
    if not (isinstance(kind, type) and issubclass(kind, StageConfig)):
        raise ConfigError(
            f"found {kind!r}, expected a subclass of streamvis.stages.protocol.StageConfig; name "
            "the class of the settings as module:class"
        )
    name = kind_name(kind)
    if name != entry.name:
        raise ConfigError(
            f"{kind.__name__} has the tag '{name}', expected '{entry.name}', the name of the entry "
            "point; make the two equal"
        )
    if name in map(kind_name, kinds):
        owner = packages.get(name, "streamvis")
        raise ConfigError(f"{owner} has a kind '{name}', too; rename one, or uninstall one package")
    if "every_s" in kind.__struct_fields__:
        raise ConfigError(
            "it has a setting `every_s`, which every stage has beside its settings; rename it"
        )
    _called("the settings cannot be read", lambda: msgspec.json.Decoder(kind), CORRECT)
    _check_part(kind, kinds)
    _check_events(kind, kinds)
    return kind


def _check_part(kind: type[StageConfig], kinds: Sequence[type[StageConfig]]) -> None:
    """Raise ConfigError when the part of a kind cannot be distinguished from others."""
    what = f"its part {getattr(kind.writes, '__name__', kind.writes)}"
    if not (isinstance(kind.writes, type) and issubclass(kind.writes, msgspec.Struct)):
        raise ConfigError(f"{what} is no msgspec.Struct; set `writes` to a tagged struct")
    if kind.writes.__struct_config__.tag is None:
        raise ConfigError(f'{what} has no tag; expected one, such as tag="{kind_name(kind)}"')
    parts = _parts(kinds)
    tag = part_name(kind.writes)
    taken = next((one for one in parts if part_name(one) == tag), kind.writes)
    if taken is not kind.writes:
        raise ConfigError(
            f"{what} has the tag '{tag}', which {taken.__module__}.{taken.__name__} has; choose "
            "another tag"
        )
    _called(f"{what} cannot be decoded", lambda: PartDecoder(_others([*kinds, kind])), CORRECT)


def _check_events(kind: type[StageConfig], kinds: Sequence[type[StageConfig]]) -> None:
    """Raise ConfigError when the event types of a kind cannot be imported or are not distinct."""
    own = _called("its event types cannot be imported", kind.event_types, INSTALL)
    if not (own is None or isinstance(own, EventTypes)):
        raise ConfigError(f"`event_types` returns {own!r}, expected an EventTypes or None")
    _called("its event types cannot be used", lambda: _codec([*kinds, kind]), CORRECT)


def _called(what: str, function: Callable[[], T], advice: str) -> T:
    """Return what code of another package returns; ConfigError, one line, for any exception."""
    try:
        return function()
    except Exception as error:  # noqa: BLE001 - code of another package raises anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{what}: {reason}; {advice}") from None


def _parts(kinds: Iterable[type[StageConfig]]) -> list[type[Part]]:
    own: dict[type[Part], None] = dict.fromkeys(one.writes for one in kinds)
    return [*PARTS, *(part for part in own if part not in PARTS)]


def _others(kinds: Iterable[type[StageConfig]]) -> list[type[Part]]:
    return _parts(kinds)[len(PARTS) :]


def _codec(kinds: Iterable[type[StageConfig]]) -> Codec:
    families = [kind.event_types() for kind in kinds]
    return Codec([family for family in families if family is not None])


@cache
def part_decoder() -> PartDecoder:
    """Return the decoder of the parts of all kinds."""
    return PartDecoder(_others(installed_kinds().kinds))


@cache
def event_codec() -> Codec:
    """Return the codec of the events of all kinds."""
    return _codec(installed_kinds().kinds)
