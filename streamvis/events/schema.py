"""The JSON Schema of event types, with the meaning and unit of each member.

Meanings are the comments beside the fields of the types, units the endings of their names
(`_us`, `_px`, …) or the beginning of the comment (`px; …`).
"""

import ast
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import msgspec
from msgspec.inspect import StructType, Type, multi_type_info

from streamvis.events.envelope import ASIDE, SCHEMA, Event, EventBody

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ID = f"urn:{SCHEMA.replace('.event/', ':event:')}"  # an absolute URI, as `$id` has to be
UNITS = {
    "_us": "µs",
    "_ms": "ms",
    "_px_s": "px/s",
    "_m_s": "m/s",
    "_m2": "m²",
    "_px": "px",
    "_bytes": "bytes",
    "_m": "m",
    "_s": "s",
}
_STATED = re.compile(r"(px|nats|bytes|frames/s|ms)(?:; |$)")


def json_schema(types: Sequence[type[EventBody]]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of events of these types on the wire."""
    (envelope, *bodies), parts = msgspec.json.schema_components(
        (Event, *types), ref_template="#/$defs/{name}"
    )
    for aside in ASIDE:
        parts["Event"]["properties"].pop(aside)
    for kind in structs_of((Event, *types)):
        name = kind.cls.__name__
        if name not in parts:  # several structs have it: msgspec adds their modules
            name = f"{kind.cls.__module__}.{kind.cls.__qualname__}"
        _describe(parts[name], kind)
    return {
        "$schema": DIALECT,
        "$id": ID,
        "title": SCHEMA,
        "allOf": [envelope, {"anyOf": bodies}],
        "$defs": parts,
    }


def _describe(part: dict[str, Any], kind: StructType) -> None:
    """Add to a definition what its fields mean."""
    meanings = meanings_of(kind.cls)
    for field in kind.fields:
        rule = part["properties"].get(field.encode_name)
        unit, meaning = split_unit(field.encode_name, meanings.get(field.name, ""))
        words = "; ".join(filter(None, (meaning, unit and f"unit: {unit}")))
        if rule is not None and words:
            rule["description"] = words


def structs_of(types: Iterable[type]) -> Iterator[StructType]:
    """Return the structs among these types and within them, each once."""
    seen: set[type] = set()
    left: list[Any] = list(multi_type_info(types))
    while left:
        one = left.pop(0)
        if isinstance(one, StructType):
            if one.cls in seen:
                continue
            seen.add(one.cls)
            yield one
            left += [field.type for field in one.fields]
        elif isinstance(one, Type):
            for name in one.__struct_fields__:
                value = getattr(one, name)
                inner = value if isinstance(value, tuple) else (value,)
                left += [each for each in inner if isinstance(each, Type)]


def split_unit(name: str, meaning: str) -> tuple[str, str]:
    """Return the unit, from the comment's beginning or the name's ending, and the rest of it."""
    if match := _STATED.match(meaning):
        return match[1], meaning[match.end() :]
    return next((unit for end, unit in UNITS.items() if name.endswith(end)), ""), meaning


@cache
def meanings_of(kind: type) -> dict[str, str]:
    """Return the comment beside and directly below each field of a class, by field.

    Without the source of the class, as in some installations, they are empty.
    """
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        return {}
    source = textwrap.dedent(source)
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    lines = enumerate(source.splitlines(), 1)
    alone = {number for number, text in lines if text.lstrip().startswith("#")}
    found: dict[str, str] = {}
    statement = ast.parse(source).body[0]
    for field in statement.body if isinstance(statement, ast.ClassDef) else []:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            line, texts = field.lineno, []
            while line <= (field.end_lineno or 0) or line in alone:
                texts += [comments[line]] if line in comments else []
                line += 1
            found[field.target.id] = " ".join(texts)
    return found
