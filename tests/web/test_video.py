"""Live pictures: each comes with the tracks of its own frame, and none is made without a viewer."""

import json
import struct
import time
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import zmq
from controlled_runs import camera, private_home, under_way
from event_logs import WALK, logged
from live_runs import running
from web_servers import PATIENCE_S, serving, wait_for
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from streamvis.events.feed import read_announcement
from streamvis.events.log import FILE_NAME
from streamvis.runtime.control import Restart
from streamvis.runtime.control_client import ask, find_run
from streamvis.sources.spec import SourceSpec
from streamvis.transport.keys import new_client, new_server
from streamvis.web import video

HEADER = struct.Struct("<BIQqqHH")  # as the contract says, not as the code does
JPEG, TRACKS = 1, 3


LIVE = {"kind": "state", "state": "live", "reason": "", "without_tracks": ""}


@pytest.fixture(autouse=True, scope="module")
def home():
    with private_home():
        yield


@pytest.fixture(scope="module")
def run(home, tmp_path_factory):
    """A run with two sources; the number of pictures encoded of each is counted."""
    out = tmp_path_factory.mktemp("run")
    sources = [toy(name, encoded=str(out / f"{name}.encoded")) for name in ("gate", "yard")]
    with telling(out, *sources, opener="toys:open_counted") as found:
        found.online("gate")
        found.online("yard")
        yield found
        found.end()


@pytest.fixture
def client(run):
    with serving(run.out) as found:
        yield found


class Message(NamedTuple):
    kind: int
    epoch: int
    seq: int
    media_us: int
    capture_us: int
    w: int
    h: int
    payload: bytes

    @property
    def tracks(self):
        return json.loads(self.payload)["tracks"]

    @property
    def pixels(self):
        return cv2.imdecode(np.frombuffer(self.payload, np.uint8), cv2.IMREAD_COLOR)


class Viewer:
    """Receives messages, and acknowledges pictures when it is told to."""

    def __init__(self, socket):
        self.socket = socket
        self.states = []

    def next(self, timeout=PATIENCE_S):
        """Return the next message that is no state."""
        while isinstance(data := self.socket.recv(timeout=timeout), str):
            self.states.append(json.loads(data))
        return Message(*HEADER.unpack_from(data), data[HEADER.size :])

    def unacknowledged(self, timeout=PATIENCE_S):
        """Return the next picture."""
        while (message := self.next(timeout)).kind != JPEG:
            pass
        return message

    def acknowledge(self, message):
        self.socket.send(json.dumps({"ack": message.seq}))

    def picture(self):
        """Return the next picture, acknowledged, and the tracks that came before it."""
        tracks = None
        while (message := self.next()).kind == TRACKS:
            tracks = message
        self.acknowledge(message)
        return message, tracks

    def state(self):
        """Return the next state."""
        known = len(self.states)
        while len(self.states) == known:
            if isinstance(data := self.socket.recv(timeout=PATIENCE_S), str):
                self.states.append(json.loads(data))
        return self.states[-1]


@contextmanager
def watching(client, source="gate", query="", **options):
    address = f"ws://{client.host}/ws/video/{source}{query}"
    given = {"compression": None, "open_timeout": PATIENCE_S, "max_size": None, **options}
    with connect(address, **given) as socket:
        yield Viewer(socket)


def closed(viewer):
    """Return code and reason with which the server ends a connection."""
    try:
        while True:
            viewer.next()
    except ConnectionClosed as ended:
        return ended.rcvd.code, ended.rcvd.reason


def encoded(run, source="gate"):
    """Return how many pictures of a source were encoded so far."""
    path = run.out / f"{source}.encoded"
    return path.stat().st_size if path.exists() else 0


def frames_published(run, source="gate"):
    """Return how many `frame.tracks` were published so far, as the next heartbeat says."""
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.setsockopt(zmq.SUBSCRIBE, f"sv1/{source}/hb/".encode())
        subscriber.connect(read_announcement(run.out).endpoint)
        assert subscriber.poll(1000 * PATIENCE_S)
        beat = json.loads(subscriber.recv_multipart()[2])
    return beat["hb"]["last"].get("frame", 0)


def admitted(run, source="gate"):
    return run.source(source)["admitted"]


def settled(read):
    """Return a number once it has not changed for half a second."""
    known = None
    while known != (now := read()):
        known = now
        time.sleep(0.5)
    return known


def toy(name="gate", **options):
    """A live source whose picture n has the value n, and a size that no JPEG changes."""
    options = {"live": "1", "pause": "0.03", **options}
    return SourceSpec(id=name, uri="toy:100000", kind="url", options=options)


def telling(out, *sources, **settings):
    """A run whose tracks tell the number and the value of the picture that they were made from."""
    given = {"build": "toys:build_telling", "opener": "toys:open_toy", "bind": "tcp://127.0.0.1:*"}
    return running(out, *sources, control=True, **{**given, **settings})


def test_without_a_viewer_no_picture_is_encoded_and_no_tracks_are_published(run, client):
    begun = admitted(run)
    run.wait(lambda: admitted(run) > begun + 20)
    assert (encoded(run), frames_published(run)) == (0, 0)
    with watching(client) as viewer:
        while viewer.picture()[1] is None:
            pass
        assert encoded(run) > 0
        assert frames_published(run) > 0
    made, sent = settled(lambda: encoded(run)), settled(lambda: frames_published(run))
    begun = admitted(run)
    run.wait(lambda: admitted(run) > begun + 40)
    assert (encoded(run), frames_published(run)) == (made, sent)
    assert (encoded(run, "yard"), frames_published(run, "yard")) == (0, 0)


def test_each_picture_comes_with_the_tracks_of_its_own_frame(run, client):
    with watching(client) as viewer:
        paired = []
        while len(paired) < 60:
            picture, tracks = viewer.picture()
            assert (picture.kind, picture.epoch, picture.w, picture.h) == (JPEG, 1, 32, 16)
            assert picture.pixels.mean() == pytest.approx(picture.seq % 251, abs=2)
            if tracks is not None:
                assert tracks[1:7] == picture[1:7]
                ((n, value, *_),) = [one["box_px"] for one in tracks.tracks]
                assert (n, value) == (picture.seq, picture.seq % 251)
                paired.append(picture)
        for name in ("seq", "media_us"):
            values = [getattr(one, name) for one in paired]
            assert values == sorted(set(values))
        assert viewer.states[-1] == LIVE
        steps = np.diff([one.seq for one in paired[10:]])
        assert np.median(steps) == 1  # all pictures are shown, while the machine keeps up


def test_four_viewers_see_the_same_pictures_each_of_which_is_encoded_once(run, client):
    with ExitStack() as stack:
        viewers = [stack.enter_context(watching(client)) for _ in range(4)]
        for viewer in viewers:
            viewer.picture()
        before = encoded(run)
        seen = [set() for _ in viewers]
        for _ in range(50):
            for viewer, numbers in zip(viewers, seen, strict=True):
                numbers.add(viewer.picture()[0].seq)
        every = set.union(*seen)
        assert encoded(run) - before <= max(every) - min(every) + 8  # those on their way
        assert all(len(numbers & seen[0]) > 25 for numbers in seen)


def test_a_viewer_that_acknowledges_nothing_gets_two_pictures_then_the_newest(run, client):
    with watching(client) as viewer:
        first, second = viewer.unacknowledged(), viewer.unacknowledged()
        with pytest.raises(TimeoutError):
            viewer.unacknowledged(timeout=1.0)
        made = settled(lambda: encoded(run))
        begun = admitted(run)
        run.wait(lambda: admitted(run) > begun + 30)
        assert encoded(run) == made
        viewer.acknowledge(second)  # which is an acknowledgement of the first, too
        third, _ = viewer.picture()
        assert first.seq < second.seq < second.seq + 30 < third.seq


def test_a_viewer_that_takes_or_acknowledges_nothing_is_disconnected(run, client, monkeypatch):
    monkeypatch.setattr(video, "STALL_S", 1.0)
    with watching(client) as viewer:
        code, reason = closed(viewer)
    assert (code, reason) == (4408, "no picture was acknowledged for 1 s")


def test_what_is_refused(run, client):
    for source, words in (("gaet", "did you mean gate"), ("%2e%2e", "no id of a source")):
        with watching(client, source) as viewer:
            code, reason = closed(viewer)
            assert (code, words in reason) == (4404, True), reason
    with pytest.raises(InvalidStatus) as refused, watching(client, query="?what=1"):
        pass
    assert refused.value.response.status_code == 400
    with pytest.raises(InvalidStatus) as refused, watching(client, origin="http://evil.example"):
        pass
    assert refused.value.response.status_code == 403
    for text in ("hello", "[]", '{"ack": "1"}', '{"ack": 1, "more": 2}', b"\xff"):
        with watching(client) as viewer:
            viewer.socket.send(text)
            assert closed(viewer)[0] == 1008
    with watching(client) as viewer:
        viewer.socket.send('{"ack": 987654321}')  # of no picture that it was sent
        assert viewer.picture()[0].kind == JPEG


def test_viewers_are_bounded(run, client, monkeypatch):
    monkeypatch.setattr(video, "MOST_VIEWERS", 2)
    with watching(client), watching(client, "yard"):
        with pytest.raises(InvalidStatus) as refused, watching(client):
            pass
        assert refused.value.response.status_code == 503
    wait_for(lambda: is_served(client))  # once the server knows that they have gone


def is_served(client):
    try:
        with watching(client) as viewer:
            return viewer.picture()[0].kind == JPEG
    except InvalidStatus:
        return False


def test_a_token_is_needed_where_there_is_one(run, tmp_path):
    with serving(run.out, token_file=tmp_path / "token") as guarded:
        with pytest.raises(InvalidStatus) as refused, watching(guarded):
            pass
        assert refused.value.response.status_code == 401
        bearer = {"Authorization": f"Bearer {guarded.server.token}"}
        with watching(guarded, additional_headers=bearer) as viewer:
            assert viewer.picture()
        assert guarded.get("/api/picture/gate").status == 401
        assert guarded.get("/api/picture/gate", **bearer).status == 200


def test_one_picture_by_its_address(run, client):
    reply = client.get("/api/picture/gate")
    assert (reply.status, reply.headers["content-type"]) == (200, "image/jpeg")
    shown = cv2.imdecode(np.frombuffer(reply.body, np.uint8), cv2.IMREAD_COLOR)
    assert reply.headers["x-streamvis-size"] == "32x16"
    n = int(reply.headers["x-streamvis-media-us"]) / 40_000
    later = int(client.get("/api/picture/gate").headers["x-streamvis-media-us"])
    assert later > 40_000 * n
    assert shown.std() < 2
    assert client.get("/api/picture/gaet").status == 404


def test_a_source_that_connects_again_goes_on_in_its_next_stream_epoch(run, client):
    with watching(client, "yard") as viewer:
        assert viewer.picture()[0].epoch == 1
        ask(find_run(str(run.out)), Restart("yard"))
        pictures = [viewer.picture()]
        while len(pictures) < 200 and (pictures[-1][0].epoch == 1 or pictures[-1][1] is None):
            pictures.append(viewer.picture())
        picture, tracks = pictures[-1]
        assert picture.epoch == tracks.epoch == 2
        assert picture.pixels.mean() == pytest.approx(picture.seq % 251, abs=2)
        assert tracks.tracks[0]["box_px"][0] == picture.seq
        media = [one.media_us for one, _ in pictures]
        assert media == sorted(media)


def test_a_run_that_ends_is_told_and_the_next_one_is_shown(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "control.json").write_text("{}")  # of a run that begins later
    with serving(out) as client, watching(client) as viewer:
        assert viewer.state()["state"] in ("waiting", "over")
        with telling(out, toy()) as first:
            assert viewer.picture()
            first.end()
            while viewer.state()["state"] != "over":
                pass
            assert viewer.states[-1]["reason"] == "no run is under way"
        with telling(out, toy(), on_used="resume") as second:
            picture, tracks = viewer.picture()
            while tracks is None:
                picture, tracks = viewer.picture()
            assert picture.epoch == tracks.epoch == 2
            assert tracks.tracks[0]["box_px"][0] == picture.seq
            assert viewer.states[-1] == LIVE
            second.end()


def test_a_run_that_is_over_is_told_and_its_sources_are_known(tmp_path):
    logged(tmp_path / FILE_NAME, "gate", WALK)
    with serving(tmp_path) as client:
        with watching(client) as viewer:
            wait_for(lambda: viewer.state()["state"] == "over")
        with watching(client, "yard") as viewer:
            assert closed(viewer)[0] == 4404
        assert client.get("/api/picture/gate").status == 503


def test_a_source_without_pictures_is_waited_for(tmp_path):
    with (
        under_way(camera("gate"), out=tmp_path),
        serving(tmp_path) as client,
        watching(client) as viewer,
    ):
        while not (state := viewer.state())["reason"]:
            pass
        assert state["state"] == "waiting"
        assert "not online" in state["reason"]


def test_a_run_without_a_feed_shows_pictures_and_says_why_no_tracks_come(tmp_path):
    out = tmp_path / "out"
    with telling(out, toy(), bind=None) as run:
        run.online("gate")
        with serving(out) as client, watching(client) as viewer:
            pictures = [viewer.picture() for _ in range(20)]
            assert all(tracks is None for _, tracks in pictures)
            assert "no feed" in viewer.states[-1]["without_tracks"]
        run.end()


def test_a_feed_with_keys_is_read_with_those_of_a_client(tmp_path):
    out, keys = tmp_path / "out", tmp_path / "keys"
    new_server(keys)
    mine = new_client(keys, "web")
    with telling(out, toy(), keys=str(keys)) as run:
        run.online("gate")
        with serving(out) as client, watching(client) as viewer:
            why = ""
            while "only clients with keys" not in why:  # at first perhaps that none have come
                assert viewer.picture()[1] is None
                why = (viewer.states[-1]["without_tracks"] or "") if viewer.states else ""
        with serving(out, keys=mine) as client, watching(client) as viewer:
            while viewer.picture()[1] is None:
                pass
        run.end()
