import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing, contextmanager

import msgspec
import pytest
import zmq
from event_logs import CORRECTED, LEFT, WALK, logged, track_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamvis.events import replay
from streamvis.events.log import Cursor, LogReader, LogWriter, Row
from streamvis.events.replay import LogStates, Replay
from streamvis.events.replay_process import ReplayProcess, addresses_beside
from streamvis.events.replay_protocol import decode_reply
from streamvis.events.retention import Evictor, Retention
from streamvis.events.source_events import SourceOnline, Stream
from streamvis.stages import event_codec
from streamvis.stages.track.events import TrackBegin, TrackUpdate

IDENTITIES = event_codec().identities
PATIENCE_MS = 20_000


@contextmanager
def replaying(path, store=None):
    with closing(LogReader(path)) as log:
        yield Replay(log, IDENTITIES, store)


def asked(server, **request):
    (frame,) = server.handle([json.dumps(request).encode()])
    decode_reply([frame])
    return json.loads(frame)


@pytest.fixture
def log(tmp_path):
    logged(tmp_path / "events.db", "cam1", WALK)
    logged(tmp_path / "events.db", "cam2", CORRECTED)
    return tmp_path / "events.db"


def test_a_snapshot_has_the_state_and_the_place_of_each_source(log):
    with replaying(log) as server:
        reply = asked(server, get="snapshot", id=7)
    assert (reply["reply"], reply["id"], sorted(reply["sources"])) == (
        "snapshot",
        7,
        ["cam1", "cam2"],
    )
    cam1 = reply["sources"]["cam1"]
    events = cam1.pop("events")
    assert [(one["type"], one["offset"]) for one in events] == [
        ("track.begin", 2),
        ("source.eof", 4),
    ]
    assert cam1 == {
        "epoch": "e1",
        "first": 0,
        "oldest": 0,
        "offset": 4,
        "ending": "eof",
        "tseq": {"track": 4, "source": 5},
    }


def test_a_cursor_is_a_snapshot_without_events_and_a_source_can_be_named(log):
    with replaying(log) as server:
        reply = asked(server, get="cursor", source="cam2")
        assert asked(server, get="snapshot", source="cam9")["sources"] == {}
    assert sorted(reply["sources"]) == ["cam2"]
    assert "events" not in reply["sources"]["cam2"]


def test_events_come_as_they_were_logged(log):
    with replaying(log) as server, LogReader(log) as reader:
        reply = asked(server, get="events", source="cam1", from_offset=1, to_offset=3)
        rows = [json.loads(row.payload) for row in reader.events("cam1", first=1, last=3)]
        assert (reply["events"], reply["next"], reply["more"]) == (rows, 4, False)
        ends = asked(server, get="events", source="cam1", from_offset=0, types=["track.end"])
        assert [one["type"] for one in ends["events"]] == ["track.end"]
        tracks = asked(server, get="events", source="cam1", from_offset=0, types=["track"])
        assert [one["offset"] for one in tracks["events"]] == [0, 1, 2, 3]
        later = asked(server, get="events", source="cam1", from_offset=5)
        assert (later["events"], later["next"], later["more"]) == ([], 5, False)
        assert asked(server, get="events", source="cam9", from_offset=0)["reply"] == "error"


def test_replies_are_bounded_and_continue(tmp_path, monkeypatch):
    monkeypatch.setattr(replay, "MOST_EVENTS", 7)
    monkeypatch.setattr(replay, "MOST_OFFSETS", 10)
    updates = [(n, TrackUpdate(track_of(n % 3, LEFT))) for n in range(50)]
    logged(tmp_path / "events.db", "cam1", updates)
    with replaying(tmp_path / "events.db") as server:
        got, first, more = [], 0, True
        while more:
            reply = asked(server, get="events", source="cam1", from_offset=first, to_offset=40)
            assert len(reply["events"]) <= 7
            assert reply["next"] > first
            got += [one["offset"] for one in reply["events"]]
            first, more = reply["next"], reply["more"]
        none = asked(server, get="events", source="cam1", from_offset=0, types=["zone"])
        assert (none["events"], none["next"], none["more"]) == ([], 10, True)
    assert got == list(range(41))


def test_what_is_no_longer_in_the_log_is_gone(tmp_path):
    logged(tmp_path / "events.db", "cam1", WALK, first=100)
    with replaying(tmp_path / "events.db") as server:
        reply = asked(server, get="events", source="cam1", from_offset=3)
        assert reply == {"reply": "gone", "source": "cam1", "oldest": 100, "id": 0}
        assert asked(server, get="cursor")["sources"]["cam1"]["oldest"] == 100


def test_the_state_grows_with_the_log(tmp_path):
    path = tmp_path / "events.db"
    with replaying(logged_until(path, 0, 3)) as server:
        assert offsets(asked(server, get="snapshot")) == [2]
        logged_until(path, 3, 10)
        assert offsets(asked(server, get="snapshot")) == [7, 8, 9]
        logged(path, "cam1", [(0, SourceOnline(Stream(label="x", w=1, h=1)))], first=10, epoch="e2")
        assert offsets(asked(server, get="snapshot")) == [10]


def logged_until(path, first, last):
    whats = [(n, TrackUpdate(track_of(n % 3 if last > 3 else 0, LEFT))) for n in range(first, last)]
    logged(path, "cam1", whats, first=first)
    return path


def offsets(reply):
    return [one["offset"] for one in reply["sources"]["cam1"]["events"]]


def test_a_log_that_is_still_being_read_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setattr(LogStates.advance, "__defaults__", (4,))
    with replaying(logged_until(tmp_path / "events.db", 0, 10)) as server:
        reply = asked(server, get="snapshot")
        assert (reply["reply"], reply["retry"]) == ("error", True)
        assert asked(server, get="status")["behind"] == 6
        while not server.advance():
            pass
        assert offsets(asked(server, get="snapshot")) == [7, 8, 9]


def test_states_are_stored_and_a_stored_state_is_continued(tmp_path, monkeypatch):
    monkeypatch.setattr(replay, "STORE_S", 0.0)
    path, store = tmp_path / "events.db", tmp_path / replay.STORE
    with replaying(logged_until(path, 0, 5), store) as server:
        expected = asked(server, get="snapshot")
    with LogReader(path) as log:
        states = LogStates(log, IDENTITIES, store)
        assert states.behind() == 0
        logged_until(path, 5, 9)
        assert states.behind() == 4
    for noise in (b"", b"noise", msgspec.msgpack.encode({"cam1": 3})):
        store.write_bytes(noise)
        with replaying(path, store) as server:
            assert asked(server, get="snapshot") != expected
            assert offsets(asked(server, get="snapshot")) == [6, 7, 8]


def test_a_snapshot_has_what_is_open_after_its_begin_was_evicted(tmp_path, monkeypatch):
    """Also when the server is started again, and for a source that was quiet since."""
    monkeypatch.setattr(replay, "STORE_S", 0.0)
    path, store = tmp_path / "events.db", tmp_path / replay.STORE
    clock = [0.0]
    online = SourceOnline(Stream(label="x", w=1, h=1))
    with replaying(logged_until(path, 0, 0), store) as server:
        for source in ("cam1", "quiet"):
            logged(path, source, [(0, online), (1, TrackBegin(track_of(1, LEFT)))])
        expected = asked(server, get="snapshot")
        for one in expected["sources"].values():
            assert [event["type"] for event in one["events"]] == ["source.online", "track.begin"]
        with closing(LogWriter(path, lambda: clock[0])) as writer:
            writer._db.execute("UPDATE hours SET hour = 0")
            clock[0] = 48 * 3600.0
            row = Row("cam2", 0, 1, "source.eof", 0, b"{}")
            writer.commit([row], [Cursor("cam2", "e1", 1, 1, "eof", b"")])
            with closing(Evictor(writer, Retention(keep_days=1), lambda: clock[0])) as evictor:
                assert evictor.evict() == 4
        assert states(asked(server, get="snapshot")) == states(expected)
    with replaying(path, store) as server:
        found = asked(server, get="snapshot")
        assert states(found) == states(expected)
        assert found["sources"]["quiet"]["oldest"] == 2
        assert asked(server, get="events", source="quiet", from_offset=0)["reply"] == "gone"


def states(reply):
    return {name: reply["sources"][name]["events"] for name in ("cam1", "quiet")}


MALFORMED = [
    *([], [b""], [b"", b"", b"{}"], [b"{}"], [b"[]"], [b"\xff\xfe"], [b'{"get":"all"}']),
    [b'{"get":"events","source":"cam1"}'],
    [b'{"get":"events","source":"cam1","from_offset":-1}'],
    [b'{"get":"events","source":"cam1","from_offset":1e99}'],
    [b'{"get":"events","source":7,"from_offset":0}'],
    [b'{"get":"events","source":"%s","from_offset":0}' % (b"x" * 100)],
    [b'{"get":"snapshot","id":"seven"}'],
    [b"[" * 5000],
]


@pytest.mark.parametrize("frames", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_requests_are_answered_with_an_error_and_counted(log, frames):
    with replaying(log) as server:
        reply = decode_reply(server.handle(frames)[-1:])
        assert "xpected" in reply.error
        assert (server.refused, server.answered) == (1, 0)
        assert asked(server, get="status")["refused"] == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.lists(st.binary(max_size=200), max_size=4))
def test_noise_never_raises(log, frames):
    with replaying(log) as server:
        assert decode_reply(server.handle(frames)[-1:]).error


def test_a_req_socket_gets_its_empty_frame(log):
    with replaying(log) as server:
        empty, reply = server.handle([b"", b'{"get":"status"}'])
    assert empty == b""
    assert decode_reply([reply]).requests == 0


@contextmanager
def served(log, addresses=("tcp://127.0.0.1:0",)):
    with closing(ReplayProcess(log, addresses, IDENTITIES)) as process:
        process.start()
        yield process


@contextmanager
def client(endpoint, kind=zmq.DEALER):
    context = zmq.Context()
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    try:
        yield socket
    finally:
        socket.close()
        context.term()


def reply_to(socket, **request):
    socket.send(json.dumps(request).encode())
    assert socket.poll(PATIENCE_MS), "no reply"
    return json.loads(socket.recv())


def test_the_server_is_a_process_that_comes_back_at_its_address(log):
    with served(log) as process, client(process.endpoint, zmq.REQ) as socket:
        assert sorted(reply_to(socket, get="snapshot")["sources"]) == ["cam1", "cam2"]
        os.kill(process.pid, signal.SIGKILL)
        with client(process.endpoint) as another:
            assert reply_to(another, get="status")["reply"] == "status"


def test_who_is_being_served_at_the_end_of_a_run_gets_the_rest(log):
    with served(log) as process, client(process.endpoint) as socket:
        assert reply_to(socket, get="status")["requests"] == 0
        thread = threading.Thread(target=lambda: process.close(linger=True))
        thread.start()
        assert reply_to(socket, get="snapshot")["reply"] == "snapshot"
        thread.join()


def test_hostile_peers_are_refused_and_others_served(log):
    with served(log) as process, client(process.endpoint) as rude, client(process.endpoint) as good:
        for _ in range(2000):  # more than its queue holds, and it reads no reply
            rude.send(b"noise")
        assert reply_to(good, get="status")["reply"] == "status"
        rude.send(b" " * 100_000)  # ends its connection
        rude.send_multipart([b"many"] * 50)
        assert reply_to(good, get="status")["refused"] > 0


@pytest.mark.parametrize(
    ("bind", "before", "addresses"),
    [
        ("tcp://127.0.0.1:5560", None, ["tcp://127.0.0.1:5561", "tcp://127.0.0.1:0"]),
        ("tcp://localhost:*", "tcp://127.0.0.1:7", ["tcp://127.0.0.1:7", "tcp://127.0.0.1:0"]),
        ("tcp://[::1]:5560", None, ["tcp://[::1]:5561", "tcp://[::1]:0"]),
        ("ipc:///run/feed", None, ["ipc:///run/feed-replay"]),
        *(("5560", None, []), ("tcp://eth0:1", None, []), ("ipc://", None, [])),
    ],
)
def test_where_it_listens(bind, before, addresses):
    assert addresses_beside(bind, before) == addresses


def test_an_address_in_use_and_a_path(log, tmp_path):
    with closing(ReplayProcess(log, ["tcp://127.0.0.1:0"], IDENTITIES)) as holder:
        taken = [holder.endpoint, "tcp://127.0.0.1:0"]
        with served(log, taken) as process, client(process.endpoint) as socket:
            assert process.endpoint != holder.endpoint
            assert reply_to(socket, get="status")["reply"] == "status"
    path = f"ipc://{tmp_path}/feed-replay"
    with served(log, [path]) as process, client(path) as socket:
        assert process.endpoint == path
        assert reply_to(socket, get="status")["reply"] == "status"
    assert not (tmp_path / "feed-replay").exists()


def test_the_server_does_without_numpy():
    """It is a process of each run that publishes: an import costs its start, and its memory."""
    code = "import sys, streamvis.events.replay; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
