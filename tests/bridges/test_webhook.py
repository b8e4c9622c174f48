"""`bridge webhook` with a real server, which answers 500, hangs, and comes back."""

import base64
import hashlib
import hmac
import json
import random
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from bridged import bridge, growing, wait_until
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from streamvis.bridges.dead_letters import DeadLetters
from streamvis.bridges.selection import is_lifecycle
from streamvis.bridges.webhook import id_of, key_of, signature, webhook_at
from streamvis.cli.main import app
from streamvis.errors import DataError, UsageError
from streamvis.events.log import Row

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef").decode()
QUICK = ("--retry-first-s", "0.02", "--retry-longest-s", "0.1", "--timeout-s", "0.3")
PARTS = (b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nthis")


class Server:
    """Answers each request with what `answers` gives: a status, `hang`, `cut`, or a part of 200."""

    def __init__(self, answers=lambda body: 200, port=0):
        self.answers = answers
        self.taken, self.requests = [], []  # bodies answered with 2xx; headers of all
        self.open = []  # connections
        self.paused = threading.Event()  # hanging requests wait for it
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                super().setup()
                server.open.append(self.connection)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.requests.append((self.path, dict(self.headers), body))
                server.answer(self, body)

            def log_message(self, *_):
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = False
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook?key=1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    def answer(self, handler, body):
        answer = self.answers(body)
        handler.close_connection = answer in ("hang", "cut") or answer in PARTS
        if answer == "hang":
            self.paused.wait(20)
        elif answer in PARTS:
            handler.wfile.write(answer)
        elif answer != "cut":
            if 200 <= answer < 300:
                self.taken.append(body)
            handler.send_response(answer)
            if answer == 429:
                handler.send_header("Retry-After", "0")
            text = b"" if answer == 204 else b"ok"
            handler.send_header("Content-Length", str(len(text)))
            handler.end_headers()
            handler.wfile.write(text)

    def close(self):
        self.paused.set()
        self._http.shutdown()
        self._thread.join()
        for one in self.open:
            with suppress(OSError):  # it is closed already
                one.shutdown(socket.SHUT_RDWR)
        self._http.server_close()


@contextmanager
def serving(answers=lambda body: 200, port=0):
    server = Server(answers, port)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


def lifecycle(log):
    return [row.payload for row in log.rows if is_lifecycle(row.type)]


def all_there(log, *servers):
    taken = [body for server in servers for body in server.taken]
    return list(dict.fromkeys(taken)) == lifecycle(log)


def test_requests_are_signed_in_order_and_of_the_selected_events(tmp_path, secret):
    with serving() as server, growing(tmp_path / "events.db") as log:
        log.walk("a", 1)
        log.finish("a")
        url = server.url.replace("//", "//joe:s3cret@")
        words = ("webhook", url, "--log", tmp_path, "--secret-file", secret, "--until-ended")
        with bridge(*words) as running:
            assert running.wait() == 0, running.said
        assert all_there(log, server)
        with bridge(*words, "--name", "ends", "--type", "track.end") as running:
            assert running.wait() == 0, running.said
    assert [json.loads(body)["type"] for body in server.taken[3:]] == ["track.end"]
    for path, headers, body in server.requests:
        assert path == "/hook?key=1"
        assert headers["webhook-id"] == json.loads(body)["id"]
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        digest = hmac.digest(b"0123456789abcdef", signed, hashlib.sha256)
        assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
        assert headers["Content-Type"] == "application/json"
        assert headers["Authorization"] == f"Basic {base64.b64encode(b'joe:s3cret').decode()}"


def test_a_server_in_any_trouble_costs_delay_and_no_event(tmp_path, secret):
    """500, silence, ended connections, half answers; then it is away, and the bridge is killed."""
    chance = random.Random(2)
    troubles = [200, 200, 200, 204, 500, 503, 429, 408, 302, "hang", "cut", *PARTS]
    with ExitStack() as started, growing(tmp_path / "events.db") as log:
        with serving(lambda body: chance.choice(troubles)) as server:
            words = ("webhook", server.url, "--log", tmp_path, "--secret-file", secret, *QUICK)
            running = started.enter_context(bridge(*words))
            for number in range(20):
                log.walk(chance.choice("ab"), number)
            wait_until(lambda: len(server.taken) > 5, lambda: running.said)
            running.kill()
            running = started.enter_context(bridge(*words))
            wait_until(lambda: len(server.taken) > 15, lambda: running.said)
        for number in range(5):  # while it is away
            log.walk(chance.choice("ab"), number)
        running.wait_for("refused")
        with serving(port=server.port) as back:
            wait_until(lambda: all_there(log, server, back), lambda: running.said)
            assert running.stop() == 0, running.said
    assert not (tmp_path / "bridge-webhook.dead.jsonl").exists()


def test_what_is_refused_is_kept_listed_and_does_not_hold_up_the_rest(tmp_path, secret):
    def answers(body):
        return 422 if json.loads(body)["type"] == "track.begin" else 200

    with growing(tmp_path / "events.db") as log:
        log.walk("a", 1)
        log.walk("a", 2)
        log.finish("a")
    words = ["webhook", "--log", tmp_path]
    with serving(answers) as server:
        more = (server.url, "--secret-file", secret, "--until-ended")
        with bridge(*words, *more) as running:
            assert running.wait() == 0, running.said
        assert "refused for good, kept as dead letters" in running.said
        assert "3 messages delivered, 2 refused" in running.said
        (tmp_path / "bridge-webhook.json").unlink()
        with bridge(*words, *more) as running:  # once more: no letter is listed twice
            assert running.wait() == 0, running.said
    result = CliRunner().invoke(app, ["bridge", *map(str, words), "--dead-letters", "--json"])
    assert result.exit_code == 0, result.output
    listed = json.loads(result.stdout)
    begins = [json.loads(row.payload) for row in log.rows if row.type == "track.begin"]
    assert [one["event"] for one in listed] == begins
    assert {(one["status"], one["type"], one["source"]) for one in listed} == {
        (422, "track.begin", "a")
    }
    result = CliRunner().invoke(app, ["bridge", *map(str, words), "--dead-letters"])
    assert all(one["id"] in result.stdout for one in begins)


def test_a_server_that_hangs_does_not_hold_a_signal_up(tmp_path, secret):
    with serving(lambda body: "hang") as server, growing(tmp_path / "events.db") as log:
        log.walk("a", 1)
        words = ("webhook", server.url, "--log", tmp_path, "--secret-file", secret)
        with bridge(*words, "--timeout-s", "60") as running:
            wait_until(lambda: server.requests)
            assert running.stop() == 0, running.said
    assert "0 messages delivered" in running.said


def test_without_dead_letters_the_list_is_empty(tmp_path):
    words = ["bridge", "webhook", "--log", str(tmp_path), "--dead-letters", "--json"]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "`streamvis run … --out" in result.stderr
    with growing(tmp_path / "events.db"):
        result = CliRunner().invoke(app, words)
    assert json.loads(result.stdout) == []
    assert "no event was refused" in result.stderr


def test_certificates_that_are_not_there_are_a_usage_error(tmp_path, secret):
    words = ["https://127.0.0.1:1/", "--secret-file", secret, "--ca", "absent", "--log", tmp_path]
    result = CliRunner().invoke(app, ["bridge", "webhook", *map(str, words)])
    assert result.exit_code == 2
    assert "--ca absent cannot be read: No such file" in result.stderr


@given(st.binary(max_size=200))
def test_any_payload_is_kept_as_one_line(tmp_path_factory, payload):
    letters = DeadLetters(tmp_path_factory.mktemp("letters") / "dead.jsonl")
    row = Row("a", 0, 1, "track.end", 0, payload)
    for number in ("1", "2", "1"):
        letters.keep(number, row, 400, "Bad Request", 0.0)
    assert [one.id for one in letters.listed()] == ["2", "1"]


def test_a_file_that_holds_no_dead_letters_is_refused(tmp_path):
    (tmp_path / "dead.jsonl").write_text('{"id": 3}\n')
    with pytest.raises(DataError, match="line 1"):
        DeadLetters(tmp_path / "dead.jsonl").listed()


def test_the_signature_is_that_of_the_published_example():
    """The example of the specification, Standard Webhooks 1.0."""
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    found = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary())
def test_every_event_has_an_id_that_a_header_can_carry(payload):
    found = id_of(Row("a", 0, 1, "track.end", 0, payload))
    assert found.isascii()
    assert found.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "url", ["host/path", "ftp://h/x", "http://", "http://joe:pw@h:x/", "http://joe:pw@h/a b", "["]
)
def test_what_is_no_address_is_refused_without_its_password(url):
    with pytest.raises(UsageError, match="expected http://") as refused:
        webhook_at(url, "s")
    assert "pw" not in str(refused.value)


def test_a_secret_that_is_not_the_base64_that_it_announces_is_refused():
    with pytest.raises(UsageError, match="base64") as refused:
        key_of("whsec_%%%")
    assert "%%%" not in str(refused.value)
    assert key_of("plain") == b"plain"


def test_url_and_secret_are_needed(tmp_path):
    result = CliRunner().invoke(app, ["bridge", "webhook", "--log", str(tmp_path), "http://h/"])
    assert result.exit_code == 2
    assert "--secret-file" in result.output


def test_no_password_is_printed(tmp_path, secret):
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    with growing(tmp_path / "events.db") as log:
        log.walk("a", 1)
        url = f"http://joe:hunter2@127.0.0.1:{port}/hook?token=hunter3"
        words = ("webhook", url, "--log", tmp_path, "--secret-file", secret, *QUICK)
        with bridge(*words) as running:
            running.wait_for("cannot deliver")
            assert running.stop() == 0, running.said
    assert "hunter" not in running.said
    assert SECRET not in running.said
