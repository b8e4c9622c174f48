"""Zones and lines in the messages of `bridge mqtt` and `bridge onvif`: pure, and at a broker."""

import json
from pathlib import Path

import jsonschema
import pytest
from bridged import ONLINE, begin, growing, track
from hypothesis import given
from hypothesis import strategies as st
from mqtt_broker import mosquitto, needs_mosquitto, subscribed

from streamvis.bridges.mqtt import MqttMapping, Topics
from streamvis.bridges.mqtt_broker import MqttSink, broker_at
from streamvis.bridges.onvif import OnvifMapping
from streamvis.bridges.onvif_rules import object_id
from streamvis.bridges.selection import is_lifecycle
from streamvis.bridges.stop import Stop
from streamvis.events.codec import Codec
from streamvis.events.envelope import new_epoch
from streamvis.stages.track.events import TRACK_EVENTS
from streamvis.stages.zones.events import (
    ZONE_EVENTS,
    Crossing,
    Departure,
    LineCross,
    LineRevise,
    LineRevision,
    Occupancy,
    PastCrossing,
    Stay,
    Visit,
    ZoneDwell,
    ZoneEnter,
    ZoneEntry,
    ZoneExit,
    ZoneLayoutSet,
    ZoneRevise,
    ZoneRevision,
    ZoneState,
    ZoneUpdate,
)
from streamvis.zone_layout import Line, Zone, ZoneLayout

CODEC = Codec([TRACK_EVENTS, ZONE_EVENTS])
SCHEMA = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parent / "discovery.schema.json").read_text())
)
CONFIG = "homeassistant/device/sv_a/config"
SQUARE = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9))


@pytest.fixture
def log(tmp_path):
    with growing(tmp_path / "events.db") as log:
        yield log


def mqtt():
    return MqttMapping(CODEC, Topics())


def onvif():
    return OnvifMapping(CODEC, "streamvis")


def layout(zones=("door",), lines=("gate",)):
    return ZoneLayoutSet(
        ZoneLayout(
            zones=tuple(Zone(name=one, polygon=SQUARE) for one in zones),
            lines=tuple(Line(name=one, start=(0.0, 0.5), end=(1.0, 0.5)) for one in lines),
        )
    )


def occupancy(people):
    return Occupancy(people=people, mean=float(people), sd=0.1, p_occupied=0.9)


def enter(who, people, name="door"):
    return ZoneEnter(
        ZoneEntry(
            name=name,
            track=f"a:1:{who}",
            at_us=0,
            seen_outside=True,
            entries=people,
            occupancy=occupancy(people),
        )
    )


def leave(who, people, name="door", reason="left"):
    return ZoneExit(
        Departure(
            name=name,
            track=f"a:1:{who}",
            at_us=1,
            entered_us=0,
            dwell_s=1.0,
            reason=reason,
            occupancy=None if people is None else occupancy(people),
        )
    )


def state(people, longest_s, name="door"):
    return ZoneUpdate(
        ZoneState(name=name, occupancy=occupancy(people), longest_s=longest_s, entries=people)
    )


def cross(who, in_total, out_total, name="gate", direction="left_to_right"):
    return LineCross(
        Crossing(
            name=name,
            track=f"a:1:{who}",
            direction=direction,
            at_us=0,
            p=0.9,
            in_total=in_total,
            out_total=out_total,
        )
    )


def dwell(who, threshold_s, entered_us=0):
    return ZoneDwell(
        Stay(
            name="door",
            track=f"a:1:{who}",
            at_us=0,
            entered_us=entered_us,
            threshold_s=threshold_s,
        )
    )


class Broker:
    """What a broker retains of messages, and what was published that it does not retain."""

    def __init__(self):
        self.retained, self.passed = {}, []

    def take(self, messages):
        for topic, payload, retain in messages:
            if not retain:
                self.passed.append((topic, payload))
            elif payload:
                self.retained[topic] = payload
            else:
                self.retained.pop(topic, None)
        return self

    def below(self, prefix):
        return {
            topic.removeprefix(prefix): payload.decode()
            for topic, payload in self.retained.items()
            if topic.startswith(prefix)
        }

    def data(self, rule):
        """The Data of a retained rule of ONVIF, by its place and name."""
        prefix = f"streamvis/onvif-ej/RuleEngine/{rule}/&a/"
        return {place: json.loads(text)["Data"] for place, text in self.below(prefix).items()}


def told(mapping, log, *whats):
    """What a broker has after these events, each a frame of its own."""
    broker = Broker()
    for what in whats:
        broker.take(mapping.messages(log.write("a", what)))
    return broker


@pytest.mark.parametrize(
    ("whats", "expected"),
    [
        ([], {"people": "0", "occupied": "OFF", "longest_s": "0.0"}),
        ([enter(1, 1)], {"people": "1", "occupied": "ON", "longest_s": "0.0"}),
        ([enter(1, 1), enter(2, 2)], {"people": "2", "occupied": "ON", "longest_s": "0.0"}),
        (
            [enter(1, 1), state(1, 2.34)],
            {"people": "1", "occupied": "ON", "longest_s": "2.3"},
        ),
        (
            [enter(1, 1), state(1, 2.3), leave(1, 0)],
            {"people": "0", "occupied": "OFF", "longest_s": "0.0"},
        ),
        (  # the run ends: there is no number
            [enter(1, 1), enter(2, 2), leave(2, None, reason="eof")],
            {"people": "1", "occupied": "ON", "longest_s": "0.0"},
        ),
    ],
)
def test_the_topics_of_a_zone(log, whats, expected):
    broker = told(mqtt(), log, ONLINE, layout(), *whats)
    assert broker.below("sv/a/zone/door/") == expected


def test_a_zone_s_corrections(log):
    was = (Visit(track="a:1:1", entered_us=0), Visit(track="a:1:2", entered_us=5))
    revise = ZoneRevise(
        ZoneRevision(
            name="door",
            was=was,
            now=(Visit(track="a:1:1", entered_us=0),),
            entries=1,
            occupancy=occupancy(1),
        )
    )
    whats = (layout(), enter(1, 1), enter(2, 2), revise)
    assert told(mqtt(), log, *whats).below("sv/a/zone/door/")["people"] == "1"
    inside = told(onvif(), log, *whats).data("FieldDetector/ObjectsInside")
    assert inside == {"zones/door": {"IsInside": True, "ObjectId": "1"}}


def test_a_correction_of_an_earlier_visit_leaves_who_is_inside_now(log):
    revise = ZoneRevise(
        ZoneRevision(
            name="door",
            was=(Visit(track="a:1:1", entered_us=0, left_us=5, reason="left"),),
            now=(Visit(track="a:1:2", entered_us=0, left_us=5, reason="left"),),
            entries=2,
            occupancy=occupancy(1),
        )
    )
    whats = (layout(), enter(1, 1), leave(1, 0), enter(1, 1), revise)
    inside = told(onvif(), log, *whats).data("FieldDetector/ObjectsInside")
    assert inside == {"zones/door": {"IsInside": True, "ObjectId": "1"}}


def test_a_changed_line_begins_at_zero(log):
    moved = ZoneLayoutSet(
        ZoneLayout(
            lines=(
                Line(name="gate", start=(0.0, 0.4), end=(1.0, 0.4)),
                Line(name="far", start=(0.0, 0.5), end=(1.0, 0.5)),
            )
        )
    )
    whats = [layout((), ("gate", "far")), cross(1, 1, 0), cross(1, 2, 0, "far"), moved]
    broker = told(mqtt(), log, *whats)
    assert broker.below("sv/a/line/") == {
        "gate/in": "0",
        "gate/out": "0",
        "far/in": "2",
        "far/out": "0",
    }


def test_totals_of_a_line_and_their_corrections(log):
    revise = LineRevise(
        LineRevision(
            name="gate",
            was=(PastCrossing(track="a:1:2", direction="left_to_right", at_us=0),),
            now=(),
            in_total=1,
            out_total=1,
        )
    )
    back = cross(1, 2, 1, direction="right_to_left")
    whats = [layout(), cross(1, 1, 0), cross(2, 2, 0), back, revise]
    expected = [("0", "0"), ("1", "0"), ("2", "0"), ("2", "1"), ("1", "1")]
    mapped, broker, found = mqtt(), Broker(), []
    counter = onvif()
    for what in whats:
        rows = log.write("a", what)
        found.append(tuple(broker.take(mapped.messages(rows)).below("sv/a/line/gate/").values()))
        broker.take(counter.messages(rows))
        totals = broker.data("CountAggregation/Counter")
        assert (
            tuple(str(totals[f"lines/gate_{way}"]["Count"]) for way in ("in", "out")) == found[-1]
        )
    assert found == expected


def components(broker):
    payload = json.loads(broker.retained[CONFIG])
    SCHEMA.validate(payload)
    return payload["components"]


def test_a_layout_announces_its_zones_and_lines_and_removes_those_that_have_gone(log):
    mapped = mqtt()
    broker = told(mapped, log, ONLINE, layout(("door", "yard"), ("gate",)))
    found = components(broker)
    states = {
        f"sv/a/{what}/{name}/{quantity}": f"{what}_{name}_{quantity}"
        for what, name, quantities in (
            ("zone", "door", ("people", "occupied", "longest_s")),
            ("zone", "yard", ("people", "occupied", "longest_s")),
            ("line", "gate", ("in", "out")),
        )
        for quantity in quantities
    }
    assert {found[key]["state_topic"] for key in states.values()} == states.keys()
    assert states.keys() == {one for one in broker.retained if one.count("/") == 4}
    broker.take(
        mapped.messages(log.write("a", layout(("yard",), ()), leave(1, 0, "door", "layout")))
    )
    found = components(broker)
    assert found["zone_door_people"] == {"platform": "sensor"}
    assert found["line_gate_in"] == {"platform": "sensor"}
    assert "state_topic" in found["zone_yard_people"]
    assert broker.below("sv/a/zone/").keys() == {"yard/people", "yard/occupied", "yard/longest_s"}
    assert broker.below("sv/a/line/") == {}
    state, mapped = mapped.state(), mqtt()
    mapped.restore(state)
    assert Broker().take(mapped.current()).retained == broker.retained
    broker.take(mapped.messages(log.write("a", layout(("door",), ("gate",)))))
    assert components(broker)["zone_yard_people"] == {"platform": "sensor"}
    assert "state_topic" in components(broker)["zone_door_people"]
    broker.take(mapped.forget("a"))
    assert broker.retained == {}


names = st.from_regex(r"\A[a-z0-9_-]{1,12}\Z")


@given(st.sets(names, max_size=5), st.sets(names, max_size=5))
def test_all_components_have_ids_of_their_own(tmp_path_factory, zones, lines):
    mapped = mqtt()
    with growing(tmp_path_factory.mktemp("log") / "events.db") as log:
        ids = []
        for source in ("a", "a_zone_b"):
            broker = Broker().take(mapped.messages(log.write(source, layout(zones, lines))))
            config = json.loads(broker.retained[f"homeassistant/device/sv_{source}/config"])
            SCHEMA.validate(config)
            ids += [one["unique_id"] for one in config["components"].values()]
    assert len(ids) == len(set(ids)) == 2 * (4 + 3 * len(zones) + 2 * len(lines))


def test_another_run_begins_with_empty_zones(log):
    mapped = mqtt()
    broker = told(mapped, log, layout(), enter(1, 1), cross(1, 1, 0))
    log.epoch = new_epoch()
    broker.take(mapped.messages(log.write("a", ONLINE)))
    assert broker.below("sv/a/zone/door/")["people"] == "0"
    assert broker.below("sv/a/line/gate/") == {"in": "0", "out": "0"}


def test_lifecycle_events_are_published_as_they_are_and_updates_are_states_only(log):
    whats = [layout(), enter(1, 1), dwell(1, 10.0), state(1, 3.0), cross(1, 1, 0), leave(1, 0)]
    rows = log.write("a", *whats)
    broker = Broker().take(mqtt().messages(rows))
    assert broker.passed == [
        ("sv/a/event", row.payload) for row in rows if row.type != "zone.update"
    ]
    assert [row.type for row in rows if not is_lifecycle(row.type)] == ["zone.update"]


visits = st.lists(st.tuples(st.sampled_from(["door", "yard"]), st.integers(1, 4)), max_size=30)


@given(visits, st.integers(0, 30))
def test_who_is_inside(tmp_path_factory, visits, cut):
    """The oracle: sets of those who have entered and not left, also after a restart."""
    inside = {"door": set(), "yard": set()}
    mappings, broker = [mqtt(), onvif()], Broker()
    with growing(tmp_path_factory.mktemp("log") / "events.db") as log:
        for mapped in mappings:
            broker.take(mapped.messages(log.write("a", layout(("door", "yard")))))
        for number, (name, who) in enumerate(visits):
            inside[name] ^= {who}
            what = (enter if who in inside[name] else leave)(who, len(inside[name]), name)
            rows = log.write("a", what)
            for mapped in mappings:
                broker.take(mapped.messages(rows))
            if number == cut:
                states = [mapped.state() for mapped in mappings]
                mappings = [mqtt(), onvif()]
                for mapped, stored in zip(mappings, states, strict=True):
                    mapped.restore(stored)
    found = broker.data("FieldDetector/ObjectsInside")
    counts = broker.data("CountAggregation/OccupancyCounter")
    for name, who in inside.items():
        assert broker.below(f"sv/a/zone/{name}/")["people"] == str(len(who))
        assert {int(one) for one in found[f"zones/{name}"]["ObjectId"].split()} == who
        assert found[f"zones/{name}"]["IsInside"] == bool(who)
        assert counts[f"zones/{name}"] == {"Count": len(who)}


def test_crossings_and_long_stays_are_events_of_onvif(log):
    mapped = onvif()
    mapped.messages(log.write("a", layout(), begin("a", 7)))
    rows = log.write("a", cross(7, 1, 0), dwell(7, 10.0, entered_us=0), n=300)
    passed = {topic: json.loads(payload) for topic, payload in told_now(mapped, rows)}
    crossed = passed["streamvis/onvif-ej/RuleEngine/LineDetector/Crossed/&a/lines/gate"]
    assert crossed["Source"] == {
        "VideoSource": "a",
        "AnalyticsConfiguration": "lines",
        "Rule": "gate",
    }
    number = str(object_id(track("a", 7).id))
    assert crossed["Data"] == {"ObjectId": number, "streamvis:Direction": "left_to_right"}
    rule = "LoiteringDetector/ObjectIsLoitering/&a/zones/door_10s"
    loitering = passed[f"streamvis/onvif-ej/RuleEngine/{rule}"]
    assert loitering["Data"]["ObjectId"] == number
    assert loitering["Data"]["Since"] < loitering["UtcTime"]


def told_now(mapped, rows):
    return [(topic, payload) for topic, payload in Broker().take(mapped.messages(rows)).passed]


def test_rules_of_zones_that_have_gone_are_no_longer_retained(log):
    mapped = onvif()
    broker = told(mapped, log, layout(), enter(1, 1), cross(1, 1, 0))
    assert broker.data("FieldDetector/ObjectsInside")
    broker.take(mapped.messages(log.write("a", layout((), ()))))
    assert broker.data("FieldDetector/ObjectsInside") == {}
    assert broker.data("CountAggregation/Counter") == {}
    assert broker.data("CountAggregation/OccupancyCounter").keys() == {"streamvis/people"}


@needs_mosquitto
def test_a_broker_retains_what_the_log_says(tmp_path, log):
    rows = log.write("a", ONLINE, layout(), enter(1, 1), cross(1, 1, 0), enter(2, 2), leave(1, 1))
    expected, messages = Broker(), []
    for mapped in (mqtt(), onvif()):
        messages += mapped.messages(rows)
    expected.take(messages)
    with mosquitto(tmp_path) as broker:
        address = broker_at(f"mqtt://127.0.0.1:{broker.port}", None, None, None)
        sink = MqttSink(address, Stop(), status="sv/status")
        try:
            sink.deliver(messages)
        finally:
            sink.close()
        with subscribed(broker) as sub:
            sub.catch_up()
    found = {topic: payload for topic, payload, retain in sub.received if retain}
    assert found.pop("sv/status") == b"offline"
    assert found == expected.retained
