"""Live pictures: each comes with the tracks of its own frame, and none is made without a viewer."""

import json
import struct
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from controlled_runs import private_home
from live_runs import running
from web_servers import PATIENCE_S, serving
from websockets.sync.client import connect

from streamvis.sources.spec import SourceSpec

HEADER = struct.Struct("<BIQqqHH")  # as the contract says, not as the code does
JPEG, TRACKS = 1, 3


@pytest.fixture(autouse=True)
def home():
    with private_home():
        yield


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


def watching(client, source="gate", query=""):
    address = f"ws://{client.host}/ws/video/{source}{query}"
    return connect(address, compression=None, open_timeout=PATIENCE_S, max_size=None)


def toy(name="gate", **options):
    """A live source whose picture n has the value n, and a size that no JPEG changes."""
    options = {"live": "1", "pause": "0.03", **options}
    return SourceSpec(id=name, uri="toy:100000", kind="url", options=options)


def telling(out, *sources, **settings):
    """A run whose tracks tell the number and the value of the picture that they were made from."""
    given = {"build": "toys:build_telling", "opener": "toys:open_toy", "bind": "tcp://127.0.0.1:*"}
    return running(out, *sources, control=True, **{**given, **settings})


def test_each_picture_comes_with_the_tracks_of_its_own_frame(tmp_path):
    out = tmp_path / "out"
    with telling(out, toy()) as run:
        run.online("gate")
        with serving(out) as client, watching(client) as socket:
            viewer = Viewer(socket)
            with_tracks = []
            while len(with_tracks) < 60:
                picture, tracks = viewer.picture()
                assert (picture.kind, picture.epoch, picture.w, picture.h) == (JPEG, 1, 32, 16)
                assert picture.media_us > 0
                assert picture.pixels.mean() == pytest.approx(picture.seq % 251, abs=2)
                if tracks is not None:
                    assert tracks[1:7] == picture[1:7]
                    ((n, value, *_),) = [one["box_px"] for one in tracks.tracks]
                    assert (n, value) == (picture.seq, picture.seq % 251)
                    with_tracks.append(picture)
            numbers = [one.seq for one in with_tracks]
            assert numbers == sorted(set(numbers))
            assert viewer.states[-1] == {
                "kind": "state",
                "state": "live",
                "reason": "",
                "without_tracks": "",
            }
        run.end()
