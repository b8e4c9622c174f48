"""Snapshots: pictures of a real run at a real broker, and when they are asked for."""

import json
from contextlib import closing, contextmanager
from itertools import count

import cv2
import msgspec
import numpy as np
import pytest
from bridged import bridge, wait_until
from controlled_runs import RUN, picture, private_home
from live_runs import running
from mqtt_broker import mosquitto, needs_mosquitto, subscribed
from waiting import PATIENCE_S

from streamvis.bridges.snapshots import Snapshots
from streamvis.runtime.control_files import registered
from streamvis.runtime.control_socket import Control
from streamvis.sources.privacy import COLOUR
from streamvis.sources.spec import SourceSpec

TOPIC, CONFIG = "sv/gate/snapshot", "homeassistant/device/sv_gate/config"
LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


@pytest.fixture(autouse=True)
def home():
    with private_home():
        yield


def camera_of(sub):
    return json.loads(sub.payloads(CONFIG)[-1])["components"].get("snapshot")


@needs_mosquitto
def test_a_run_s_pictures_are_published_where_they_are_asked_for(tmp_path):
    """What the source's masks hide is hidden; the last picture is retained, until they are off."""
    gate = SourceSpec(
        id="gate",
        uri="synthetic:?live=1&seconds=3600&size=320x240&people=3",
        kind="synthetic",
        privacy_masks=(LEFT,),
    )
    out = tmp_path / "out"
    with (
        mosquitto(tmp_path) as broker,
        subscribed(broker) as sub,
        running(out, gate, control=True) as run,
    ):
        run.online("gate")
        words = ("mqtt", f"mqtt://127.0.0.1:{broker.port}", "--log", out)
        with bridge(*words) as plain:
            wait_until(lambda: sub.payloads("sv/gate/event"), lambda: plain.said)
            assert camera_of(sub) is None
            assert plain.stop() == 0, plain.said
        assert sub.payloads(TOPIC) == []
        with bridge(*words, "--snapshot-every", "1") as running_bridge:
            wait_until(lambda: len(sub.payloads(TOPIC)) >= 2, lambda: running_bridge.said)
            assert camera_of(sub)["topic"] == TOPIC
            assert running_bridge.stop() == 0, running_bridge.said
        first, *_, last = sub.payloads(TOPIC)
        assert first != last
        for jpeg in (first, last):
            shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
            assert shown.shape == (240, 320, 3)
            np.testing.assert_allclose(shown[:, :152], COLOUR[0], atol=8)
            assert np.abs(shown[:, 168:].astype(int) - COLOUR[0]).mean() > 16
        with subscribed(broker) as late:
            late.catch_up()
            assert late.payloads(TOPIC) == [last]
        with bridge(*words) as plain:
            wait_until(lambda: sub.payloads(TOPIC)[-1] == b"", lambda: plain.said)
            assert camera_of(sub) == {"platform": "camera"}
            assert plain.stop() == 0, plain.said
        with subscribed(broker) as late:
            late.catch_up()
            assert late.payloads(CONFIG)
            assert late.payloads(TOPIC) == []
        run.end()


@contextmanager
def served(out):
    """A run with a control socket, in which `gate` is online."""
    out.mkdir(exist_ok=True)
    with registered(out) as run, closing(Control(f"ipc://{run.socket}")) as control:
        yield control


def answer(control, number=1):
    """Answer so many requests, each with the picture that its source has now; return whose."""
    view = msgspec.structs.replace(RUN, online={"gate"})
    asked = []
    while len(asked) < number:
        assert control.socket.poll(1000 * PATIENCE_S), "no request"
        for decision in control.decisions(lambda: view):
            asked.append(decision.picture_of)
    for source in {one for one in asked if one is not None}:
        control.answer_picture(picture_of(source))
    return asked


def picture_of(source):
    return picture(source, jpeg=b"jpeg")


def arrived(snapshots, sources):
    return wait_until(lambda: snapshots.taken(sources))


def test_each_source_is_asked_for_once_in_the_time(tmp_path):
    now = [100.0]
    with served(tmp_path) as control, closing(Snapshots(tmp_path, 10, lambda: now[0])) as taken:
        assert taken.taken([]) == []
        assert taken.taken(["gate"]) == []
        assert answer(control) == ["gate"]
        assert arrived(taken, ["gate"]) == [picture_of("gate")]
        now[0] += 9.9
        assert taken.taken(["gate", "film"]) == []
        assert answer(control) == [None]  # of `film`, which has no picture now
        now[0] += 0.1
        assert taken.taken(["gate", "film"]) == []
        assert answer(control) == ["gate"]
        assert arrived(taken, ["gate"]) == [picture_of("gate")]


def test_a_run_that_begins_later_or_anew_is_found(tmp_path):
    with closing(Snapshots(tmp_path, 1, count().__next__)) as taken:
        assert taken.taken(["gate"]) == []
        for _ in range(2):
            with served(tmp_path) as control:
                taken.taken(["gate"])
                answer(control)
                assert arrived(taken, []) == [picture_of("gate")]
        assert taken.taken(["gate"]) == []


def test_a_run_that_answers_nothing_is_not_waited_for(tmp_path):
    with served(tmp_path), closing(Snapshots(tmp_path, 1, count().__next__)) as taken:
        for _ in range(5000):  # more than ZeroMQ keeps for it
            assert taken.taken(["gate"]) == []


def test_a_socket_that_others_can_reach_is_not_used_and_said_once(tmp_path, capsys):
    now = count().__next__
    with served(tmp_path), closing(Snapshots(tmp_path, 1, now)) as taken:
        file = tmp_path / "control.json"
        socket = json.loads(file.read_text())["socket"]
        parent = type(tmp_path)(socket).parent
        parent.chmod(0o755)
        try:
            for _ in range(3):
                assert taken.taken(["gate"]) == []
        finally:
            parent.chmod(0o700)
    assert capsys.readouterr().err.count("no snapshots") == 1
