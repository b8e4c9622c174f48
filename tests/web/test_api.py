"""The HTTP API on a run that is under way, and on one that is over."""

import json
import re

import jsonschema
import pytest
import yaml
from controlled_runs import NEW, camera, private_home, under_way
from event_logs import WALK, logged
from web_servers import serving

from streamvis.config import read_zones
from streamvis.errors import ConfigError
from streamvis.events.log import FILE_NAME
from streamvis.parsing import convert
from streamvis.runtime import control
from streamvis.zone_layout import MAX_SHAPES, ZoneLayout

DOOR = {"name": "door", "polygon": [[0.1, 0.5], [0.4, 0.5], [0.4, 0.9]]}
PLAIN_ERROR = {"message", "where", "found", "expected", "to_do"}


@pytest.fixture(scope="module")
def home():
    with private_home() as place:
        yield place


@pytest.fixture
def run(home, tmp_path):
    """A run with two cameras, of which `gate` has a zones file, and a log."""
    out = tmp_path / "out"
    out.mkdir()
    logged(out / FILE_NAME, "gate", WALK)
    zones = tmp_path / "gate.zones.yaml"
    zones.write_text("zones: []\n")
    gate = camera("gate", zones=ZoneLayout(), zones_file=str(zones))
    with under_way(gate, camera("yard"), out=out, zones=ZoneLayout()) as found:
        found.out = out
        found.zones_path = zones
        yield found


@pytest.fixture
def client(run):
    with serving(run.out) as found:
        yield found


@pytest.fixture
def over(tmp_path):
    """The server of a run that is over."""
    logged(tmp_path / FILE_NAME, "gate", WALK)
    with serving(tmp_path) as found:
        yield found


def test_the_status_of_a_run_is_that_of_the_command(client, run):
    found = client.get("/api/status").json
    status = json.loads(control.encode_reply(control.handle(control.GetStatus(), run.view()).reply))
    assert found["status"] == status["reply"]["status"]
    assert found["live"] is True
    assert found["run"]["pid"] == run.file.pid
    assert found["log"] == [
        {"id": "gate", "epoch": "e1", "oldest": 0, "next": len(WALK), "ending": "eof"}
    ]


def test_of_a_run_that_is_over_the_log_is_left(over):
    found = over.get("/api/status").json
    assert (found["live"], found["run"], found["status"]) == (False, None, None)
    assert [one["id"] for one in found["log"]] == ["gate"]
    (source,) = over.get("/api/sources").json["sources"]
    assert (source["id"], source["state"], source["reason"]) == ("gate", "ended", "eof")
    refused = over.ask("PUT", "/api/zones/gate", {"zones": []})
    assert refused.status == 503
    assert refused.error["found"] == "it is not under way"
    assert over.get("/health/live").status == over.get("/health/ready").status == 503
    assert over.get("/metrics").status == 503


def test_sources_are_those_of_the_command(client):
    found = client.get("/api/sources").json
    assert found["live"] is True
    assert [(s["id"], s["kind"], s["label"]) for s in found["sources"]] == [
        ("gate", "url", "rtsp://10.0.0.2/gate"),
        ("yard", "url", "rtsp://10.0.0.2/yard"),
    ]


def test_a_source_is_added_and_removed(client, run):
    new = {"id": "dock", "uri": NEW.uri, "settings": {"retry_s": "8", "open_s": "3"}}
    assert client.ask("POST", "/api/sources", new).json["added"] == ["dock"]
    assert run.specs["dock"] == NEW
    assert client.ask("DELETE", "/api/sources/dock").json["removed"] == ["dock"]
    assert run.ended["dock"] == "drained"


def test_what_the_run_refuses_has_the_message_of_the_command(client, run):
    refused = client.ask("DELETE", "/api/sources/gte")
    told = control.handle(control.Remove("gte"), run.view()).reply
    assert (refused.status, refused.error["found"]) == (404, told.message)
    again = client.ask("POST", "/api/sources", {"id": "gate", "uri": "rtsp://10.0.0.9/x"})
    told = control.handle(control.Add(camera("gate", "10.0.0.9")), run.view()).reply
    assert (again.status, again.error["found"]) == (409, told.message)


NOT_TO_ADD = [
    ({"id": "a", "uri": "/etc/passwd"}, "no address on the network"),
    ({"id": "a", "uri": "video.mp4"}, "no address on the network"),
    ({"id": "a", "uri": "@/etc/passwd"}, "no address on the network"),
    ({"id": "a", "uri": "0"}, "no address on the network"),
    ({"id": "a", "uri": "file:///etc/passwd"}, "no address on the network"),
    ({"id": "a", "uri": "rtsp://h/x#password_file=/etc/passwd"}, "no address on the network"),
    ({"id": "a", "uri": "rtsp://h/x", "settings": {"password_file": "p"}}, "password_file"),
    ({"id": "a", "uri": "rtsp://h/x", "settings": {"fps": "1&password_file=p"}}, "settings"),
    ({"id": "a", "uri": "rtsp://h/x", "settings": {"fps": "-1"}}, "fps=-1"),
    ({"id": "../a", "uri": "rtsp://h/x"}, "$.id"),
    ({"id": "a", "uri": "rtsp://h/x", "record": {}}, "unknown field `record`"),
    ({"id": "a"}, "missing required field `uri`"),
    ([], "Expected `object`"),
]


def test_sources_that_may_not_be_added(client, run):
    before = dict(run.specs)
    for new, word in NOT_TO_ADD:
        refused = client.ask("POST", "/api/sources", new)
        assert refused.status == 400, new
        assert word in refused.error["message"]
    assert run.specs == before


def test_zones_are_set_kept_and_listed(client, run):
    changed = client.ask("PUT", "/api/zones/gate", {"zones": [DOOR]}).json
    assert (changed["zones"], changed["file"]) == (1, str(run.zones_path))
    assert [zone.name for zone in read_zones(run.zones_path).zones] == ["door"]
    (listed,) = [s for s in client.get("/api/zones").json["sources"] if s["id"] == "gate"]
    assert listed["layout"]["zones"][0]["name"] == "door"
    again = client.ask("PUT", "/api/zones/gate", listed["layout"])  # as it was listed
    assert again.status == 200
    assert again.json["revision"] == changed["revision"] == listed["revision"]


def test_newer_zones_are_not_replaced_unless_it_is_wanted(client, run):
    def put(layout, revision=""):
        query = f"?revision={revision}" if revision else ""
        return client.ask("PUT", f"/api/zones/gate{query}", layout)

    (first,) = [
        s["revision"] for s in client.get("/api/zones").json["sources"] if s["id"] == "gate"
    ]
    second = put({"zones": [DOOR]}, first).json["revision"]
    desk = {"zones": [{**DOOR, "name": "desk"}]}
    refused = put(desk, first)
    assert refused.status == 412
    assert "has 1 zone and 0 lines now" in refused.error["message"]
    assert put({"zones": [DOOR]}, first).status == 200  # what is there already
    assert [zone.name for zone in read_zones(run.zones_path).zones] == ["door"]
    run.zones_path.write_text("zones: []  # by hand\n")
    refused = put(desk, second)
    assert refused.status == 412
    assert "was edited since" in refused.error["message"]
    assert run.zones_path.read_text() == "zones: []  # by hand\n"
    assert put(desk).status == 200
    assert [zone.name for zone in read_zones(run.zones_path).zones] == ["desk"]
    assert put(desk, "newest").status == 400


def test_a_zones_file_is_made_without_a_run(over, tmp_path):
    layout = {
        "zones": [{**DOOR, "crowd": 4}],
        "lines": [{"name": "l", "start": [0, 0], "end": [1, 1]}],
    }
    (tmp_path / "made.yaml").write_text(over.ask("POST", "/api/zones-file", layout).json["text"])
    assert read_zones(tmp_path / "made.yaml") == convert(layout, ZoneLayout, "it", ConfigError)
    refused = over.ask("POST", "/api/zones-file", {"zones": [DOOR, DOOR]})
    assert refused.status == 400
    assert "called 'door'" in refused.error["message"]


def test_as_many_zones_as_a_source_may_have_are_set(client, run):
    corners = [(0.1 + n / 7000, 0.1 + n / 9000) for n in range(MAX_SHAPES)]
    squares = [[(x, y), (x + 0.1, y), (x + 0.1, y + 0.1), (x, y + 0.1)] for x, y in corners]
    layout = {"zones": [{"name": f"z{n}", "polygon": one} for n, one in enumerate(squares)]}
    assert client.ask("PUT", "/api/zones/gate", layout).json["zones"] == MAX_SHAPES
    (listed,) = [s for s in client.get("/api/zones").json["sources"] if s["id"] == "gate"]
    assert client.ask("PUT", "/api/zones/gate", listed["layout"]).status == 200  # with defaults
    assert len(read_zones(run.zones_path).zones) == MAX_SHAPES


WRONG_ZONES = [
    {"zones": [{"name": "door", "polygon": [[0, 0], [1, 1]]}]},
    {"zones": [{"name": "door", "polygon": [[0, 0], [1, 1], [1, 0], [0, 1]]}]},
    {"zones": [DOOR, DOOR]},
    {"zones": [{**DOOR, "colour": "red"}]},
    {"zones": [{**DOOR, "polygon": [[0, 0], [2, 0], [2, 2]]}]},
    {"lines": [{"name": "gate", "start": [0, 0]}]},
    {"zones": 5},
]


def test_wrong_zones_have_the_message_of_the_command(client, run):
    before = run.zones_path.read_text()
    for layout in WRONG_ZONES:
        refused = client.ask("PUT", "/api/zones/gate", layout)
        with pytest.raises(ConfigError) as told:
            convert(yaml.safe_load(json.dumps(layout)), ZoneLayout, "body", ConfigError)
        assert refused.status == 400, layout
        assert refused.error["found"] == str(told.value).removeprefix("body: ")
    assert run.zones_path.read_text() == before


def test_metrics_and_health_are_those_of_the_run(client):
    metrics = client.get("/metrics")
    assert metrics.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert re.search(rb'streamvis_source_state\{source="gate",state="online"\} 1', metrics.body)
    assert client.get("/health/live").json == {"live": True, "reason": ""}
    ready = client.get("/health/ready")
    assert ready.status == (200 if ready.json["ready"] else 503)


def test_no_answer_has_the_password_of_a_source(client):
    paths = ("/api/status", "/api/sources", "/api/zones", "/api/events", "/metrics", "/")
    answers = [client.get(path) for path in (*paths, "/health/live", "/health/ready")]
    answers.append(client.ask("POST", "/api/sources", {"id": "gate", "uri": NEW.uri}))
    answers.append(
        client.ask("POST", "/api/sources", {"id": "x", "uri": "rtsp://joe:s3/cret@h:x/#"})
    )
    for answer in answers:
        assert b"s3cret" not in answer.body + bytes(answer.headers)
        assert b"s3/cret" not in answer.body


# The document


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def checked(document, operation, reply):
    """Raise unless the answer is one that the document describes."""
    media, content = next(iter(operation["responses"][str(reply.status)]["content"].items()))
    assert reply.headers["Content-Type"] == media
    if media == "application/json":
        schema = {**content["schema"], "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(reply.json)
    if reply.status >= 400 and media == "application/json" and "error" in reply.json:
        assert set(reply.error) == PLAIN_ERROR
        assert all(isinstance(text, str) for text in reply.error.values())


REQUESTS = [
    ("GET", "/api/status", None),
    ("GET", "/api/sources", None),
    ("GET", "/api/zones", None),
    ("GET", "/api/events?source=gate&from_us=1&to_us=100000&types=track&limit=2", None),
    ("GET", "/api/events?source=nobody", None),
    ("GET", "/api/events?limit=0", None),
    ("GET", "/api/picture/nobody", None),
    ("GET", "/api/picture/%2e%2e", None),
    ("GET", "/api/lanes?source=gate", None),
    ("GET", "/api/lanes?source=nobody", None),
    ("GET", "/api/resources", None),
    ("GET", "/api/summary", None),
    ("GET", "/api/clips?source=gate", None),
    ("GET", "/api/clips/gate/2026-11-29/080000-track.begin-abc.mp4?offset=0", None),
    ("GET", "/api/picture/gate?media_us=0", None),
    ("GET", "/metrics", None),
    ("GET", "/health/live", None),
    ("GET", "/health/ready", None),
    ("PUT", "/api/zones/gate", {"zones": [DOOR]}),
    ("PUT", "/api/zones/nobody", {"zones": []}),
    ("PUT", "/api/zones/gate", {"zones": [{}]}),
    ("PUT", "/api/zones/gate?revision=0123456789abcdef", {"zones": []}),
    ("POST", "/api/zones-file", {"zones": [DOOR]}),
    ("POST", "/api/zones-file", {"zones": [{}]}),
    ("POST", "/api/sources", {"id": "dock", "uri": "rtsp://10.0.0.2/dock"}),
    ("POST", "/api/sources", {"id": "dock", "uri": "dock"}),
    ("DELETE", "/api/sources/dock", None),
    ("DELETE", "/api/sources/%2e%2e", None),
    ("POST", "/api/login", {"token": "x"}),
    ("POST", "/api/logout", None),
]


@pytest.mark.parametrize("server", ["client", "over"])
def test_every_answer_is_as_the_document_says(server, request):
    client = request.getfixturevalue(server)
    document = client.get("/api/openapi.json").json
    known = {(method, path): found for method, path, found in operations(document)}
    asked = set()
    for method, path, body in REQUESTS:
        plain = re.sub(r"(zones|sources|picture)/.+", r"\1/{source}", path.partition("?")[0])
        plain = re.sub(r"(clips)/.+", r"\1/{source}/{date}/{name}", plain)
        asked.add((method, plain))
        checked(document, known[method, plain], client.ask(method, path, body))
    assert asked == set(known)


def test_the_document_lists_the_parameters_and_resolves(over):
    document = over.get("/api/openapi.json").json
    text = json.dumps(document)
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert names <= set(document["components"]["schemas"])
    events = document["paths"]["/api/events"]["get"]
    given = {one["name"]: one for one in events["parameters"]}
    assert list(given) == ["source", "from_us", "to_us", "types", "limit", "cursor"]
    assert all(one["description"] for one in given.values())
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    assert all(operation["summary"] for _, _, operation in operations(document))


def test_the_reference_lists_every_operation(over):
    page = over.get("/reference").body.decode()
    document = over.get("/api/openapi.json").json
    for method, path, _ in operations(document):
        assert f"{method} {path.replace('{source}', 'ID')}<" in page
