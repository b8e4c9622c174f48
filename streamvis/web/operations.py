"""What an operation of the API takes and gives; the routes and their document come from this table.

    Operation("GET", "/api/events", api.events, query=EventQuery, answer=EventPage)

Members of the query, and the body, are converted to their types before the function is called.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from starlette.datastructures import QueryParams

from streamvis.errors import StreamvisError
from streamvis.parsing import convert
from streamvis.sources.spec import ID
from streamvis.web.problems import RefusedError, shown

T = TypeVar("T", bound=msgspec.Struct)
JSON = "application/json"
LONGEST_BODY = 2**16  # bytes, unless an operation takes longer ones
LONGEST_LINE = 600  # characters of an error


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request, after its parts were checked."""

    path: Mapping[str, str] = {}
    query: Any = None  # of the type of the operation's query
    body: Any = None  # of the type of the operation's body
    address: str = ""  # that it comes from


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: a struct that is sent as JSON, bytes, or a file that may be asked for in parts."""

    value: msgspec.Struct | bytes | Path
    status: int = 200
    headers: dict[str, str] = {}


class NoQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path; the docstring of `call` is its description."""

    method: Literal["GET", "PUT", "POST", "DELETE"]
    path: str
    call: Callable[[Call], Answered]
    answer: type[msgspec.Struct] | None = None  # None: `media`
    media: str = JSON
    query: type[msgspec.Struct] = NoQuery
    body: type[msgspec.Struct] | None = None
    longest: int = LONGEST_BODY  # bytes of the body
    statuses: tuple[int, ...] = ()  # of its answers that are errors
    same: tuple[int, ...] = ()  # other statuses with the answer
    without_token: bool = False
    threads: int = 0  # of its own, and how many calls are made at once; 0: those of all others
    shared: bool = False  # where there is no token, every user of this machine may call it

    @property
    def words(self) -> str:
        """What it does."""
        return " ".join((self.call.__doc__ or "").split())


def query_of(operation: Operation, given: QueryParams) -> Any:
    """Return the parameters of a request; RefusedError names the one that is wrong."""
    return converted_query(operation.query, given)


def converted_query(kind: type[T], given: QueryParams) -> T:
    """Return parameters as a struct; RefusedError names the one that is wrong."""
    names = [name for name, _ in given.multi_items()]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise RefusedError(
            400, f"query parameter {shown(twice)}", "it is there twice", expected="it once"
        )
    return _converted(dict(given), kind, "query", strict=False)


def source_of(call: Call) -> str:
    """Return the id of a source in the path; RefusedError where it cannot be one."""
    name = call.path["source"]
    if not ID.fullmatch(name):
        raise RefusedError(
            400, "path", shown(name), expected="a source id of a-z, 0-9, '_' and '-' (1 to 64)"
        )
    return name


def body_of(operation: Operation, data: bytes, content_type: str) -> Any:
    """Return the body of a request; RefusedError says what is wrong in it, and where."""
    if operation.body is None:
        return None
    if content_type.partition(";")[0].strip().lower() != JSON:
        raise RefusedError(415, "header Content-Type", shown(content_type), expected=JSON)
    try:
        raw = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RefusedError(400, "body", f"no JSON: {error}", expected="a JSON object") from None
    return _converted(raw, operation.body, "body", strict=True)


def _converted(raw: Any, kind: type[T], where: str, *, strict: bool) -> T:
    try:
        return convert(raw, kind, where, _ConvertError, strict=strict)
    except _ConvertError as error:
        text = str(error).removeprefix(f"{where}: ")
        expected = f"the members of {kind.__name__}, as /api/openapi.json describes them"
        raise RefusedError(400, where, shown_line(text), expected=expected) from None
    except RecursionError:
        raise RefusedError(400, where, "its lists are nested too deep") from None


class _ConvertError(StreamvisError):
    """What `convert` raises here."""


def shown_line(text: str) -> str:
    """Return a text of an error on one line, shortened."""
    line = "".join(c if c.isprintable() else "?" for c in text)
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…"
