"""Every operation of the OpenAPI document with hostile inputs, made from the document itself.

Whatever comes, the answer is one that the document describes, none is an error of the server's own,
and none shows the inside of the program.
"""

import json
import re
from contextlib import ExitStack, suppress
from urllib.parse import quote

import pytest
from controlled_runs import camera, private_home, under_way
from event_logs import WALK, logged
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from web_servers import PATIENCE_S, serving
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from streamvis.events.log import FILE_NAME
from streamvis.zone_layout import ZoneLayout

EXAMPLES = 40  # requests of each operation to each server
OF_THE_PATH = (404, 405, 414)  # of what is no operation, or too long
INSIDE = re.compile(rb'Traceback|File "|\.py\b|object at 0x|site-packages|/proc/')
PLAIN_ERROR = {"message", "where", "found", "expected", "to_do"}
CAMERAS = "\U0001f3a5" * 40  # 160 bytes
HOSTILE = st.sampled_from(
    [
        *(
            "",
            "..",
            "../../etc/passwd",
            "%2e%2e%2f",
            "gate'--",
            "a" * 65,
            "a" * 3000,
            "\x00",
            "\r\nX: y",
        ),
        *("<script>", "é" * 40, CAMERAS, "NaN", "-1", "1e999", "9" * 400, "0x10", "null"),
        *("[]", "{}", "gate", "GATE", "gate\n", "\ud800".encode("utf-8", "replace").decode()),
    ]
)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | HOSTILE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HOSTILE, inner, max_size=3),
    max_leaves=8,
)
SETTINGS = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,  # the same requests each time; a failure is found again
)


@pytest.fixture
def servers(tmp_path):
    """A server of a run that is under way, and one of a run that is over."""
    with ExitStack() as stack:
        stack.enter_context(private_home())
        out, over = tmp_path / "run", tmp_path / "over"
        for folder in (out, over):
            folder.mkdir()
            logged(folder / FILE_NAME, "gate", WALK)
        gate = camera("gate", zones=ZoneLayout())
        stack.enter_context(under_way(gate, camera("yard"), out=out, zones=ZoneLayout()))
        yield [stack.enter_context(serving(folder)) for folder in (out, over)]


def fitting(schema, parts):
    """Values that fit a schema of the document, and now and then one that does not."""
    good = _fitting(schema, parts)
    return st.integers(0, 9).flatmap(lambda chance: JUNK if chance == 0 else good)


def _fitting(schema, parts):
    if "$ref" in schema:
        return _fitting(parts[schema["$ref"].rpartition("/")[2]], parts)
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return st.one_of(*(fitting(one, parts) for one in schema[several]))
    match schema.get("type"):
        case "object":
            return _objects(schema, parts)
        case "array":
            inner = schema.get("items") or {}
            rows = st.lists(fitting(inner, parts) if inner else JUNK, max_size=6)
            if "prefixItems" in schema:
                exact = st.tuples(*(fitting(one, parts) for one in schema["prefixItems"]))
                return exact.map(list) | rows
            return rows
        case "string":
            return st.from_regex(schema["pattern"]) if "pattern" in schema else st.text() | HOSTILE
        case "integer":
            return st.integers() | st.integers(0, 100)
        case "number":
            return st.floats(0, 1) | st.floats()
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
    return JUNK


def _objects(schema, parts):
    known = schema.get("properties", {})
    required = set(schema.get("required", ()))
    fixed = {name: fitting(one, parts) for name, one in known.items() if name in required}
    others = {name: fitting(one, parts) for name, one in known.items() if name not in required}
    extra = st.dictionaries(HOSTILE, JUNK, max_size=1) if not known else st.just({})
    return st.builds(
        lambda one, two: {**two, **one}, st.fixed_dictionaries(fixed, optional=others), extra
    )


def requests(document, path, operation):
    """Requests of one operation: path with query, body or None, headers."""
    parts = document["components"]["schemas"]
    given_ = operation.get("parameters", [])
    values = {
        (one["in"], one["name"]): fitting(one["schema"], parts) | HOSTILE | st.just("gate")
        for one in given_
    }
    needed = {key: value for key, value in values.items() if key[0] == "path"}
    optional = {key: value for key, value in values.items() if key[0] == "query"}
    content = operation.get("requestBody", {}).get("content", {})
    body = st.none()
    for schema in (one["schema"] for one in content.values()):
        body = fitting(schema, parts).map(_as_json) | st.binary(max_size=60)
    media = st.sampled_from(["application/json"] * 8 + ["text/plain", "", "application/json; x"])
    extra = st.dictionaries(HOSTILE, HOSTILE, max_size=1)  # parameters that there are not
    return st.tuples(
        st.builds(
            lambda fixed, more, odd: _address(path, {**fixed, **more}, odd),
            st.fixed_dictionaries(needed),
            st.fixed_dictionaries({}, optional=optional),
            st.just({}) | st.just({}) | extra,
        ),
        body,
        media,
    )


def _as_json(value):
    return json.dumps(value).encode()


def _address(path, values, odd):
    for (where, name), value in values.items():
        if where == "path":
            path = path.replace(f"{{{name}}}", quote(_text(value), safe=""))
    query = [(name, value) for (where, name), value in values.items() if where == "query"]
    query += odd.items()
    pairs = "&".join(
        f"{quote(name, safe='')}={quote(_text(value), safe='')}" for name, value in query
    )
    return f"{path}?{pairs}" if pairs else path


def _text(value):
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", "replace").decode()


def checked(operation, reply):
    """Raise unless the answer is one of the documented ones, and shows nothing of the inside."""
    documented = {int(status) for status in operation["responses"]}
    assert reply.status in documented | set(OF_THE_PATH), reply.body[:300]
    assert not INSIDE.search(reply.body)
    assert not INSIDE.search(bytes(reply.headers))
    if reply.headers["Content-Type"] == "application/json":
        found = reply.json
        if "error" in found:
            assert set(found["error"]) == PLAIN_ERROR
            assert all(text.isprintable() for text in found["error"].values())


def harmless(servers, method, operation, made):
    """Send requests of one operation."""

    @SETTINGS
    @given(made)
    def never_breaks(request):
        address, body, media = request
        headers = {"Content_Type": media} if body is not None else {}
        for client in servers:
            checked(operation, client.ask(method, address, body, **headers))

    never_breaks()


def test_whatever_comes_is_answered_as_the_document_says(servers, capsys):
    document = servers[0].get("/api/openapi.json").json
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            harmless(servers, method.upper(), operation, requests(document, path, operation))
    assert "a request failed" not in capsys.readouterr().err
    assert all(client.get("/api/status").status == 200 for client in servers)


@pytest.mark.parametrize("path", ["/ws/events", "/ws/video/gate", "/ws/video/", "/ws/"])
def test_whatever_comes_over_a_websocket_harms_nobody(servers, path, capsys):
    @settings(SETTINGS, max_examples=20)
    @given(HOSTILE, HOSTILE, st.sampled_from(["source", "types", "cursor", "x"]), JUNK)
    @example("", CAMERAS, "x", None)
    def never_breaks(message, value, name, junk):
        end = quote(_text(value), safe="") if path.endswith("/") else ""
        query = "" if name == "x" else f"?{name}={quote(_text(value), safe='')}"
        for client in servers:
            address = f"ws://{client.host}{path}{end}{query}"
            with (
                suppress(InvalidStatus, ConnectionClosed),
                connect(address, open_timeout=PATIENCE_S, max_size=None) as line,
            ):
                line.send(message)
                line.send(json.dumps(junk))
                line.send(json.dumps({"ack": junk}))
                line.send(message.encode())

    never_breaks()
    assert "a request failed" not in capsys.readouterr().err
    for client in servers:
        assert client.get("/api/status").status == 200
        assert client.get("/api/resources").json["viewers"].get("/ws/nothing", 0) == 0
