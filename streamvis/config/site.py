"""A sources file: the cameras and recordings that a run watches, each with its settings.

site = load_site(Path("configs/site.yaml"))
run(site.specs())
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from streamvis.config.zones import needs_plane, read_zones
from streamvis.errors import ConfigError, StreamvisError
from streamvis.fields import Name
from streamvis.geometry import Homography, ground_plane_of, read_ground_plane
from streamvis.parsing import alternatives, convert, read_mapping
from streamvis.recording.settings import Recording
from streamvis.sources.credentials import warn_if_shared
from streamvis.sources.options import CONNECTION, CREDENTIALS, HWACCEL, TRANSPORT
from streamvis.sources.recordable import not_recordable
from streamvis.sources.spec import Setting, SourceSpec, source_of
from streamvis.stages import event_codec
from streamvis.zone_layout import ZoneLayout, crosses_itself

LARGEST = 65536  # coordinate of a privacy mask
VARIABLE = re.compile(r"\$(?:\$|\{([^{}]*)(\})?)")
SETTINGS = ("fps", *CONNECTION, *CREDENTIALS, *TRANSPORT, *HWACCEL)

Seconds = Annotated[float, Meta(gt=0, lt=1e6)]
Coordinate = Annotated[float, Meta(ge=0, le=LARGEST)]
Mask = Annotated[list[tuple[Coordinate, Coordinate]], Meta(min_length=3)]
Row = tuple[float, float, float]


class SiteSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One source: its id, what it is, and its settings. Relative paths start at the file."""

    id: Name  # id in events, unique in the file
    uri: str  # file, directory, glob of images, camera, URL or `synthetic:` scene
    fps: Seconds | None = None  # frame rate: of recordings instead of time stamps, of cameras
    # requested
    ground_plane: str | tuple[Row, Row, Row] | None = None  # JSON file with a homography from
    # pixels to metres, or its three rows; none: `ID.ground_plane.json` beside this file
    privacy_masks: list[Mask] = []  # areas that are filled before pixels are used: polygons of
    # corners [x, y], in pixels, or in shares of the frame where all numbers of one are at most 1
    zones: str | ZoneLayout | None = None  # zones file, or its `zones` and `lines` here; none:
    # those of the pipeline
    open_s: Seconds | None = None  # connection timeout; none: 10
    read_s: Seconds | None = None  # read timeout; none: 5
    stall_s: Seconds | None = None  # silence after which it counts as stalled; none: half of read_s
    retry_s: Annotated[float, Meta(ge=0, lt=1e6)] | None = None  # longest pause between two
    # attempts to connect; 0: one attempt only; none: 30
    transport: Literal["tcp", "udp"] | None = None  # of RTSP; none: tcp
    user: str | None = None  # user name, if it is not in the URL
    password: str | None = None  # password, if it is not in the URL
    password_file: str | None = None  # file with the password in its one line
    hwaccel: Literal["auto", "none", "cuda", "qsv", "drm"] | None = None  # device that decodes;
    # none: as the placement says, else the CPU
    record: Recording | UnsetType | None = UNSET  # what of its packets is recorded; none: nothing;
    # absent: as for all


class SiteFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sources of a run. `${NAME}` in a text is the environment variable NAME, `$$` is `$`."""

    sources: list[SiteSource]  # sources; none: they are added while it runs
    record: Recording | None = None  # what is recorded of cameras and streams that do not say


class Site(msgspec.Struct, frozen=True):
    """A sources file that was read: what is in it can be opened."""

    path: Path
    sources: tuple[SourceSpec, ...]

    def specs(self) -> list[SourceSpec]:
        """The sources in the order of the file."""
        return list(self.sources)


def load_site(path: Path, environ: Mapping[str, str] = os.environ) -> Site:
    """Read a sources file; raises ConfigError, UsageError or SourceError with file and place."""
    raw = read_mapping(path, ConfigError, secret=True)
    try:
        _warn_of_passwords(raw, path)
        file = convert(_replaced(raw, path, "$", environ), SiteFile, path, ConfigError)
    except RecursionError:  # YAML can write a list that contains itself
        raise ConfigError(f"{path}: its lists are nested too deep; expected `sources`") from None
    places: dict[str, int] = {}
    for index, source in enumerate(file.sources):
        first = places.setdefault(source.id, index)
        if first != index:
            raise ConfigError(
                f"{path}: sources[{first}] and sources[{index}] have the id '{source.id}'; "
                "give each its own"
            )
    return Site(path, tuple(_spec(file, i, path) for i in range(len(file.sources))))


def _spec(file: SiteFile, index: int, path: Path) -> SourceSpec:
    source = file.sources[index]
    where = f"{path}: sources[{index}] (of '{source.id}')"
    parent = path.absolute().parent  # the same sources, from wherever the file is read again
    try:
        spec = source_of(source.uri, _settings(source), parent)
        plane = _ground_plane(source, parent) or spec.ground_plane
        zones, zones_file = _zones(source, parent)
    except StreamvisError as error:
        raise type(error)(f"{where}: {error}") from None
    if source.record is UNSET:
        record = file.record if spec.kind in {"camera", "url"} else None
    else:
        record = source.record
    if record and record.clips:
        _check_events(record.clips.on, where)
    masks = tuple(tuple(mask) for mask in source.privacy_masks)
    for number, mask in enumerate(masks):
        if crosses_itself(mask):
            raise ConfigError(
                f"{where}: privacy_masks[{number}] crosses or touches itself, so that a part of it "
                "may stay visible; give its corners in order around the area"
            )
    spec = msgspec.structs.replace(
        spec,
        id=source.id,
        ground_plane=plane,
        privacy_masks=masks,
        record=record,
        zones=zones,
        zones_file=zones_file,
    )
    if reason := (zones and needs_plane(zones, spec)) or not_recordable(spec):
        raise ConfigError(f"{where}: {reason}")
    return spec


def _check_events(types: Sequence[str], where: str) -> None:
    """ConfigError for a type that no event of a source has; a clip is no reason for another."""
    families = {"hb", "sys", "frame"}  # of the feed, of the run, and those that no log has
    known = [one for one in sorted(event_codec().names) if one.partition(".")[0] not in families]
    known.remove("source.clip")
    for one in types:
        if one not in known:
            raise ConfigError(
                f"{where}: no event of a source has the type '{one}' in `record.clips.on`"
                f"{alternatives(one, known)}"
            )


def _settings(source: SiteSource) -> list[Setting]:
    """The settings of a source as they are written after '#'."""
    values = ((name, getattr(source, name)) for name in SETTINGS)
    return [
        (name, value if isinstance(value, str) else f"{value:.12g}")
        for name, value in values
        if value is not None
    ]


def _ground_plane(source: SiteSource, base: Path) -> Homography | None:
    if isinstance(source.ground_plane, str):
        path = base / source.ground_plane
        if path.exists() and not path.is_file():  # a device might be read for ever
            raise ConfigError(f"ground_plane {path} is no file; expected one in JSON")
        return read_ground_plane(path)
    if source.ground_plane is not None:
        return ground_plane_of(source.ground_plane, "ground_plane")
    own = base / f"{source.id}.ground_plane.json"
    return read_ground_plane(own) if own.is_file() else None


def _zones(source: SiteSource, base: Path) -> tuple[ZoneLayout | None, str]:
    """Return the zones of a source, and the absolute path of the file that they are from."""
    if not isinstance(source.zones, str):
        return source.zones, ""
    path = (base / source.zones).absolute()
    return read_zones(path), str(path)


def _replaced(value: Any, path: Path, place: str, environ: Mapping[str, str]) -> Any:
    """The value with environment variables in all of its texts; the place is one of YAML."""
    if isinstance(value, dict):
        return {k: _replaced(v, path, f"{place}.{k}", environ) for k, v in value.items()}
    if isinstance(value, list):
        return [_replaced(v, path, f"{place}[{i}]", environ) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        name, closed = match.groups()
        if name is None:
            return "$"
        if not closed or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ConfigError(
                f"{path}: a `${{` at `{place}` is no environment variable; expected ${{NAME}}, "
                "and $$ for a dollar sign"
            )
        if name not in environ:
            raise ConfigError(
                f"{path}: environment variable {name} at `{place}` is not set; set it, or write "
                "$$ for a dollar sign"
            )
        return environ[name]

    return VARIABLE.sub(variable, value)


def _warn_of_passwords(raw: Any, path: Path) -> None:
    """Warn when others may read the file and a password stands in it, not a variable."""
    sources = raw.get("sources")
    for source in sources if isinstance(sources, list) else []:
        texts = source if isinstance(source, dict) else {}
        password, uri = texts.get("password", ""), str(texts.get("uri"))
        in_uri = re.search(r"://[^@/]*:(?!\$\{)[^@]+@|#.*password=(?!\$\{)", uri)
        if in_uri or (isinstance(password, str) and password and "${" not in password):
            warn_if_shared(path)
            return
