"""The states of sources after the run that writes the log was killed."""

import subprocess
import sys

import pytest
from bridged import ONLINE, begin, bridge, growing, wait_until
from mqtt_broker import mosquitto, needs_mosquitto, subscribed

from streamvis.bridges.mqtt import MqttMapping, Topics
from streamvis.bridges.publisher_watch import SILENT_S, PublisherWatch
from streamvis.events.source_events import Finish, Restart, SourceEof, SourceEpoch
from streamvis.runtime.output import locked
from streamvis.stages import event_codec

HOLD = """
import sys, time
from pathlib import Path
from streamvis.runtime.output import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def killed_run(out):
    with subprocess.Popen([sys.executable, "-c", HOLD, out], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.kill()


class Clock:
    at = 0.0

    def __call__(self):
        return self.at


def test_a_run_that_was_killed_is_noticed_once(tmp_path):
    clock = Clock()
    watch = PublisherWatch(tmp_path, clock)
    with locked(tmp_path):
        assert not watch.died(5)
        clock.at += 2 * SILENT_S
        assert not watch.died(5)
    clock.at += 2 * SILENT_S
    assert not watch.died(5)  # it has ended by itself
    killed_run(tmp_path)
    clock.at += 2 * SILENT_S
    assert not watch.died(6)  # events that it wrote before come first
    clock.at += 2 * SILENT_S
    assert watch.died(6)
    clock.at += 2 * SILENT_S
    assert not watch.died(6)
    with locked(tmp_path):  # another run
        assert not watch.died(7)
        clock.at += 2 * SILENT_S
        assert not watch.died(7)


@pytest.fixture
def log(tmp_path):
    with growing(tmp_path / "events.db") as log:
        yield log


def test_a_bridge_that_waits_for_the_end_of_a_killed_run_says_so(tmp_path, log):
    log.write("a", ONLINE)
    killed_run(tmp_path)
    to = ("--to", tmp_path / "events.jsonl", "--until-ended")
    with bridge("jsonl", "--log", tmp_path, *to) as running:
        said = "the run was killed before its end: waits until it is resumed"
        wait_until(lambda: said in running.said, lambda: running.said)
        log.write("a", SourceEpoch(Restart(2, "resumed")))
        log.finish("a")
        assert running.process.wait(60) == 0


@needs_mosquitto
def test_the_broker_has_offline_after_a_kill_and_online_when_the_next_run_writes(tmp_path, log):
    with mosquitto(tmp_path) as broker, subscribed(broker) as sub:
        log.write("a", ONLINE)
        with bridge("mqtt", f"mqtt://127.0.0.1:{broker.port}", "--log", tmp_path) as running:
            wait_until(lambda: b"online" in sub.payloads("sv/a/status"), lambda: running.said)
            killed_run(tmp_path)
            wait_until(lambda: sub.payloads("sv/a/status")[-1] == b"offline", lambda: running.said)
            log.write("a", SourceEpoch(Restart(2, "resumed")))
            wait_until(lambda: sub.payloads("sv/a/status")[-1] == b"online", lambda: running.said)
            assert running.stop() == 0, running.said


def states(messages):
    return {m.topic: m.payload for m in messages if m.retain and m.topic.endswith("/status")}


def test_sources_are_offline_until_a_run_writes_again(log):
    mapping = MqttMapping(event_codec(), Topics())
    mapping.messages([*log.write("a", ONLINE, begin("a", 1)), *log.write("b", ONLINE)])
    mapping.messages(log.write("c", ONLINE, SourceEof(Finish(3))))
    before = mapping.state()
    assert states(mapping.cut_off()) == {"sv/a/status": b"offline", "sv/b/status": b"offline"}
    assert states(mapping.current()) == {
        "sv/a/status": b"offline",
        "sv/b/status": b"offline",
        "sv/c/status": b"ended",
    }
    assert mapping.cut_off() == []
    assert mapping.online() == []
    assert mapping.state() == before  # the log has no such event: a later bridge looks itself
    resumed = log.write("a", SourceEpoch(Restart(2, "resumed")))
    assert states(mapping.messages(resumed)) == {"sv/a/status": b"online"}
    assert mapping.online() == ["a"]
