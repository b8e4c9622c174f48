"""A run of the pipeline `zones`, and what a broker has of it through both bridges.

The log is delivered in two parts: up to a frame with people in the zones, then the rest.
"""

import json
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from bridged import bridge, wait_until
from mqtt_broker import mosquitto, needs_mosquitto, subscribed

from streamvis import config
from streamvis.bridges.selection import is_lifecycle
from streamvis.events.log import Cursor, LogReader, LogWriter
from streamvis.runtime import inline
from streamvis.runtime.host import build_stage
from streamvis.sources import resolve
from streamvis.zone_layout import Line, Zone, ZoneLayout

SCENE = "a=synthetic:walkers?people=5&seconds=6&fps=10&size=320x240&seed=2"
LAYOUT = ZoneLayout(
    zones=(
        Zone(name="left", polygon=((0, 0), (0.5, 0), (0.5, 1), (0, 1)), dwell_s=(1,)),
        Zone(name="right", polygon=((0.5, 0), (1, 0), (1, 1), (0.5, 1)), dwell_s=(2.5,)),
        Zone(name="nowhere", polygon=((0, 0), (0.01, 0), (0, 0.01))),
    ),
    lines=(Line(name="middle", start=(0.5, 1), end=(0.5, 0)),),
)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The log of a run of the pipeline `zones` over a scene."""
    out = tmp_path_factory.mktemp("run")
    small = {"detect.short_side": "240", "publish.bind": "none"}
    pipeline = config.load_pipeline(Path("zones"), small)
    (spec,) = resolve([SCENE])
    spec = msgspec.structs.replace(spec, zones=LAYOUT)
    inline.run(pipeline, [spec], build=build_stage, out=out)
    with LogReader(out / "events.db") as log:
        return list(log.events("a"))


class Expected:
    """The zones and lines after these events, computed from their JSON."""

    def __init__(self, rows):
        self.inside = {zone.name: set() for zone in LAYOUT.zones}
        self.longest_s = dict.fromkeys(self.inside, 0.0)
        self.crossed = {"left_to_right": 0, "right_to_left": 0}
        for row in rows:
            event = json.loads(row.payload)
            assert not row.type.endswith(".revise"), "the scene has no corrections"
            match row.type:
                case "zone.enter":
                    self.inside[event["zone"]["name"]].add(event["zone"]["track"])
                case "zone.exit":
                    self.inside[event["zone"]["name"]].remove(event["zone"]["track"])
                case "zone.update":
                    self.longest_s[event["zone"]["name"]] = event["zone"]["longest_s"]
                case "line.cross":
                    self.crossed[event["line"]["direction"]] += 1

    def states(self):
        """The retained messages of zones and lines below sv/a/."""
        found = {
            "line/middle/in": str(self.crossed["left_to_right"]),
            "line/middle/out": str(self.crossed["right_to_left"]),
        }
        for name, tracks in self.inside.items():
            longest_s = self.longest_s[name] if tracks else 0.0
            found[f"zone/{name}/people"] = str(len(tracks))
            found[f"zone/{name}/occupied"] = "ON" if tracks else "OFF"
            found[f"zone/{name}/longest_s"] = f"{longest_s:.1f}"
        return found

    def rules(self):
        """The Data of retained rules of ONVIF, by topic below RuleEngine."""
        found = {
            "CountAggregation/Counter/&a/lines/middle_in": self.crossed["left_to_right"],
            "CountAggregation/Counter/&a/lines/middle_out": self.crossed["right_to_left"],
        }
        for name, tracks in self.inside.items():
            found[f"CountAggregation/OccupancyCounter/&a/zones/{name}"] = len(tracks)
            numbers = {int(track.rpartition(":")[2]) for track in tracks}
            found[f"FieldDetector/ObjectsInside/&a/zones/{name}"] = numbers
        return found


def retained(broker, prefix):
    """What the broker retains below a prefix, as a new subscriber gets it."""
    with subscribed(broker) as sub:
        sub.catch_up()  # what is retained was sent before
        messages = [one for one in sub.received if one[2]]
    return {
        topic.removeprefix(prefix): payload.decode()
        for topic, payload, _ in messages
        if topic.startswith(prefix)
    }


def rules_at(broker):
    found = {}
    for topic, text in retained(broker, "streamvis/onvif-ej/RuleEngine/").items():
        data = json.loads(text)["Data"]
        if "ObjectId" in data:
            assert data["IsInside"] == bool(data["ObjectId"])
        found[topic] = (
            data["Count"] if "Count" in data else {int(one) for one in data["ObjectId"].split()}
        )
    found.pop("CountAggregation/OccupancyCounter/&a/streamvis/people", None)
    return found


def states_at(broker):
    below = retained(broker, "sv/a/")
    return {topic: text for topic, text in below.items() if topic.startswith(("zone/", "line/"))}


@needs_mosquitto
def test_a_broker_has_the_zones_of_a_run_while_it_goes_on_and_at_its_end(tmp_path, rows):
    updates = [n for n, row in enumerate(rows) if row.type == "zone.update"]
    middle = next(n + 1 for n in updates if len(Expected(rows[: n + 1]).inside["left"]) >= 2)
    epoch = json.loads(rows[0].payload)["epoch"]
    with (
        closing(LogWriter(tmp_path / "events.db")) as log,
        mosquitto(tmp_path) as broker,
        subscribed(broker) as there,
    ):
        log.commit(rows[:middle], [Cursor("a", epoch, 0, middle, "", b"")])
        address = f"mqtt://127.0.0.1:{broker.port}"
        words = (address, "--log", tmp_path, "--until-ended")
        with bridge("mqtt", *words) as mqtt, bridge("onvif", *words) as onvif:
            now = Expected(rows[:middle])
            wait_until(lambda: states_at(broker) == now.states(), lambda: mqtt.said)
            wait_until(lambda: rules_at(broker) == now.rules(), lambda: onvif.said)
            log.commit(rows[middle:], [Cursor("a", epoch, 0, len(rows), "eof", b"")])
            assert mqtt.wait() == 0, mqtt.said
            assert onvif.wait() == 0, onvif.said
        end = Expected(rows)
        assert states_at(broker) == end.states()
        assert rules_at(broker) == end.rules()
        assert sum(end.crossed.values()) >= 1
        published = [payload for topic, payload, _ in there.received if topic == "sv/a/event"]
        assert published == [row.payload for row in rows if is_lifecycle(row.type)]
        passed = [topic for topic, _, _ in there.received if "/onvif-ej/" in topic]
        for type_, rule in (
            ("line.cross", "LineDetector/Crossed/&a/lines/middle"),
            ("zone.dwell", "LoiteringDetector/ObjectIsLoitering/&a/zones/"),
        ):
            count = sum(row.type == type_ for row in rows)
            assert sum(rule in topic for topic in passed) == count > 0
