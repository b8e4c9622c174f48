"""docs/settings.md is generated from the configuration types; `pytest --accept` rewrites it."""

import inspect
import re
import typing
from collections.abc import Callable
from pathlib import Path

import msgspec
from factories import kind_with_defaults

from streamvis import zone_layout
from streamvis.config import (
    Alarm,
    DecodeSpec,
    LocalSpec,
    Placement,
    RaySpec,
    SourcesSpec,
    StageSpec,
    WorkerSpec,
    Zone,
)
from streamvis.config.pipeline import Run
from streamvis.config.site import SiteFile, SiteSource
from streamvis.events.schema import meanings_of
from streamvis.recording.settings import Clips, Recording, Segments
from streamvis.stages import KINDS
from streamvis.stages.protocol import kind_name, part_name
from streamvis.zone_layout import ZoneLayout

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
NAMES: dict[object, str] = {
    float: "number",
    str: "text",
    bool: "true or false",
    int: "integer",
    Zone: "zone",
    zone_layout.Zone: "zone",
    zone_layout.Line: "line",
    Alarm: "alarm",
    WorkerSpec: "worker",
    DecodeSpec: "mapping",
    LocalSpec: "`kind: local`",
    RaySpec: "`kind: ray`",
    SourcesSpec: "mapping",
    SiteSource: "source",
    ZoneLayout: "zones and lines",
    Recording: "recording",
    Segments: "segments",
    Clips: "clips",
}
Golden = Callable[[Path, str], None]
UNITS = {"_s": "s", "_ms": "ms", "_px": "px", "_m": "m"}
HEAD = """\
# Settings

Every setting of every kind of stage, of the placement and of the sources file: type, default,
unit, meaning. This page is generated from the configuration types; `pytest tests/config --accept`
rewrites it.

A pipeline file (such as `pipelines/people.yaml`) lists `stages`. The settings of a kind stand in
the stage's `run` mapping; the command line overrides them: `--set detect.min_score=0.5`. A
placement file (such as `configs/one-gpu.yaml`) lists `workers`, a sources file (such as
`configs/site.yaml`) lists `sources`. In YAML, write `null` for none.

| kind | writes | requires | also uses |
|---|---|---|---|
"""


def page() -> str:
    kinds = KINDS
    parts = [HEAD + "\n".join(map(row_of, kinds)) + "\n"]
    parts += [section("Stage (an entry of `stages`)", StageSpec)]
    parts += [section(f"Kind `{kind_name(kind)}`", kind) for kind in kinds]
    parts += [
        section("Zone (an entry of `zones` of kind `forecast`)", Zone),
        section("Zone (an entry of `zones` of kind `zones`)", zone_layout.Zone),
        section("Line (an entry of `lines` of kind `zones`)", zone_layout.Line),
        section("Alarm (`unknown` of kind `publish`)", Alarm),
        section("Placement (a file of `configs/`)", Placement),
        section("Worker (an entry of `workers`)", WorkerSpec),
        section("Decoding (`decode`)", DecodeSpec),
        section("Ray cluster (`engine` with `kind: ray`)", RaySpec),
        section("Sources of a placement (`sources`)", SourcesSpec),
        section("Sources file (such as `configs/site.yaml`)", SiteFile),
        section("Source (an entry of `sources`)", SiteSource),
        section("Recording (`record` of a source and of the sources file)", Recording),
        section("Segments (`segments` of a recording)", Segments),
        section("Clips (`clips` of a recording)", Clips),
    ]
    return "\n".join(parts)


def row_of(kind: type) -> str:
    """Return the table row that says which parts a kind of stage writes and reads."""
    requires = ", ".join(sorted(map(part_name, kind.reads))) or "–"
    used = {
        other.writes for other in KINDS if kind_with_defaults(kind).uses(kind_with_defaults(other))
    } - kind.reads
    uses = ", ".join(sorted(map(part_name, used))) or "–"
    name, writes = kind_name(kind), part_name(kind.writes)
    return f"| [`{name}`](#kind-{name}) | {writes} | {requires} | {uses} |"


def section(title: str, kind: type[msgspec.Struct]) -> str:
    meanings = meanings_of(kind)
    rows = []
    for field in msgspec.structs.fields(kind):
        unit, meaning = split_unit(field.name, meanings[field.name])
        cells = f"`{field.name}`", type_text(field.type), default_text(field), unit, meaning
        rows.append(f"| {' | '.join(cells)} |")
    summary = inspect.cleandoc(kind.__doc__ or "").replace("\n", " ").replace("  ", "\n\n")
    head = ["| setting | type | default | unit | meaning |", "|---|---|---|---|---|"]
    table = "\n".join([*head, *rows]) + "\n"
    return f"## {title}\n\n{summary}\n" + (f"\n{table}" if rows else "")


def type_text(annotation: object) -> str:
    """Return the type in words, with its limits."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation == Run:
        return "mapping with `kind`"
    if origin is dict:
        return f"mapping of {type_text(arguments[1])}"
    if origin is typing.Annotated:
        return type_text(arguments[0]) + "".join(map(limits, arguments[1:]))
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple and Ellipsis not in arguments:
        return f"[{', '.join(map(type_text, arguments))}]"
    if origin in (list, tuple):
        return f"list of {type_text(arguments[0])}"
    if arguments:  # a union
        kinds = [one for one in arguments if one is not msgspec.UnsetType]
        return " or ".join("none" if one is type(None) else type_text(one) for one in kinds)
    return NAMES[annotation]


def limits(meta: msgspec.Meta) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [
        f"{sign} {getattr(meta, name):g}"
        for name, sign in signs.items()
        if getattr(meta, name) is not None
    ]
    if meta.pattern is not None:
        bounds.append(f"`{meta.pattern.replace('|', chr(92) + '|')}`")
    if meta.min_length is not None:
        bounds.append(f"at least {meta.min_length}")
    return f" ({', '.join(bounds)})" if bounds else ""


def default_text(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(default, msgspec.Struct):
        return "as below"
    if default is None:
        return "none"
    if default is msgspec.UNSET:
        return "absent"
    if isinstance(default, tuple | list):
        return ", ".join(f"`{value}`" for value in default) or "empty"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def split_unit(name: str, meaning: str) -> tuple[str, str]:
    """Return the unit, from the name's ending or the comment's beginning, and the rest of it."""
    for suffix, unit in UNITS.items():
        if name.endswith(suffix):
            return unit, meaning
    match = re.match(r"((?:per )?px[^;]*); (.*)", meaning)
    return (match[1], match[2]) if match else ("", meaning)


def test_the_page_is_up_to_date(golden: Golden) -> None:
    golden(PAGE, page())


def test_every_setting_of_a_kind_has_a_meaning() -> None:
    missing = [
        f"{kind.__name__}.{name}"
        for kind in [
            *KINDS,
            Zone,
            Alarm,
            StageSpec,
            WorkerSpec,
            DecodeSpec,
            RaySpec,
            SourcesSpec,
            Placement,
            SiteFile,
            SiteSource,
            Recording,
            Segments,
            Clips,
        ]
        for name, meaning in meanings_of(kind).items()
        if not meaning and "ClassVar" not in str(kind.__annotations__.get(name))
    ]
    assert missing == []
