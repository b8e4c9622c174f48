"""Reads text files and YAML, and converts values to types.

Errors are one line: they list the allowed values, and suggest one for a misspelt name.
"""

import codecs
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from streamvis.errors import StreamvisError

T = TypeVar("T")

_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # that of UTF-32 begins with the first
LONGEST_SHOWN = 80  # characters of a value in an error
_STEP = re.compile(r"\.([^.\[\]`]+)|\[(\d+|\.\.\.)\]")


def read_text(path: Path, error: type[StreamvisError]) -> str:
    r"""Return the text of a UTF-8 file without byte order mark, with \n line ends; or `error`."""
    try:
        data = path.read_bytes()
    except OSError as failure:
        raise error(f"{path}: {failure.strerror}") from None
    if data.startswith(_WIDE):
        raise error(f"{path} is UTF-16 text, expected UTF-8; save it again in that encoding")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        raise error(f"{path} is not UTF-8 text: {failure.reason} at byte {failure.start}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_yaml(path: Path, error: type[StreamvisError], *, secret: bool = False) -> Any:
    """Return the content of a YAML file.

    `secret`: it may hold passwords. Then `on` and `no` are words, and an error quotes nothing.
    """
    text = read_text(path, error)
    try:
        return yaml_value(text, secret=secret)
    except ValueError as failure:
        raise error(f"{path} is not YAML: {failure}") from None


def yaml_value(text: str, *, secret: bool = False) -> Any:
    """Return the value that a YAML text holds; ValueError, in one line, where it is none."""
    from streamvis import yaml_values  # here: workers and decode processes read no YAML

    return yaml_values.value_of(text, secret=secret)


def read_mapping(path: Path, error: type[StreamvisError], *, secret: bool = False) -> Any:
    """Read a YAML file that has to hold a mapping; `secret` as for `read_yaml`."""
    raw = read_yaml(path, error, secret=secret)
    if not isinstance(raw, dict):
        found = "nothing" if raw is None else type(raw).__name__
        raise error(f"{path}: expected a mapping at the top, found {found}")
    return raw


def convert(
    raw: Any, kind: type[T], where: Path | str, error: type[StreamvisError], *, strict: bool = True
) -> T:
    """Convert `raw` to `kind`; `error` names the place, the nearest names and all allowed ones.

    NaN and infinity are no numbers here.
    """
    try:
        converted = msgspec.convert(raw, kind, strict=strict)
    except msgspec.ValidationError as failure:
        message = " ".join(str(failure).split())
        raise error(f"{where}: {message}{_help(message, raw, kind)}") from None
    except UnicodeEncodeError as failure:  # YAML and JSON can write half a surrogate pair
        text = failure.object[failure.start : failure.end].encode("ascii", "backslashreplace")
        raise error(f"{where}: {text.decode()} is not a character; expected text") from None
    if (found := _not_finite(raw, [])) is not None:
        number, steps = found
        path = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in steps)
        named = _named(raw, [str(one) for one in steps])
        raise error(f"{where}: Expected a finite number, got {number} - at `${path}`{named}")
    return converted


def alternatives(name: object, known: Iterable[object]) -> str:
    """Return the end of a sentence about an unknown name: the nearest names and all known ones."""
    import difflib  # for errors only

    names = [str(one) for one in known]
    near = difflib.get_close_matches(str(name), names, cutoff=0.6)
    guess = f"; did you mean {' or '.join(near)}?" if near else "."
    return f"{guess} Allowed: {', '.join(names) or 'none'}"


def quoted(names: Iterable[str]) -> str:
    """List names for an error text: 'detect', 'track'."""
    return ", ".join(f"'{name}'" for name in names) or "none"


def shown(value: object) -> str:
    """Return a value for an error text: in one line, and shortened."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # an integer of thousands of digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _help(message: str, raw: Any, kind: type) -> str:
    """Return the text to add to a message of msgspec about `raw`."""
    text, _, path = message.partition(" - at `$")
    steps = [name or index for name, index in _STEP.findall(path)]
    where = _named(raw, steps)
    if match := re.fullmatch("Object contains unknown field `(.*)`", text):
        return where + alternatives(match[1], _fields(kind, raw, steps))
    if match := re.fullmatch("Invalid (?:enum )?value '?(.*?)'?", text):
        return where + alternatives(match[1], _values(kind, raw, steps))
    if match := re.fullmatch("Object missing required field `(.*)`", text):
        steps.append(match[1])
    if re.fullmatch("Expected `(float|int)` [<>]=? .*", text):
        for step in steps:
            raw = _inside(raw, step)
        return f"{where}, found {raw}"
    values = list(_values(kind, raw, steps))
    return where + (f". Allowed: {', '.join(map(str, values))}" if values else "")


def _not_finite(raw: Any, steps: list[Any]) -> tuple[float, list[Any]] | None:
    """Return the first number in `raw` that is NaN or infinite, and the steps to it; or None."""
    if isinstance(raw, float):
        return None if math.isfinite(raw) else (raw, steps)
    if not isinstance(raw, dict | list | tuple):
        return None
    inner = raw.items() if isinstance(raw, dict) else enumerate(raw)
    found = (_not_finite(value, [*steps, step]) for step, value in inner)
    return next((one for one in found if one is not None), None)


def _named(raw: Any, steps: list[str]) -> str:
    """Name the innermost part with a name, since a list index is hard to find in a file."""
    found = ""
    for step in steps:
        raw = _inside(raw, step)
        if isinstance(raw, dict) and isinstance(name := raw.get("name", raw.get("id")), str):
            found = f" (of '{name}')"
    return found


def _inside(raw: Any, step: str) -> Any:
    if isinstance(raw, dict):
        return raw.get(step)
    if isinstance(raw, list | tuple) and step.isdecimal():
        return raw[int(step)]
    return None


def _fields(kind: type, raw: Any, steps: list[str]) -> Iterator[str]:
    for info in _at(kind, raw, steps):
        if isinstance(info, inspect.StructType):
            yield from ([info.tag_field] if info.tag_field else [])
            yield from (field.encode_name for field in info.fields)


def _values(kind: type, raw: Any, steps: list[str]) -> Iterator[object]:
    """Yield the values that a place allows, if they can be listed."""
    infos = _at(kind, raw, steps)
    if any(isinstance(info, inspect.LiteralType | inspect.EnumType) for info in infos):
        for info in infos:
            yield from _values_of(info)
    for info in _at(kind, raw, steps[:-1]) if steps else []:
        if isinstance(info, inspect.StructType) and info.tag_field == steps[-1]:
            yield info.tag


def _values_of(info: inspect.Type) -> Iterable[object]:
    match info:
        case inspect.LiteralType():
            return info.values
        case inspect.EnumType():
            return [member.value for member in info.cls]
        case inspect.NoneType():
            return ["null"]
        case inspect.IntType(ge=int(least), le=int(most)):
            return [f"{least} to {most}"]
    return [type(info).__name__.removesuffix("Type").lower()]


def _at(kind: type, raw: Any, steps: list[str]) -> list[inspect.Type]:
    """Return the types that a place in `raw` can have."""
    found = _choices(inspect.type_info(kind), raw)
    for step in steps:
        raw = _inside(raw, step)
        inner = [one for info in found for one in _inner(info, step)]
        found = [choice for one in inner for choice in _choices(one, raw)]
    return found


def _choices(info: inspect.Type, raw: Any) -> list[inspect.Type]:
    """Return a type, the members of a union, or the tagged member that `raw` names."""
    if isinstance(info, inspect.Metadata):
        return _choices(info.type, raw)
    if not isinstance(info, inspect.UnionType):
        return [info]
    parts = [choice for part in info.types for choice in _choices(part, raw)]
    tagged: list[inspect.Type] = [
        part
        for part in parts
        if isinstance(part, inspect.StructType)
        and isinstance(raw, dict)
        and raw.get(str(part.tag_field)) == part.tag
    ]
    return tagged or parts


def _inner(info: inspect.Type, step: str) -> list[inspect.Type]:
    """Return the type of a field or item."""
    match info:
        case inspect.StructType():
            return [field.type for field in info.fields if field.encode_name == step]
        case inspect.TupleType() if step.isdecimal():
            return [info.item_types[int(step)]]
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType():
            return [info.item_type]
        case inspect.DictType():
            return [info.value_type]
    return []
