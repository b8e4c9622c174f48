"""`bridge mqtt` while a real broker is away for long, and when it is killed within a message."""

import json
from collections import Counter
from contextlib import ExitStack

import pytest
from bridged import ONLINE, begin, bridge, end, growing, update, wait_until
from mqtt_broker import mosquitto, needs_mosquitto, proxy_of, subscribed

from streamvis.bridges.follower import LogFollower
from streamvis.bridges.loop import Loop, Settings
from streamvis.bridges.mqtt import MqttMapping, Topics
from streamvis.bridges.mqtt_broker import MqttSink, broker_at
from streamvis.bridges.place import ProgressFile
from streamvis.bridges.selection import is_lifecycle
from streamvis.bridges.stop import Stop
from streamvis.runtime.reconnect import pause_s
from streamvis.stages import event_codec

pytestmark = needs_mosquitto
OUTAGE_S = 300.0


def lifecycle(log, source):
    return [r.payload for r in log.rows if r.source == source and is_lifecycle(r.type)]


def assert_all_there(log, received, sources="ab"):
    """Every lifecycle event has arrived, in the order of its source; repeated ones have their id.

    Return how often each id came.
    """
    ids = Counter()
    for source in sources:
        expected = lifecycle(log, source)
        assert list(dict.fromkeys(received[source])) == expected
        of_source = Counter(json.loads(payload)["id"] for payload in received[source])
        assert len(of_source) == len(expected)  # as many ids as events: what is equal has one
        ids += of_source
    return ids


def events_of(sub, sources="ab"):
    return {source: sub.payloads(f"sv/{source}/event") for source in sources}


class TestClock(Stop):
    """Time passes only while the loop waits: it does not wait, and events come meanwhile."""

    __test__ = False

    def __init__(self, meanwhile):
        super().__init__()
        self.now_s = 0.0
        self.waits = []
        self._meanwhile = meanwhile

    def wait(self, seconds):
        self.waits.append(seconds)
        self.now_s += seconds
        self._meanwhile(self)


def test_five_minutes_without_a_broker(tmp_path):
    """The pauses grow to the longest one; then everything that came meanwhile is delivered."""
    settings = Settings(until_ended=True)
    with (
        mosquitto(tmp_path) as broker,
        growing(tmp_path / "events.db") as log,
        ExitStack() as later,
    ):
        received = []
        broker.kill()

        def meanwhile(clock):
            if received:
                return
            for number in range(40):
                log.walk("ab"[number % 2], number)
            if clock.now_s >= OUTAGE_S:
                log.write("a", ONLINE)
                log.finish("a", "b")
                broker.start()
                received.append(later.enter_context(subscribed(broker)))

        log.walk("a", 0)
        log.walk("b", 0)
        clock = TestClock(meanwhile)
        mapping = MqttMapping(event_codec(), Topics())
        sink = MqttSink(
            broker_at(f"mqtt://127.0.0.1:{broker.port}", None, None, None),
            clock,
            status="sv/status",
            greeting=mapping.current,
        )
        file = ProgressFile(tmp_path / "bridge.json")
        loop = Loop(LogFollower(log.writer.path), file, clock, settings, lambda: clock.now_s)
        loop.run(mapping, sink)

        (sub,) = received
        wait_until(lambda: b"offline" in sub.payloads("sv/status"))  # it is the last message
        assert set(assert_all_there(log, events_of(sub)).values()) == {1}
    assert len(log.rows) > 1000
    first_s, most_s = settings.retry_first_s, settings.retry_longest_s
    longest = [pause_s(n, 0.0, first_s, most_s) for n in range(1, len(clock.waits) + 1)]
    assert longest[-1] == most_s
    assert clock.now_s >= OUTAGE_S
    assert all(most / 2 < one <= most for one, most in zip(clock.waits, longest, strict=True))
    assert loop.counts.failed == len(clock.waits)
    assert file.load().place.number == len(log.rows)


@pytest.mark.parametrize("arrives", [True, False])
def test_a_broker_killed_with_a_message_in_flight(tmp_path, arrives):
    """What was acknowledged comes once. What arrived without that comes twice, with one id."""
    with (
        mosquitto(tmp_path) as broker,
        growing(tmp_path / "events.db") as log,
        proxy_of(broker) as proxy,
    ):
        quick = ("--retry-first-s", "0.05", "--retry-longest-s", "0.2")
        address = f"mqtt://127.0.0.1:{proxy.port}"
        with bridge("mqtt", address, "--log", tmp_path, *quick) as running:
            with subscribed(broker) as sub:
                log.write("a", ONLINE, begin("a", 1))
                log.write("b", ONLINE, begin("b", 1))
                wait_until(lambda: len(events_of(sub)["b"]) == 2, lambda: running.said)
                file = ProgressFile(tmp_path / "bridge-mqtt.json")
                wait_until(lambda: (stored := file.load()) and stored.place.number == 4)
                proxy.loses_answers, proxy.loses_requests = arrives, not arrives
                rows = log.write("a", update("a", 1), end("a", 1), begin("a", 2))
                flying = [json.loads(r.payload)["id"] for r in rows if is_lifecycle(r.type)]
                if arrives:
                    wait_until(lambda: len(events_of(sub)["a"]) == 4, lambda: running.said)
                else:
                    wait_until(lambda: flying[0].encode() in proxy.lost, lambda: running.said)
                broker.kill()
                before = events_of(sub)
            proxy.shut()
            proxy.loses_answers = proxy.loses_requests = False
            log.write("a", end("a", 2))
            broker.start()
            with subscribed(broker) as sub:
                proxy.is_open = True
                log.walk("b", 2)
                wait_until(
                    lambda: lifecycle(log, "b")[-1] in events_of(sub)["b"], lambda: running.said
                )
                assert running.stop() == 0, running.said
                after = events_of(sub)
    times = assert_all_there(log, {one: before[one] + after[one] for one in "ab"})
    twice = {one for one, count in times.items() if count > 1}
    assert twice == (set(flying) if arrives else set())
    assert max(times.values()) <= 2
