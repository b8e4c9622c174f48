"""The kinds of stages: the built-in ones, and those of other installed packages.

A package announces a kind by an entry point of the group `streamvis.stages`, whose value is the
class of its settings (docs/stages.md).
"""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

from streamvis.events.codec import Codec
from streamvis.messages import PARTS, Part, PartDecoder
from streamvis.stages.actions import OffActions
from streamvis.stages.camera_motion import CameraMotion
from streamvis.stages.density import DensityMap
from streamvis.stages.detect import MaskRcnn
from streamvis.stages.embed import Appearance
from streamvis.stages.forecast import Forecaster
from streamvis.stages.protocol import StageConfig, kind_name, part_name
from streamvis.stages.publish import Publish
from streamvis.stages.record import Record
from streamvis.stages.segment import Segment
from streamvis.stages.track import Jipda

GROUP = "streamvis.stages"
KINDS: tuple[type[StageConfig], ...] = (
    *(MaskRcnn, Appearance, CameraMotion, Jipda, OffActions, Segment, Forecaster, DensityMap),
    *(Publish, Record),
)


class InstalledKinds(NamedTuple):
    """All kinds at hand, and why those of other packages that cannot be used are not."""

    kinds: tuple[type[StageConfig], ...]
    problems: dict[str, str]  # by name of the entry point


@cache
def installed_kinds() -> InstalledKinds:
    """Return `KINDS` and the kinds of other installed packages, which are imported once."""
    kinds, problems = list(KINDS), {}
    for entry in sorted(entry_points(group=GROUP), key=lambda one: one.name):
        problem = _add(entry, kinds)
        if problem:
            package = entry.dist.name if entry.dist else entry.value
            problems[entry.name] = f"package {package}, entry point '{entry.name}': {problem}"
    return InstalledKinds(tuple(kinds), problems)


def _add(entry: EntryPoint, kinds: list[type[StageConfig]]) -> str | None:
    """Add the kind; return why it cannot be used, or None."""
    try:
        kind = entry.load()
    except Exception as error:  # noqa: BLE001 - of code that is not ours
        return f"{entry.value} cannot be imported: {type(error).__name__}: {error}"
    if not (isinstance(kind, type) and issubclass(kind, StageConfig)):
        return f"{entry.value} is {kind!r}; expected a subclass of StageConfig"
    name, taken = kind_name(kind), {kind_name(one) for one in kinds}
    if name != entry.name:
        return f"{entry.value} has the tag '{name}'; expected the name of the entry point"
    if name in taken:
        return f"there is another kind '{name}'"
    parts = {part_name(one.writes): one.writes for one in kinds} | {
        part_name(part): part for part in PARTS
    }
    if parts.get(part_name(kind.writes), kind.writes) is not kind.writes:
        return f"its part has the tag '{part_name(kind.writes)}', which another part has"
    kinds.append(kind)
    return None


@cache
def part_decoder() -> PartDecoder:
    """Return the decoder of the parts of all kinds."""
    own: dict[type[Part], None] = dict.fromkeys(one.writes for one in installed_kinds().kinds)
    return PartDecoder(part for part in own if part not in PARTS)


@cache
def event_codec() -> Codec:
    """Return the codec of the events of all kinds."""
    families = [kind.event_types() for kind in installed_kinds().kinds]
    return Codec([family for family in families if family is not None])
