"""Zones files: the zones and lines of a source, read, checked and written.

    layout = read_zones(Path("gate.zones.yaml"))
    specs = with_zones(specs, given_zones(["gate=gate.zones.yaml"]))
    check_zones(pipeline, specs)

A zones file holds `zones` and `lines`, as `streamvis.zone_layout` describes them.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from streamvis.config.pipeline import Pipeline
from streamvis.errors import ConfigError, UsageError
from streamvis.parsing import alternatives, convert, read_mapping
from streamvis.sources.spec import ID, SourceSpec
from streamvis.stages.zones import ZoneCounter
from streamvis.zone_layout import Line, Zone, ZoneLayout

LINE_WIDTH = 100  # of a zones file that is written


class GivenZones(msgspec.Struct, frozen=True):
    """A zones file of the command line, and the source that it is for; None: every source."""

    source: str | None
    path: Path


def read_zones(path: Path) -> ZoneLayout:
    """Read a zones file; raises ConfigError with file and place."""
    if path.exists() and not path.is_file():  # a device might be read for ever
        raise ConfigError(f"{path} is no file; expected a zones file in YAML")
    try:
        return convert(read_mapping(path, ConfigError), ZoneLayout, path, ConfigError)
    except RecursionError:  # YAML can write a list that contains itself
        raise ConfigError(f"{path}: its lists are nested too deep; expected `zones`") from None


def given_zones(texts: Sequence[str]) -> list[GivenZones]:
    """Return the values of `--zones [ID=]FILE`; UsageError for an id that none can have."""
    return [_given(text) for text in texts]


def _given(text: str) -> GivenZones:
    name, equals, rest = text.partition("=")
    if equals and name and not rest:
        raise UsageError(f"--zones {text}: no file is named; expected [ID=]FILE")
    if not equals or Path(text).exists() or re.search(r"[/\\.]", name):
        return GivenZones(None, Path(text))
    if not ID.fullmatch(name):
        raise UsageError(
            f"--zones {text}: source id '{name}' is not made of a-z, 0-9, '_' and '-' (1 to 64 of "
            "them); expected [ID=]FILE"
        )
    return GivenZones(name, Path(rest))


def with_zones(specs: Sequence[SourceSpec], given: Sequence[GivenZones]) -> list[SourceSpec]:
    """Return the sources with the zones of the files; a file that names a source counts first.

    Raises ConfigError for a file with errors, UsageError for one that is for no source and for two
    that are for the same.
    """
    files: dict[str | None, Path] = {}
    for one in given:
        if one.source in files:
            whose = "every source" if one.source is None else f"source '{one.source}'"
            raise UsageError(f"--zones names two files for {whose}; give it one")
        files[one.source] = one.path
    ids = [spec.id for spec in specs]
    for name in files:
        if name is not None and name not in ids:
            raise UsageError(
                f"--zones {name}={files[name]}: the run has no source '{name}'"
                f"{alternatives(name, ids)}"
            )
    read: dict[Path, ZoneLayout] = {path: read_zones(path) for path in files.values()}
    return [_with_file(spec, files.get(spec.id, files.get(None)), read) for spec in specs]


def _with_file(spec: SourceSpec, path: Path | None, read: Mapping[Path, ZoneLayout]) -> SourceSpec:
    if path is None:
        return spec
    return msgspec.structs.replace(spec, zones=read[path], zones_file=str(path.absolute()))


def pipeline_zones(pipeline: Pipeline) -> ZoneLayout | None:
    """Return the zones of sources without their own; None for a pipeline that counts none."""
    stages = (stage.run for stage in pipeline.stages)
    return next((run.layout_of(None) for run in stages if isinstance(run, ZoneCounter)), None)


def zones_of(pipeline: Pipeline, specs: Sequence[SourceSpec]) -> dict[str, ZoneLayout | None]:
    """Return the zones of each source, its own or the pipeline's; None if no stage counts."""
    default = pipeline_zones(pipeline)
    return {spec.id: default and (spec.zones or default) for spec in specs}


def check_zones(pipeline: Pipeline, specs: Sequence[SourceSpec]) -> None:
    """Raise ConfigError where zones are given that the pipeline or the source does not allow."""
    default = pipeline_zones(pipeline)
    for spec in specs:
        if default is None and spec.zones is not None:
            raise ConfigError(f"source '{spec.id}' has {_origin(spec)}, but {NO_STAGE}")
        layout = spec.zones or default
        if layout is not None and (wrong := needs_plane(layout, spec)):
            raise ConfigError(f"source '{spec.id}': {wrong}")


def without_zones(pipeline: Pipeline, specs: Sequence[SourceSpec]) -> list[str]:
    """Return the ids of sources in which a stage counts, but which have no zones and no lines."""
    layouts = zones_of(pipeline, specs)
    return [
        name for name, one in layouts.items() if one is not None and not (one.zones or one.lines)
    ]


NO_STAGE = "no stage of the pipeline is of kind `zones`; add one, or run the pipeline `zones`"


def needs_plane(layout: ZoneLayout, spec: SourceSpec) -> str:
    """Describe the first zone or line that is in metres while its source has no ground plane."""
    if spec.ground_plane is not None or spec.kind == "synthetic":  # a scene has its own
        return ""
    return on_ground(layout)


def on_ground(layout: ZoneLayout) -> str:
    """Describe the first zone or line in metres, for a source without a ground plane; or ''."""
    for what, shapes in (("zone", layout.zones), ("line", layout.lines)):
        for shape in shapes:
            if shape.space == "ground":
                return (
                    f"{what} '{shape.name}' is in metres (`space: ground`), but the source has no "
                    "ground plane; calibrate one with `streamvis calibrate`, or give shares of the "
                    "picture"
                )
    return ""


def _origin(spec: SourceSpec) -> str:
    return f"the zones file {spec.zones_file}" if spec.zones_file else "`zones`"


def zones_text(layout: ZoneLayout) -> str:
    """Return the text of a zones file, YAML, without settings that have their default."""
    from streamvis.yaml_values import lines_of  # here: workers and decode processes write no YAML

    document = {
        name: [_plain(shape) for shape in shapes]
        for name, shapes in (("zones", layout.zones), ("lines", layout.lines))
        if shapes
    }
    lines: list[str] = []
    for name, shapes in (document or {"zones": [], "lines": []}).items():
        lines.append(f"{name}:" if shapes else f"{name}: []")
        for shape in shapes:
            first, *others = lines_of(shape, LINE_WIDTH)
            lines += [f"  - {first}", *(f"    {other.strip()}" for other in others)]
    return "\n".join(lines) + "\n"


def _plain(shape: Zone | Line) -> dict[str, Any]:
    """Return the settings of a zone or line that are not its kind's defaults."""
    values: dict[str, Any] = msgspec.to_builtins(shape)
    for field in msgspec.structs.fields(shape):
        default = msgspec.to_builtins(field.default) if not field.required else msgspec.NODEFAULT
        if values[field.name] == default:
            del values[field.name]
    return values
