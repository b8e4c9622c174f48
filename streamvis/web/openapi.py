"""The OpenAPI document of the operations, made from their types."""

from collections.abc import Sequence
from typing import Any

import msgspec

from streamvis import __version__
from streamvis.events.schema import meanings_of, split_unit, structs_of
from streamvis.web.operations import JSON, Operation
from streamvis.web.problems import ErrorBody

REFERENCE = "#/components/schemas/{name}"
MEANINGS = {
    206: "A part of the answer, as the header Range asks for.",
    400: "The request is wrong.",
    401: "The token is missing or wrong.",
    403: "The request comes from a page of another site, or from another user of the machine.",
    404: "There is no such thing.",
    408: "The body did not come in time.",
    409: "The run refuses the change, or what is asked for must not be shown.",
    410: "The events are evicted.",
    412: "What is to be replaced is newer than the request says.",
    413: "The body is too long.",
    415: "The body is not JSON.",
    421: "The name of the server in the request is not one of its names.",
    429: "Too many wrong tokens came from this address.",
    503: "The run is not under way, or does not answer.",
}
ALWAYS = (400, 401, 403, 421)
ON_WRITES = (408,)


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the document, OpenAPI 3.1."""
    kinds = dict.fromkeys(
        kind
        for one in operations
        for kind in (one.query, one.body, one.answer, ErrorBody)
        if kind is not None
    )
    _, parts = msgspec.json.schema_components(tuple(kinds), ref_template=REFERENCE)
    for kind in structs_of(tuple(kinds)):
        _describe(parts, kind.cls)
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, parts)
    for one in operations:
        parts.pop(one.query.__name__, None)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "streamvis",
            "version": __version__,
            "description": "State, events and pictures of a run. `GET /ws/events` and "
            "`GET /ws/video/SOURCE` are WebSockets.",
        },
        "paths": paths,
        "components": {
            "schemas": parts,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(one: Operation, parts: dict[str, Any]) -> dict[str, Any]:
    names = [part.strip("{}") for part in one.path.split("/") if part.startswith("{")]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]
    query = parts[one.query.__name__]
    for name, schema in query["properties"].items():
        described = dict(schema)
        meaning = described.pop("description", "")
        required = name in query.get("required", [])
        parameters.append(
            {
                "name": name,
                "in": "query",
                "required": required,
                "description": meaning,
                "schema": described,
            }
        )
    found: dict[str, Any] = {
        "operationId": getattr(one.call, "__name__", one.path),
        "summary": one.words,
        "responses": _responses(one),
    }
    if parameters:
        found["parameters"] = parameters
    if one.body is not None:
        content = {JSON: {"schema": _reference(one.body)}}
        found["requestBody"] = {"required": True, "content": content}
    if one.without_token:
        found["security"] = [{}]
    return found


def _responses(one: Operation) -> dict[str, Any]:
    """Return the answers by status."""
    schema = {"type": "string"} if one.answer is None else _reference(one.answer)
    answer = {one.media: {"schema": schema}}
    good = {str(status): {"description": "", "content": answer} for status in (200, *one.same)}
    refused = {JSON: {"schema": _reference(ErrorBody)}}
    statuses = {*one.statuses, *ALWAYS, *(ON_WRITES if one.method != "GET" else ())}
    bad = {
        str(status): {"description": MEANINGS[status], "content": refused}
        for status in sorted(statuses)
    }
    for status, response in good.items():
        response["description"] = "The answer." if status == "200" else MEANINGS[int(status)]
    return {**good, **bad}


def _reference(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": REFERENCE.format(name=kind.__name__)}


def _describe(parts: dict[str, Any], kind: type[msgspec.Struct]) -> None:
    """Add the meanings of the fields of a struct, which are the comments beside them."""
    part = parts.get(kind.__name__) or parts.get(f"{kind.__module__}.{kind.__qualname__}")
    if part is None:
        return
    rules = part.get("properties")
    if rules is None:  # a struct that is an array in JSON: its members are named nowhere else
        rules = dict(zip(kind.__struct_fields__, part["prefixItems"], strict=True))
        for name, rule in rules.items():
            rule["title"] = name
    for name, text in meanings_of(kind).items():
        unit, meaning = split_unit(name, text)
        words = "; ".join(filter(None, (meaning, unit and f"unit: {unit}")))
        if name in rules and words:
            rules[name]["description"] = words
