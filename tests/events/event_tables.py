"""The tables of docs/events.md, from the types: each stands between a comment and its end.

<!-- generated: types track -->      the event types of a family
<!-- generated: members track.end --> the members of this type; of several types with a column that
                                      names them. Nested ones are `a.b`, in lists `a[].b`
<!-- generated: envelope -->         the members of every event
<!-- generated: clocks -->           the members of `time`
<!-- generated: families -->         the names of the families
<!-- end -->
"""

import inspect
import re

from msgspec.inspect import (
    BoolType,
    CustomType,
    DictType,
    FloatType,
    IntType,
    ListType,
    LiteralType,
    NoneType,
    StrType,
    StructType,
    TupleType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

from streamvis.events.codec import tag_of
from streamvis.events.envelope import ASIDE, Event, Time
from streamvis.events.schema import meanings_of, split_unit
from streamvis.stages import event_codec

BLOCK = re.compile(r"(<!-- generated: ([^\n]*) -->\n).*?(<!-- end -->)", re.DOTALL)
CODEC = event_codec()
HEAD = ["| member | type | unit | meaning |", "|---|---|---|---|"]
TYPE = "| `type` | text |  | `family.name`, such as `track.begin`; the heartbeat is `hb` |"
WORDS = {IntType: "integer", FloatType: "number", StrType: "text", BoolType: "true or false"}


def filled(page: str) -> str:
    """Return the page with its tables as the types have them."""
    return BLOCK.sub(lambda found: f"{found[1]}{table(found[2])}\n{found[3]}", page)


def table(what: str) -> str:
    match what.split():
        case ["envelope"]:
            rows = [row for row in member_rows(type_info(Event), but=ASIDE) if "`time." not in row]
            return "\n".join([*HEAD, rows[0], TYPE, *rows[1:]])
        case ["clocks"]:
            return "\n".join([*HEAD, *member_rows(type_info(Time), "time.")])
        case ["families"]:
            return ", ".join(f"`{name}`" for name in CODEC.families)
        case ["types", *families]:
            return types_table(families)
        case ["members", name]:
            return "\n".join([*HEAD, *rows_of(name)])
        case ["members", *names]:
            return shared_table(names)
    raise AssertionError(f"no such table: {what}")


def rows_of(name):
    kind = next(one for one in CODEC.types if tag_of(one) == name)
    (member,) = type_info(kind).fields
    return [*nested_rows(member.encode_name, member.type)]


def shared_table(names):
    """Return one table for several types, whose first column says which have the member."""
    owners = {}
    for name in names:
        for row in rows_of(name):
            owners.setdefault(row, []).append(f"`{name}`")
    rows = [
        f"| {'all' if len(types) == len(names) else ', '.join(types)} {row}"
        for row, types in owners.items()
    ]
    return "\n".join([f"| events {HEAD[0]}", f"|---{HEAD[1]}", *rows])


def types_table(families):
    rows = ["| type | member | meaning |", "|---|---|---|"]
    for kind in CODEC.types:
        if tag_of(kind).partition(".")[0] in families:
            members = ", ".join(f"`{field.encode_name}`" for field in type_info(kind).fields)
            rows.append(f"| `{tag_of(kind)}` | {members} | {sentence(kind)} |")
    return "\n".join(rows)


def sentence(kind):
    """Return the first paragraph of the docstring without its full stop, as cells have none."""
    first = inspect.getdoc(kind).partition("\n\n")[0].replace("\n", " ").removesuffix(".")
    return first[0].lower() + first[1:]


def member_rows(kind: StructType, prefix="", but=()):
    meanings = meanings_of(kind.cls)
    for field in kind.fields:
        if field.encode_name in but:
            continue
        unit, meaning = split_unit(field.encode_name, meanings[field.name])
        cells = f"`{prefix}{field.encode_name}`", type_text(field.type), unit, meaning
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        yield from nested_rows(f"{prefix}{field.encode_name}", field.type)


def nested_rows(name: str, kind: Type):
    """Return the rows of the members of a struct, or of the structs of a list."""
    match kind:
        case StructType():
            yield from member_rows(kind, f"{name}.")
        case VarTupleType(item_type=item) | ListType(item_type=item):
            yield from nested_rows(f"{name}[]", item)
        case DictType(value_type=value):
            yield from nested_rows(f"{name}.*", value)
        case UnionType(types=types):
            for one in types:
                yield from nested_rows(name, one)


def type_text(kind: Type) -> str:
    match kind:
        case StructType():
            return "object"
        case LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in values)
        case DictType(value_type=value):
            return f"{type_text(value)} by name"
        case VarTupleType(item_type=item) | ListType(item_type=item):
            return f"list of {type_text(item)}"
        case TupleType(item_types=items):
            return f"[{', '.join(map(type_text, items))}]"
        case UnionType(types=types):
            null = [" or null"] * any(isinstance(one, NoneType) for one in types)
            rest = [one for one in types if not isinstance(one, NoneType | CustomType)]
            return " or ".join(map(type_text, rest)) + "".join(null)
    return WORDS[type(kind)]
