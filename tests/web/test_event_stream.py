"""Events over WebSocket: nothing is missed or sent twice, and viewers cost little."""

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from event_logs import CORRECTED, WALK, logged
from web_servers import PATIENCE_S, received, serving, wait_for
from websockets.exceptions import ConnectionClosed, InvalidStatus

from streamvis.events.log import FILE_NAME, LogReader
from streamvis.events.snapshot import SourceState, fold
from streamvis.stages import event_codec
from streamvis.web import event_stream, server

SAMPLE = Path(__file__).parents[2] / "samples" / "subscribe_websocket.py"
MORE = CORRECTED[:3]


@pytest.fixture
def path(tmp_path):
    return tmp_path / FILE_NAME


@pytest.fixture
def client(tmp_path, path):
    logged(path, "cam1", WALK)
    with serving(tmp_path) as found:
        yield found


def append(path, source="cam1", whats=MORE, epoch="e1"):
    with LogReader(path) as log:
        known = log.cursors().get(source)
    return logged(path, source, whats, first=known.next if known else 0, epoch=epoch)


def state_of(path, source):
    """Return the events of a snapshot, folded anew."""
    state = SourceState()
    with LogReader(path) as log:
        for row in log.events(source):
            fold(state, row.payload, event_codec().identities)
    return [json.loads(payload) for payload in state.events()]


def events_in(messages):
    return [event for m in messages if m["kind"] == "events" for event in m["events"]]


def payloads(rows):
    return [json.loads(row.payload) for row in rows]


def closed_with(stream):
    """Return the code with which the server ends a connection."""
    while True:
        try:
            stream.recv(timeout=PATIENCE_S)
        except ConnectionClosed as closed:
            return closed.rcvd.code


def received_events(stream, count):
    found = []
    while len(found) < count:
        found += events_in([json.loads(stream.recv(timeout=PATIENCE_S))])
    return found


def test_first_comes_the_state_then_each_event(client, path):
    append(path, "cam2", WALK[:2])
    with client.stream() as stream:
        begin, *snapshots, idle = received(stream, "idle")
        assert (begin["kind"], begin["why"], begin["epoch"]) == ("begin", "start", "e1")
        assert begin["sources"] == [s["source"] for s in snapshots] == ["cam1", "cam2"]
        assert idle["cursor"] == f"e1:{len(WALK) + 2}"
        for snapshot in snapshots:
            assert snapshot["events"] == state_of(path, snapshot["source"])
        rows = [*append(path), *append(path, "cam2")]
        assert received_events(stream, len(rows)) == payloads(rows)


def test_with_the_cursor_nothing_is_missed_and_nothing_comes_twice(client, path):
    with client.stream() as stream:
        cursor = received(stream, "idle")[-1]["cursor"]
        first = append(path)
        message = received(stream, "events")[-1]
    assert message["events"] == payloads(first)
    second = append(path)
    for place, rows in ((message["cursor"], second), (cursor, [*first, *second])):
        with client.stream(f"?cursor={place}") as stream:
            begin, idle = received(stream, "idle")
            assert (begin["why"], begin["sources"], idle["cursor"]) == ("resumed", [], place)
            assert received_events(stream, len(rows)) == payloads(rows)


def test_only_what_is_asked_for(client, path):
    append(path, "cam2")
    with client.stream("?source=cam2&types=track.end,source") as stream:
        begin, snapshot, _ = received(stream, "idle")
        assert begin["sources"] == [snapshot["source"]] == ["cam2"]
        append(path, "cam1", WALK)
        rows = append(path, "cam2", WALK)
        wanted = [e for e in payloads(rows) if e["type"] in ("track.end", "source.eof")]
        assert len(wanted) == 2
        assert received_events(stream, 2) == wanted


def test_a_cursor_whose_events_are_evicted_begins_anew(client, path):
    rows = append(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM events WHERE id <= ?", (len(WALK) + 1,))
    with client.stream("?cursor=e1:2") as stream:
        begin, snapshot, idle = received(stream, "idle")
    assert (begin["why"], snapshot["offset"]) == ("evicted", rows[-1].offset)
    assert idle["cursor"] == f"e1:{len(WALK) + len(rows)}"
    with client.stream(f"?cursor=e1:{len(WALK) + 1}") as stream:  # nothing after it is evicted
        assert received(stream, "idle")[0]["why"] == "resumed"


def test_the_cursor_of_another_run_begins_anew(client):
    for cursor in ("e0:2", "e1:99"):
        with client.stream(f"?cursor={cursor}") as stream:
            begin = received(stream, "idle")[0]
        assert (begin["why"], begin["sources"]) == ("another_run", ["cam1"])


def test_a_log_that_is_replaced_begins_anew(client, path):
    with client.stream() as stream:
        received(stream, "idle")
        other = path.with_name("other.db")
        logged(other, "cam9", MORE, epoch="e2")
        other.replace(path)
        begin, snapshot, idle = received(stream, "idle")[-3:]
    assert (begin["why"], begin["epoch"], snapshot["source"]) == ("another_run", "e2", "cam9")
    assert idle["cursor"] == f"e2:{len(MORE)}"


def test_a_viewer_may_wait_for_a_log(tmp_path, path, monkeypatch):
    monkeypatch.setattr(event_stream, "IDLE_S", 0.05)
    monkeypatch.setattr(event_stream, "ATTEMPTS", 10_000)
    (tmp_path / "control.json").write_text("{}")
    with serving(tmp_path) as client, client.stream() as stream:
        assert received(stream, "idle") == [{"kind": "idle", "cursor": ""}]
        path.touch()  # as a run does first
        time.sleep(0.1)
        logged(path, "cam1", WALK)
        assert received(stream, "begin")[-1]["sources"] == ["cam1"]


def test_a_file_that_is_no_log_ends_the_connection(tmp_path, path, monkeypatch):
    monkeypatch.setattr(event_stream, "IDLE_S", 0.1)
    path.write_text("no database" * 100)
    with serving(tmp_path) as client, client.stream() as stream:
        assert closed_with(stream) == 1011
        assert client.get("/api/events").status == 404


def test_a_viewer_of_a_long_log_knows_that_the_connection_lives(client, monkeypatch):
    monkeypatch.setattr(event_stream, "IDLE_S", 0.05)
    take = event_stream.SourceSnapshots.take
    monkeypatch.setattr(
        event_stream.SourceSnapshots, "take", lambda self: time.sleep(0.4) or take(self)
    )
    with client.stream() as stream:
        *before, begin = received(stream, "begin")
        assert len(before) >= 2
        assert all(one == {"kind": "idle", "cursor": ""} for one in before)
        assert begin["sources"] == ["cam1"]
        assert received(stream, "idle")[-1]["cursor"] == f"e1:{len(WALK)}"
    with client.stream():  # one that leaves meanwhile
        pass
    wait_for(lambda: not client.server.server_state.connections)


def test_queries_and_messages_that_are_wrong(client):
    for query in ("?cursor=x", "?cursor=e1:-1", "?source=..", "?types=%27", "?what=1"):
        with pytest.raises(InvalidStatus) as refused, client.stream(query):
            pass
        assert refused.value.response.status_code == 400
        assert json.loads(refused.value.response.body)["error"]["where"] == "query"
    with client.stream() as stream:
        stream.send("hello")
        assert closed_with(stream) == 1008
    with client.stream() as stream:
        stream.send("x" * 2000)
        assert closed_with(stream) == 1009


def test_viewers_are_bounded_and_nobody_looks_at_the_log_without_one(client, monkeypatch):
    monkeypatch.setattr(event_stream, "MOST_VIEWERS", 2)
    looks = []
    look = event_stream.LogWatch.look
    monkeypatch.setattr(event_stream.LogWatch, "look", lambda one: looks.append(1) or look(one))
    with client.stream() as first, client.stream() as second:
        received(first, "idle")
        received(second, "idle")
        with pytest.raises(InvalidStatus) as refused, client.stream():
            pass
        assert refused.value.response.status_code == 503
    wait_for(lambda: not client.server.server_state.connections)
    assert looks
    seen = len(looks)
    time.sleep(3 * event_stream.LOOK_S)
    assert len(looks) == seen
    with client.stream() as stream:
        received(stream, "idle")


@contextmanager
def deaf_viewer(client):
    """A viewer that shakes hands, and reads nothing after that."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with closing(line):
        line.connect(("127.0.0.1", client.port))
        line.sendall(
            f"GET /ws/events HTTP/1.1\r\nHost: {client.host}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert b" 101 " in line.recv(1000)
        yield line


def test_a_viewer_that_does_not_read_holds_little_and_ends(client, path, monkeypatch):
    monkeypatch.setattr(server, "SWEEP_S", 0.05)
    connections = client.server.server_state.connections
    with deaf_viewer(client), client.stream() as stream:
        received(stream, "idle")
        rows = [row for _ in range(60) for row in append(path, whats=CORRECTED * 20)]
        total = sum(len(row.payload) for row in rows)
        assert total > 5_000_000
        most = 0
        found = 0
        while found < len(rows):  # the other one receives all of them
            found += len(events_in([json.loads(stream.recv(timeout=PATIENCE_S))]))
            sizes = [one.transport.get_write_buffer_size() for one in list(connections)]
            most = max(most, *sizes)
        assert len(connections) == 2
        assert most < 2 * event_stream.CHUNK_BYTES
        monkeypatch.setattr(server, "STALL_S", 0.1)
        wait_for(lambda: len(connections) == 1)
        assert client.get("/api/status").status == 200


def test_the_sample_prints_what_goes_on_and_what_comes(client, path):
    url = f"ws://{client.host}/ws/events?types=track,source"
    command = [sys.executable, str(SAMPLE), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sample:
        try:
            assert sample.stdout.readline() == "begin (start)\n"
            going_on = [sample.stdout.readline() for _ in state_of(path, "cam1")]
            assert going_on == [f"cam1 {e['type']} (going on)\n" for e in state_of(path, "cam1")]
            rows = append(path)
            lines = [sample.stdout.readline() for _ in rows]
            assert lines == [f"cam1 {r.type} {r.media_us / 1e6:.2f} s\n" for r in rows]
        finally:
            sample.send_signal(signal.SIGINT)
        assert sample.wait(PATIENCE_S) == 130
