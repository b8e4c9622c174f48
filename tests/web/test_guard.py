"""Hostile requests: other sites, wrong tokens, names of this server that are not its own."""

import http.client
import json
import re
import socket
import time
from contextlib import closing, suppress

import pytest
from event_logs import WALK, logged
from web_servers import PATIENCE_S, serving, wait_for
from websockets.exceptions import InvalidStatus

from streamvis.events.log import FILE_NAME
from streamvis.web import guard
from streamvis.web.operations import LONGEST_BODY
from streamvis.web.zone_operations import LONGEST_LAYOUT

TOKEN = "a-token-of-this-test-0123456789"
PATHS = ("/", "/api/status", "/api/events", "/api/nothing", "/static/page.css", "/health/live")
WRITES = (
    ("POST", "/api/sources", {"id": "a", "uri": "rtsp://h/x"}),
    ("PUT", "/api/zones/gate", {"zones": []}),
    ("DELETE", "/api/sources/gate", None),
    ("POST", "/api/login", {"token": TOKEN}),
    ("POST", "/api/logout", None),
)


@pytest.fixture
def out(tmp_path):
    logged(tmp_path / FILE_NAME, "gate", WALK)
    return tmp_path


@pytest.fixture
def client(out):
    with serving(out) as found:
        yield found


@pytest.fixture
def locked(out, tmp_path):
    """A server that wants a token."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    with serving(out, token_file=file, names=["cameras.example"]) as found:
        yield found


def raw(client, data, until=b""):
    """Send bytes and return all that comes until the connection ends."""
    with closing(socket.create_connection(("127.0.0.1", client.port), PATIENCE_S)) as line:
        found = b""
        with suppress(ConnectionError):  # it ends while there are bytes that were not read
            line.sendall(data)
        with suppress(ConnectionError):
            while chunk := line.recv(65536):
                found += chunk
                if until and until in found:
                    break
        return found


def test_every_answer_has_the_headers(client):
    for path in PATHS:
        headers = client.get(path).headers
        assert {name: headers[name] for name in guard.HEADERS} == guard.HEADERS
        assert headers["Server"] is None
    policy = client.get("/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_the_page_has_nothing_that_its_policy_forbids(client):
    for path in ("/", "/reference"):
        page = client.get(path).body.decode()
        assert "<script" not in page.replace('<script type="module" src="/static/', "")
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<iframe|<base", page)
        assert not re.search(r"(?:src|href)=\"(?!/)", page)


def test_names_of_other_servers_are_refused(client, locked):
    for host in ("evil.example", f"evil.example:{client.port}", "localhost.evil.example", ""):
        refused = client.get("/api/status", Host=host)
        assert (refused.status, refused.error["where"]) == (421, "header Host")
    for host in (f"127.0.0.1:{client.port}", "localhost:1", "[::1]:8080", "192.0.2.7"):
        assert client.get("/api/status", Host=host).status == 200
    assert locked.get("/", Host="cameras.example:80").status == 200
    assert locked.get("/", Host="Cameras.Example").status == 200


def test_a_request_with_two_hosts_or_none_is_refused(client):
    two = b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    assert b" 400 " in raw(client, two).partition(b"\r\n")[0]
    assert b" 421 " in raw(client, b"GET /api/status HTTP/1.0\r\n\r\n").partition(b"\r\n")[0]


def test_writes_of_pages_of_other_sites_are_refused(client):
    for method, path, body in WRITES:
        for origin in ("http://evil.example", "null", "http://localhost:1", "https://127.0.0.1"):
            refused = client.ask(method, path, body, Origin=origin)
            assert (refused.status, refused.error["where"]) == (403, "header Origin")
        other = client.ask(method, path, body, Sec_Fetch_Site="cross-site")
        assert other.status == 403
        own = client.ask(method, path, body, Origin=f"http://{client.host}")
        assert own.status in (200, 503)  # there is no run


def test_pages_of_other_sites_may_link_here_and_ask_for_nothing(client):
    for site in ("cross-site", "same-site"):
        for path in PATHS:
            for mode in ("no-cors", "cors"):  # of <img>, <script> and fetch
                refused = client.get(path, Sec_Fetch_Site=site, Sec_Fetch_Mode=mode)
                assert (refused.status, refused.error["where"]) == (403, "header Sec-Fetch-Site")
        assert client.get("/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate").status == 200
        own = client.get("/api/status", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors")
        assert own.status == 200


def test_websockets_of_pages_of_other_sites_are_refused(client):
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        with pytest.raises(InvalidStatus) as refused, client.stream(additional_headers=headers):
            pass
        assert refused.value.response.status_code == 403
        assert json.loads(refused.value.response.body)["error"]["found"]
        assert refused.value.response.headers["X-Frame-Options"] == "DENY"
    with client.stream(origin=f"http://{client.host}") as stream:
        assert stream.recv(timeout=PATIENCE_S)


def test_without_the_token_there_is_only_the_page(locked):
    for path in ("/api/status", "/api/events", "/metrics", "/health/live", "/api/openapi.json"):
        refused = locked.get(path)
        assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert b"gate" not in refused.body
    assert locked.get("/").status == locked.get("/static/page.css").status == 200
    with pytest.raises(InvalidStatus) as refused, locked.stream():
        pass
    assert refused.value.response.status_code == 401


def test_a_login_gives_a_cookie_that_opens_everything(locked):
    login = locked.ask("POST", "/api/login", {"token": TOKEN})
    assert login.json["needs_token"] is True
    given = login.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(given.split("; "))
    assert TOKEN not in given
    cookie = given.partition(";")[0]
    assert locked.get("/api/status", Cookie=cookie).status == 200
    assert locked.get("/api/status", Cookie=f"a=b; {cookie}").status == 200
    with locked.stream(additional_headers={"Cookie": cookie}) as stream:
        assert stream.recv(timeout=PATIENCE_S)
    assert locked.get("/api/status", Authorization=f"Bearer {TOKEN}").status == 200
    name, _, value = cookie.partition("=")
    expiry, _, mac = value.partition(".")
    forged = (f"{int(expiry) + 1}.{mac}", f"{expiry}.{'0' * 64}", "", ".", "9" * 4000, "\xb2.\xb2")
    for other in forged:
        assert locked.get("/api/status", Cookie=f"{name}={other}".encode("latin-1")).status == 401
    gone = locked.ask("POST", "/api/logout", Cookie=cookie).headers["Set-Cookie"]
    assert "Max-Age=0" in gone


def test_wrong_tokens_are_counted(locked):
    for guess in ("", "x", TOKEN[:-1], f"{TOKEN} ", "é"):
        assert locked.ask("POST", "/api/login", {"token": guess}).status == 401
    refused = locked.ask("POST", "/api/login", {"token": TOKEN})  # also the right one waits
    assert refused.status == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 7
    assert locked.get("/api/status", Authorization=f"Bearer {TOKEN}").status == 429


LONGEST = {"PUT /api/zones/gate": LONGEST_LAYOUT, "POST /api/login": LONGEST_BODY}


@pytest.mark.parametrize("what", LONGEST)
def test_a_body_that_is_too_long_is_not_read(client, what):
    for size in (LONGEST[what] + 1, 50_000_000):
        head = f"{what} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
        assert b" 413 " in raw(client, head.encode()).partition(b"\r\n")[0]
    for wrong in ("-1", "1e9", "9" * 400):
        head = f"{what} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {wrong}\r\n\r\n"
        status = raw(client, head.encode()).partition(b"\r\n")[0]
        assert b" 413 " in status or b" 400 " in status


@pytest.mark.parametrize("what", LONGEST)
def test_a_body_in_chunks_is_bounded_too(client, what):
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    head = f"{what} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with suppress(ConnectionResetError):  # what was sent after the answer is not read
        assert b" 413 " in raw(client, head + chunk * (LONGEST[what] // 0x10000 + 1))
    assert client.get("/").status == 200


def test_a_body_that_does_not_come_is_given_up(client, monkeypatch):
    monkeypatch.setattr(guard, "BODY_S", 0.2)
    head = b"PUT /api/zones/gate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
    assert b" 408 " in raw(client, head, b"}}").partition(b"\r\n")[0]


def test_an_answer_that_does_not_come_is_given_up(client, monkeypatch):
    monkeypatch.setattr(guard, "REQUEST_S", 0.1)
    monkeypatch.setattr("streamvis.web.api.page_of", lambda *_: time.sleep(0.5))
    refused = client.get("/api/events")
    assert (refused.status, refused.error["where"]) == (503, "the server")


def test_an_error_of_its_own_is_answered_and_logged(client, monkeypatch, capsys):
    monkeypatch.setattr("streamvis.web.api.page_of", lambda *_: 1 / 0)
    refused = client.get("/api/events")
    assert refused.status == 500
    assert b"division" not in refused.body
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert client.get("/api/status").status == 200


def test_what_is_no_json_is_refused(client):
    json_type = {"Content_Type": "application/json"}
    deep = b"[" * 60_000
    for body in (b"", b"{", b"\xff", b"nul", b'{"zones": [NaN]}', deep, b'{"zones": ' + deep):
        assert client.ask("PUT", "/api/zones/gate", body, **json_type).status == 400
    half = b'{"zones": [{"name": "\\ud800", "polygon": []}]}'
    assert client.ask("PUT", "/api/zones/gate", half, **json_type).status == 400
    for other in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert client.ask("PUT", "/api/zones/gate", b"{}", Content_Type=other).status == 415


def test_paths_lead_to_no_other_files(client):
    for path in (
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2fserver.py",
        "/static//etc/passwd",
        "//etc/passwd",
        "/static/page.css/",
        "/static/page.css%00.html",
        "/../../../../etc/passwd",
        "/api/zones/../../etc/passwd",
    ):
        for method in ("GET", "PUT"):
            assert client.ask(method, path, b"").status in (404, 405), path
    for name in ("..%2f..%2fetc%2fpasswd", "%2e%2e", "a%00b", "A", "a" * 65, "%ff", "%0d%0aX:y"):
        refused = client.ask("PUT", f"/api/zones/{name}", {"zones": []})
        assert refused.status in (400, 404), name
        assert b"root:" not in refused.body
        assert refused.headers["X"] is None


def test_queries_that_are_wrong_are_named(client):
    for query, word in (
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "twice"),
        ("cursor=-1", "cursor"),
        (f"cursor={2**64}", "cursor"),
        ("source=../x", "source"),
        ("source=a'%20OR%201=1", "source"),
        ("types=%27", "types"),
        (f"types={'a,' * 40}a", "types"),
        ("form_us=1", "did you mean from_us"),
        ("%00=1", "unknown field"),
    ):
        refused = client.get(f"/api/events?{query}")
        assert refused.status == 400, query
        assert word in refused.error["message"]
        assert refused.error["message"].isprintable()
    assert client.get(f"/api/events?{'x' * 5000}").status == 414


def test_methods_that_are_none_are_refused(client):
    for method in ("POST", "PATCH", "OPTIONS", "TRACE", "QUERY"):
        refused = client.ask(method, "/api/status", b"")
        assert (refused.status, refused.error["where"]) == (405, "path")
        assert refused.headers["Access-Control-Allow-Origin"] is None
    line = http.client.HTTPConnection("127.0.0.1", client.port, timeout=PATIENCE_S)
    with closing(line):
        line.request("HEAD", "/api/status")
        answer = line.getresponse()
        assert (answer.status, answer.read()) == (200, b"")


def test_bytes_that_are_no_request_end_the_connection(client):
    for data in (b"\x00" * 100, b"GET / HTTP/1.1\r\nA: " + b"a" * 100_000, b"\x16\x03\x01\x02\x00"):
        assert b" 400 " in raw(client, data + b"\r\n\r\n").partition(b"\r\n")[0]
    wait_for(lambda: client.get("/").status == 200)
