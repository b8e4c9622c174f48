"""ONVIF metadata and events: pure, from the rows of a log; and at a real broker."""

import json

import pytest
from bridged import BOX, ONLINE, begin, bridge, end, growing, update
from hypothesis import assume, given
from hypothesis import strategies as st
from mqtt_broker import mosquitto, needs_mosquitto, subscribed

from streamvis.bridges.onvif import OnvifMapping, normalised
from streamvis.bridges.onvif_rules import object_id, utc_of
from streamvis.events.envelope import Event, Time
from streamvis.events.log import Row
from streamvis.stages import event_codec
from streamvis.stages.track.events import Merge, Split, TrackMerge, TrackSplit

METADATA = "streamvis/onvif-mj/VideoAnalytics/a/streamvis"
COUNT = "streamvis/onvif-ej/RuleEngine/CountAggregation/OccupancyCounter/&a/streamvis/people"


@pytest.fixture
def log(tmp_path):
    with growing(tmp_path / "events.db") as log:
        yield log


def mapping():
    return OnvifMapping(event_codec(), "streamvis")


def frames(messages):
    return [
        frame for m in messages if m.topic == METADATA for frame in json.loads(m.payload)["Frame"]
    ]


def counts(messages):
    return [json.loads(m.payload)["Data"]["Count"] for m in messages if m.topic == COUNT]


def tree(log, before, whats):
    """The ObjectTree of a frame with these events, after a frame with those before."""
    mapped = mapping()
    if before:
        mapped.messages(log.write("a", *before, n=0))
    (frame,) = frames(mapped.messages(log.write("a", *whats, n=1)))
    return frame.get("ObjectTree")


def test_a_frame_has_all_its_objects(log):
    rows = log.write("a", ONLINE, begin("a", 1), update("a", 7), n=3)
    (frame,) = frames(mapping().messages(rows))
    assert frame["@Source"] == "a"
    assert frame["@UtcTime"].endswith("Z")
    assert [one["@ObjectId"] for one in frame["Object"]] == [1, 7]
    appearance = frame["Object"][0]["Appearance"]
    left, top, right, bottom = BOX
    assert appearance["Shape"]["BoundingBox"] == pytest.approx(
        {
            "@left": left / 320 - 1,
            "@right": right / 320 - 1,
            "@top": 1 - top / 240,
            "@bottom": 1 - bottom / 240,
        }
    )
    assert appearance["Class"]["Type"] == [{"@Likelihood": 0.75, "#text": "Human"}]
    assert "ObjectTree" not in frame


def test_frames_are_messages_of_their_own(log):
    rows = log.write("a", begin("a", 1), n=0) + log.write("a", update("a", 1), n=1)
    found = frames(mapping().messages(rows + log.write("b", begin("b", 1), n=1)))
    assert [one["Object"][0]["@ObjectId"] for one in found] == [1, 1]


def ref(number):
    return {"@ObjectId": number}


def split(*pairs):
    return TrackSplit(tuple(Split(id=f"a:1:{i}", other=f"a:1:{j}", since_us=0) for i, j in pairs))


def merge(gone, kept):
    return TrackMerge(Merge(gone=f"a:1:{gone}", kept=f"a:1:{kept}"))


@pytest.mark.parametrize(
    ("before", "whats", "expected"),
    [
        ([begin("a", 1)], [end("a", 1)], {"Delete": [ref(1)]}),
        (
            [begin("a", 1), begin("a", 2)],
            [merge(2, 1), end("a", 2, into="a:1:1")],
            {"Merge": [{"from": [ref(2), ref(1)], "to": ref(1)}]},
        ),
        (
            [begin("a", 2)],
            [merge(2, 1), end("a", 2, into="a:1:1"), begin("a", 1)],
            {"Rename": [{"from": ref(2), "to": ref(1)}]},
        ),
        (
            [begin("a", 1), begin("a", 2)],
            [split((1, 2), (2, 1))],
            {"Rename": [{"from": ref(1), "to": ref(2)}, {"from": ref(2), "to": ref(1)}]},
        ),
        (
            [begin("a", 1)],
            [split((1, 5)), begin("a", 5)],
            {"Split": [{"from": ref(1), "to": [ref(1), ref(5)]}]},
        ),
        ([], [begin("a", 1)], None),
    ],
)
def test_corrections_are_operations_of_the_object_tree(log, before, whats, expected):
    assert tree(log, before, whats) == expected


def test_the_count_is_told_when_it_changes(log):
    mapped = mapping()
    rows = log.write("a", begin("a", 1), begin("a", 2), n=0) + log.write("a", update("a", 1), n=1)
    messages = mapped.messages(rows)
    state, mapped = mapped.state(), mapping()
    mapped.restore(state)
    messages += mapped.messages(log.write("a", end("a", 1), n=2))
    assert counts(messages) == [2, 1]
    event = json.loads(next(m.payload for m in messages if m.topic == COUNT))
    assert event["Source"] == {
        "VideoSource": "a",
        "AnalyticsConfiguration": "streamvis",
        "Rule": "people",
    }


sizes = st.integers(1, 10_000)
edges = st.floats(-1e5, 1e5)


@given(edges, edges, edges, edges, sizes, sizes)
def test_coordinates_are_within_one_and_y_is_up(x, y, x2, y2, width, height):
    box = (min(x, x2), min(y, y2), max(x, x2), max(y, y2))
    left, top, right, bottom = normalised(box, width, height)
    assert -1 <= left <= right <= 1
    assert -1 <= bottom <= top <= 1


@given(st.floats(0, 1), st.floats(0, 1), sizes, sizes)
def test_coordinates_can_be_read_back(x, y, width, height):
    left, top, *_ = normalised((x * width, y * height, width, height), width, height)
    assert (left + 1) / 2 == pytest.approx(x, abs=1e-9)
    assert (1 - top) / 2 == pytest.approx(y, abs=1e-9)


ids = st.tuples(st.integers(1, 2**20), st.integers(1, 10**9 - 1))


@given(ids, ids)
def test_object_ids_are_distinct_and_exact_in_json(one, other):
    assume(one != other)
    numbers = [object_id(f"cam-1:{epoch}:{number}") for epoch, number in (one, other)]
    assert numbers[0] != numbers[1]
    assert all(0 < number < 2**53 for number in numbers)


@given(st.text())
def test_any_text_has_an_object_id(text):
    assert isinstance(object_id(text), int)


def test_utc_is_the_capture_time_where_it_is_known():
    event = Event(id="x", source="a", epoch="e", tseq=1, offset=0, time=Time(media_us=0, emit_us=5))
    assert utc_of(event) == "1970-01-01T00:00:00.000Z"
    later = Event(
        id="x",
        source="a",
        epoch="e",
        tseq=1,
        offset=0,
        time=Time(media_us=0, capture_us=1_790_000_000_123_456),
    )
    assert utc_of(later) == "2026-09-21T14:13:20.123Z"


def test_what_is_not_readable_is_left_out():
    assert mapping().messages([Row("a", 0, 1, "track.begin", 0, b"{}")]) == []


@needs_mosquitto
def test_a_log_at_a_broker(tmp_path):
    with (
        mosquitto(tmp_path) as broker,
        growing(tmp_path / "events.db") as log,
        subscribed(broker) as sub,
    ):
        log.walk("a", 1)
        log.finish("a")
        address = f"mqtt://127.0.0.1:{broker.port}"
        with bridge("onvif", address, "--log", tmp_path, "--until-ended") as running:
            assert running.wait() == 0, running.said
        expected = mapping().messages(log.rows)
        for topic in (METADATA, COUNT):
            assert sub.payloads(topic) == [m.payload for m in expected if m.topic == topic]
