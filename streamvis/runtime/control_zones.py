"""Requests about the zones of a run: what is asked and answered, and how zones files are kept."""

import hashlib
import os
from collections.abc import Mapping, Set
from pathlib import Path

import msgspec

from streamvis.config.zones import NO_STAGE, needs_plane, read_zones, zones_text
from streamvis.errors import ConfigError, UsageError
from streamvis.files import replace
from streamvis.geometry import Homography
from streamvis.sources.options import scene_options
from streamvis.sources.spec import SourceSpec
from streamvis.synthetic.scene import Camera
from streamvis.zone_layout import ZoneLayout


class ListZones(msgspec.Struct, frozen=True, tag="zones", forbid_unknown_fields=True):
    """Ask for the zones and lines of all sources."""


class ChangeZones(
    msgspec.Struct, frozen=True, tag="set_zones", forbid_unknown_fields=True, omit_defaults=True
):
    """Give a source other zones and lines, and keep them in its zones file."""

    source: str
    layout: ZoneLayout
    expected: str = ""  # revision of the zones that they replace; empty: whichever these are


class SourceZones(msgspec.Struct, frozen=True, kw_only=True):
    """The zones and lines of a source of the run."""

    id: str
    origin: str  # zones file; `sources file`, `pipeline`, or `set`: since the run began
    layout: ZoneLayout
    revision: str = ""  # hash of the layout
    lost: str = ""  # why no file keeps zones that are set, where none does
    ground_plane: Homography | None = None  # from pixels of the picture to metres, 3 x 3 by rows


class ZoneList(msgspec.Struct, frozen=True, tag="zones"):
    """The zones and lines of all sources that have not ended."""

    sources: list[SourceZones]


class ZonesChanged(msgspec.Struct, frozen=True, kw_only=True, tag="zones_set"):
    """A source has other zones and lines from its next frame on."""

    source: str
    zones: int
    lines: int
    file: str = ""  # zones file that has them now
    lost: str = ""  # why they are lost when the run ends, where no file has them
    revision: str = ""  # hash of the layout

    def __str__(self) -> str:
        what = f"{_count(self.zones, 'zone')} and {_count(self.lines, 'line')}"
        kept = f"kept in {self.file}" if self.file else f"until the run ends: {self.lost}"
        return f"source '{self.source}' has {what}, {kept}"


class KeptZones(msgspec.Struct, frozen=True):
    """A zones file that is to be written."""

    path: str
    layout: ZoneLayout
    before: ZoneLayout | None = None  # what the file has to hold; None: whatever it holds


def revision_of(layout: ZoneLayout) -> str:
    """Return a hash of a layout: equal layouts have equal ones, also in another run."""
    return hashlib.sha256(msgspec.json.encode(layout)).hexdigest()[:16]


def listed_zones(
    specs: Mapping[str, SourceSpec], ended: Set[str], default: ZoneLayout, unkept: Set[str]
) -> ZoneList:
    """List the zones of the sources that have not ended; `unkept`: those set, and in no file."""
    found = [spec for name, spec in specs.items() if name not in ended]
    return ZoneList(
        [
            SourceZones(
                id=spec.id,
                origin=_origin(spec, spec.id in unkept),
                layout=spec.zones or default,
                revision=revision_of(spec.zones or default),
                lost=not_kept(spec, specs),
                ground_plane=_plane(spec),
            )
            for spec in found
        ]
    )


def _plane(spec: SourceSpec) -> Homography | None:
    """Return the map from pixels to metres of a source, where it is known without opening it."""
    if spec.ground_plane is not None or spec.kind != "synthetic":
        return spec.ground_plane
    try:
        return Camera(*scene_options(spec.uri).size).homography
    except UsageError:  # the source fails when it is opened
        return None


def _origin(spec: SourceSpec, unkept: bool) -> str:
    if spec.zones is None:
        return "pipeline"
    return "set" if unkept else spec.zones_file or "sources file"


def cannot_have(spec: SourceSpec, layout: ZoneLayout | None, default: ZoneLayout | None) -> str:
    """Describe why a source of a run cannot have these zones, or those of the pipeline; or ''."""
    if default is None:
        return f"source '{spec.id}' cannot have zones: {NO_STAGE}" if layout is not None else ""
    wrong = needs_plane(layout or default, spec)
    return f"source '{spec.id}': {wrong}" if wrong else ""


def not_kept(spec: SourceSpec, specs: Mapping[str, SourceSpec]) -> str:
    """Describe why no file can keep the zones of this source alone; empty when one can."""
    if not spec.zones_file:
        inline = "are in the sources file" if spec.zones is not None else "are the pipeline's"
        return f"it has no zones file, its own zones {inline}"
    others = [s.id for s in specs.values() if s.zones_file == spec.zones_file and s.id != spec.id]
    return f"{spec.zones_file} is of {', '.join(others)} too" if others else ""


def is_newer(
    expected: str, layout: ZoneLayout, spec: SourceSpec, default: ZoneLayout | None
) -> str:
    """Describe why zones of this revision are not those of the source any more; or ''."""
    now = spec.zones or default or ZoneLayout()
    if not expected or revision_of(now) == expected or now == layout:
        return ""
    what = f"{_count(len(now.zones), 'zone')} and {_count(len(now.lines), 'line')}"
    return (
        f"source '{spec.id}' was given other zones meanwhile: it has {what} now; load them and "
        "make the change again, or set these zones without a revision, which replaces them"
    )


def keep(kept: KeptZones) -> str:
    """Write a zones file, unless it has these zones already; OSError when that fails.

    The file is replaced as a whole and keeps its mode; comments in it are lost. Where it does not
    hold what it has to, nothing is written, and what is wrong is returned.
    """
    path = Path(os.path.realpath(kept.path))
    if path.exists():
        wrong = ""
        try:
            if (found := read_zones(path)) == kept.layout:
                return ""
            if kept.before is not None and found != kept.before:
                wrong = f"{kept.path} was edited since the run read it"
        except ConfigError as error:
            wrong = f"the zones file was edited and has an error: {error}" if kept.before else ""
        if wrong:
            return (
                f"{wrong}; put what it holds in force with `streamvis zones set`, or set these "
                "zones without a revision, which replaces it"
            )
    mode = path.stat().st_mode if path.is_file() else None
    replace(path, zones_text(kept.layout).encode())
    if mode is not None:
        path.chmod(mode & 0o7777)
    return ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
