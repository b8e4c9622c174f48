"""The messages of `bridge mqtt`: pure, from the rows of a log."""

import json
from pathlib import Path

import jsonschema
import pytest
from bridged import ONLINE, begin, end, growing, update
from hypothesis import given
from hypothesis import strategies as st

from streamvis.bridges.mqtt import MqttMapping, Topics, latest_states
from streamvis.bridges.mqtt_broker import Message, broker_at
from streamvis.bridges.source_state import SourceNow
from streamvis.errors import DataError, UsageError
from streamvis.events.envelope import new_epoch
from streamvis.events.log import Row
from streamvis.events.source_events import (
    Change,
    Finish,
    SourceConnecting,
    SourceEof,
    SourceOffline,
    SourceStalled,
)
from streamvis.stages import event_codec
from streamvis.stages.track.events import Merge, Split, TrackMerge, TrackSplit

SCHEMA = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parent / "discovery.schema.json").read_text())
)
CONFIG = "homeassistant/device/sv_a/config"


@pytest.fixture
def log(tmp_path):
    with growing(tmp_path / "events.db") as log:
        yield log


def mapping(**options):
    return MqttMapping(event_codec(), Topics(**options))


def states(messages):
    return {m.topic: m.payload.decode() for m in messages if m.retain and m.topic[:2] == "sv"}


def people(mapped, rows):
    """The number of people after each event that changes it."""
    found = [states(mapped.messages([row])).get("sv/a/people") for row in rows]
    return [int(one) for one in found if one is not None]


@pytest.mark.parametrize(
    ("what", "status"),
    [
        (ONLINE, "online"),
        (SourceStalled(Change("silent")), "stalled"),
        (SourceConnecting(Change()), "offline"),
        (SourceOffline(Change("refused")), "offline"),
        (SourceEof(Finish(3)), "ended"),
    ],
)
def test_status_of_a_source(log, what, status):
    messages = mapping().messages(log.write("a", ONLINE, what))
    assert states(messages)["sv/a/status"] == status


def test_a_first_event_announces_the_source_before_its_states_and_the_event(log):
    (row,) = log.write("a", ONLINE)
    assert [m.topic for m in mapping().messages([row])] == [
        *(CONFIG, "sv/a/status", "sv/a/people", "sv/a/event")
    ]
    assert mapping(discovery="").messages([row])[0].topic == "sv/a/status"
    assert mapping(prefix="site/1").messages([row])[0].topic == (
        "homeassistant/device/site_1_a/config"
    )


def test_events_are_as_published_not_retained_and_without_updates(log):
    rows = log.write("a", ONLINE, begin("a", 1), update("a", 1), end("a", 1))
    events = [m for m in mapping().messages(rows) if m.topic == "sv/a/event"]
    assert [m.payload for m in events] == [rows[0].payload, rows[1].payload, rows[3].payload]
    assert not any(m.retain for m in events)


def test_people_are_the_open_tracks(log):
    merge = TrackMerge(Merge(gone="a:1:3", kept="a:1:2"))
    split = TrackSplit((Split(id="a:1:1", other="a:1:2", since_us=0),))
    whats = [ONLINE, begin("a", 1), begin("a", 2), begin("a", 3), merge, end("a", 3, into="a:1:2")]
    rows = log.write("a", *whats, split, end("a", 1), begin("a", 1), end("a", 2), end("a", 1))
    assert people(mapping(), rows) == [0, 1, 2, 3, 2, 1, 2, 1, 0]


def test_another_run_begins_with_nobody(log):
    mapped = mapping()
    mapped.messages(log.write("a", ONLINE, begin("a", 1), begin("a", 2)))
    log.epoch = new_epoch()
    assert states(mapped.messages(log.write("a", begin("a", 1))))["sv/a/people"] == "1"


steps = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4)), max_size=30)


@given(steps, st.integers(0, 30))
def test_a_restored_mapping_goes_on_as_the_one_before(tmp_path_factory, visits, cut):
    """The oracle for `people`: sets of those who came and have not left."""
    inside, mapped = {"a": set(), "b": set()}, mapping()
    with growing(tmp_path_factory.mktemp("log") / "events.db") as log:
        for number, (source, who) in enumerate(visits):
            leaves = who in inside[source]
            inside[source] ^= {who}
            rows = log.write(source, (end if leaves else begin)(source, who))
            messages = mapped.messages(rows)
            assert states(messages)[f"sv/{source}/people"] == str(len(inside[source]))
            if number == cut:
                state, mapped = mapped.state(), mapping()
                mapped.restore(state)
    known = states(mapped.current())
    for source in {source for source, _ in visits}:
        assert known[f"sv/{source}/people"] == str(len(inside[source]))


def test_what_is_not_readable_is_passed_on_and_harms_nothing():
    row = Row("a", 0, 1, "track.begin", 0, b"{}")
    assert mapping().messages([row]) == [Message("sv/a/event", b"{}", retain=False)]


def test_events_of_the_system_have_no_device():
    row = Row("_sys", 0, 1, "sys.disk_low", 0, b"{}")
    assert [m.topic for m in mapping().messages([row])] == ["sv/_sys/event"]


def test_a_forgotten_source_is_removed_by_empty_messages(log):
    mapped = mapping()
    rows = log.write("a", ONLINE)
    retained = {m.topic for m in mapped.messages(rows) if m.retain}
    removal = mapped.forget("a")
    assert {m.topic for m in removal} == retained
    assert all(m.retain and m.payload == b"" for m in removal)
    assert mapped.current() == []


def test_pictures_are_removed_from_the_broker_when_snapshots_are_off_again(log):
    """The state has it: the bridge may have been started without them in between."""
    topic = "sv/a/snapshot"

    def camera(messages):
        return json.loads(states_of(messages, CONFIG)[-1])["components"].get("snapshot")

    def states_of(messages, topic):
        return [m.payload for m in messages if m.topic == topic and m.retain]

    plain = mapping()
    assert camera(plain.messages(log.write("a", ONLINE))) is None
    on = MqttMapping(event_codec(), Topics(), snapshots=True)
    on.restore(plain.state())
    assert on.online() == ["a"]
    assert on.snapshot("a", b"jpeg") == Message(topic, b"jpeg", retain=True)
    assert camera(on.current())["topic"] == topic
    assert states_of(on.current(), topic) == []  # the broker keeps the last one
    off = mapping()
    off.restore(on.state())
    assert camera(off.current()) == {"platform": "camera"}
    assert states_of(off.current(), topic) == [b""]
    assert states_of(off.forget("a"), topic) == [b""]
    assert states_of(on.forget("a"), topic) == [b""]


@given(st.lists(st.builds(Message, st.sampled_from("abc"), st.binary(max_size=1), st.booleans())))
def test_the_latest_state_of_each_topic_is_left_and_every_event(messages):
    left = latest_states(messages)
    assert [m for m in left if not m.retain] == [m for m in messages if not m.retain]
    assert {m.topic: m for m in left if m.retain} == {m.topic: m for m in messages if m.retain}
    assert len([m for m in left if m.retain]) == len({m.topic for m in messages if m.retain})


@pytest.mark.parametrize("state", [b"[]", b'"x"', b'{"a": 1}', b'{"a": {"open": "x"}}'])
def test_the_state_of_another_bridge_is_refused(state):
    import msgspec

    with pytest.raises(DataError, match="--name"):
        mapping().restore(msgspec.Raw(state))


def test_the_published_description_is_a_schema():
    SCHEMA.check_schema(SCHEMA.schema)


@given(st.from_regex(r"\A[a-z0-9_-]{1,64}\Z"), st.booleans(), st.booleans())
def test_discovery_validates_against_the_published_description(source, snapshots, pictured):
    mapped = MqttMapping(event_codec(), Topics(), snapshots=snapshots)
    now = SourceNow(pictured=pictured)
    payload = json.loads(mapped._announcement(source, now)[0].payload)
    SCHEMA.validate(payload)
    shown = [one for one in payload["components"].values() if set(one) != {"platform"}]
    ids = [one["unique_id"] for one in shown]
    assert len(set(ids)) == len(ids)
    cameras = [one["topic"] for one in shown if one["platform"] == "camera"]
    assert cameras == [f"sv/{source}/snapshot"] * snapshots


def test_the_entities_of_a_source(log):
    config, *_ = mapping().messages(log.write("a", ONLINE))
    components = json.loads(config.payload)["components"]
    assert {(one["platform"], one["state_topic"]) for one in components.values()} == {
        ("binary_sensor", "sv/a/people"),
        ("sensor", "sv/a/people"),
        ("sensor", "sv/a/status"),
        ("event", "sv/a/event"),
    }
    assert {"track.begin", "source.online"} <= set(components["event"]["event_types"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("origin",), {}),
        (("device",), {"name": "a"}),
        (("availability_mode",), "some"),
        (("components", "people", "state_topic"), "sv/+/people"),
        (("components", "event", "event_types"), []),
        (("components", "status", "state_class"), "measurement"),
        (("components", "people", "platform"), "people"),
    ],
)
def test_the_schema_refuses_what_home_assistant_refuses(log, path, value):
    config, *_ = mapping().messages(log.write("a", ONLINE))
    payload = json.loads(config.payload)
    place = payload
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(payload)


@pytest.mark.parametrize(
    ("url", "port", "tls", "user", "password"),
    [
        ("mqtt://host", 1883, False, None, None),
        ("mqtts://host", 8883, True, None, None),
        ("mqtt://joe:a%2Fb@host:77/", 77, False, "joe", "a/b"),
    ],
)
def test_addresses_of_brokers(url, port, tls, user, password):
    broker = broker_at(url, None, None, None)
    assert (broker.host, broker.port, broker.tls) == ("host", port, tls)
    assert (broker.user, broker.password) == (user, password)


@pytest.mark.parametrize(
    "url", ["host", "http://joe:pw@host", "mqtt://", "mqtt://joe:pw@h:99999", "mqtt://h/topic", "["]
)
def test_what_is_no_address_is_refused_without_its_password(url):
    with pytest.raises(UsageError, match="expected mqtt://") as refused:
        broker_at(url, None, None, None)
    assert "pw" not in str(refused.value)
