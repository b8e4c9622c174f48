import json
from pathlib import Path

import msgspec
import pytest
from events.schemas import bare, compact, validator
from hypothesis import given
from hypothesis import strategies as st

from streamvis.errors import DataError
from streamvis.events.envelope import (
    Beat,
    Event,
    FrameRef,
    Heartbeat,
    Lost,
    Mask,
    Other,
    Provenance,
    Time,
    encode,
)
from streamvis.events.source_events import Change, Gap, SourceGap, SourceOffline
from streamvis.messages import StageRun
from streamvis.stages import event_codec
from streamvis.stages.actions.events import (
    Action,
    ActionBegin,
    ActionEnd,
    ActionUpdate,
    EndedAction,
)
from streamvis.stages.forecast.events import (
    ForecastScored,
    ForecastSegmentation,
    Outlook,
    Score,
    ZoneForecast,
)
from streamvis.stages.segment.events import (
    EndedSighting,
    Region,
    Scene,
    SceneUpdate,
    Sighting,
    Unknown,
    UnknownBegin,
    UnknownEnd,
)
from streamvis.stages.track.events import (
    Association,
    BriefTrack,
    FrameTracks,
    Merge,
    Split,
    Track,
    TrackBegin,
    TrackMerge,
    TrackSplit,
    TrackUpdate,
)
from streamvis.stages.zones.events import (
    Crossing,
    LineCross,
    Occupancy,
    Visit,
    ZoneEnter,
    ZoneEntry,
    ZoneRevise,
    ZoneRevision,
)

CODEC = event_codec()
SCHEMA = validator(CODEC.json_schema())
RULES = bare(CODEC.json_schema())  # what is written about them is in docs/events.md
GOLDEN = Path(__file__).parent / "golden"
FIXTURES = sorted(path for path in GOLDEN.glob("*.json") if path.stem != "schema")

finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(max_size=20)
count = st.integers(0, 2**53)
tracks = st.builds(
    Track,
    id=text,
    box_px=st.tuples(finite, finite, finite, finite),
    box_from=st.sampled_from(["update", "predict"]),
    score=finite,
    vel_px_s=st.tuples(finite, finite),
    cov_diag=st.tuples(finite, finite, finite, finite),
    p_exist=finite,
    assoc=st.builds(Association, entropy=finite, gated=count),
    first_seen_us=count,
    age_s=finite,
    ground_m=st.none() | st.tuples(finite, finite),
    ground_cov_m2=st.none() | st.tuples(*[st.tuples(finite, finite)] * 2),
    vel_m_s=st.none() | st.tuples(finite, finite),
    speed_m_s=st.none() | finite,
)
splits = st.builds(Split, id=text, other=text, since_us=st.integers(-(2**53), 2**53))
known = {"label": text, "p": finite, "window_us": count, "since_us": count}
whose = st.none() | text
actions = st.builds(Action, **known, track=whose)
ends = st.builds(
    EndedAction,
    **known,
    p_max=finite,
    track=whose,
    reason=st.sampled_from(["over", "lost", "epoch", "eof", "drained", "failed"]),
)
shares = st.dictionaries(text, finite, max_size=3)
boxes = st.tuples(finite, finite, finite, finite)
masks = st.builds(
    Mask, attachment=count, w=count, h=count, labels=st.lists(text, max_size=3).map(tuple)
)
regions = st.builds(Region, share=finite, box_px=boxes, p=finite)
seen = {"share": finite, "box_px": boxes, "p": finite, "since_us": count}
scenes = st.builds(
    Scene,
    classes=shares,
    unknown=st.none() | st.builds(Unknown, share=finite, largest=st.none() | regions),
    mask=st.none() | masks,
)
outlooks = st.builds(
    Outlook,
    horizon_us=count,
    target_us=count,
    classes=shares,
    zones=st.lists(st.builds(ZoneForecast, zone=text, p=finite), max_size=3).map(tuple),
    warm=st.booleans(),
    mask=st.none() | masks,
)
scores = st.builds(Score, made_us=count, horizon_us=count, miou=finite, accuracy=finite)
gone = st.builds(
    EndedSighting,
    **seen,
    share_max=finite,
    reason=st.sampled_from(["over", "epoch", "eof", "drained", "failed"]),
)
numbers = st.builds(Occupancy, people=count, mean=finite, sd=finite, p_occupied=finite)
visited = st.lists(
    st.builds(Visit, track=text, entered_us=count, left_us=st.none() | count), max_size=3
).map(tuple)
revisions = st.builds(
    ZoneRevision, name=text, was=visited, now=visited, entries=count, occupancy=numbers
)
whats = st.one_of(
    st.builds(SceneUpdate, scenes),
    st.builds(UnknownBegin, st.builds(Sighting, **seen)),
    st.builds(UnknownEnd, gone),
    st.builds(ForecastSegmentation, outlooks),
    st.builds(ForecastScored, scores),
    st.builds(ActionBegin, actions),
    st.builds(ActionUpdate, actions),
    st.builds(ActionEnd, ends),
    st.builds(TrackMerge, st.builds(Merge, gone=text, kept=text)),
    st.builds(TrackSplit, st.lists(splits, max_size=3).map(tuple)),
    st.builds(FrameTracks, st.lists(st.builds(BriefTrack, text, boxes), max_size=3).map(tuple)),
    st.builds(TrackBegin, tracks),
    st.builds(TrackUpdate, tracks),
    st.builds(SourceOffline, st.builds(Change, text)),
    st.builds(SourceGap, st.builds(Gap, first=count, last=count, reason=text, count=count)),
    st.builds(ZoneEnter, st.builds(ZoneEntry, name=text, entries=count, occupancy=numbers)),
    st.builds(ZoneRevise, revisions),
    st.builds(LineCross, st.builds(Crossing, p=finite, in_total=count, out_total=count)),
    st.builds(
        Heartbeat,
        st.builds(Beat, last=st.dictionaries(text, count), sources=st.lists(text)),
    ),
)
events = st.builds(
    Event,
    id=text,
    source=st.from_regex(r"[a-z0-9_-]{1,64}", fullmatch=True),
    epoch=text,
    tseq=count,
    offset=st.integers(-1, 2**53),
    time=st.builds(Time, media_us=count, capture_us=count, emit_us=count),
    frame=st.none() | st.builds(FrameRef, n=count, seq=count, w=count, h=count, stream_epoch=count),
    prov=st.builds(
        Provenance,
        pipeline=text | st.just(',"what":{'),
        stages=st.just(msgspec.UNSET)
        | st.dictionaries(text, st.builds(StageRun, device=text, ms=finite), max_size=3),
    ),
    what=whats,
)


@given(events, st.lists(st.binary(max_size=5)).map(tuple))
def test_what_is_attached_is_not_in_the_json(event, attachments):
    with_some = msgspec.structs.replace(event, attachments=attachments)
    assert encode(with_some) == encode(event)


def test_nothing_in_the_json_passes_for_an_attachment():
    value = json.loads((GOLDEN / "scene.update.json").read_bytes())
    event = CODEC.decode(json.dumps({**value, "attachments": ["aGk="]}).encode())
    assert event.attachments == ()


@given(events)
def test_decoding_undoes_encoding_and_the_schema_holds(event):
    data = encode(event)
    assert CODEC.decode(data) == event
    value = json.loads(data)
    assert value["type"] == event.type
    assert "what" not in value
    SCHEMA.validate(value)


def test_every_type_has_a_fixture():
    assert {path.stem for path in FIXTURES} == {kind.__struct_config__.tag for kind in CODEC.types}
    assert sum(path.stat().st_size for path in FIXTURES) < 50_000


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_fixture(path, golden):
    event = CODEC.decode(path.read_bytes())
    assert event.type == path.stem
    assert type(event.what) in CODEC.types
    value = json.loads(encode(event))
    SCHEMA.validate(value)
    golden(path, json.dumps(value, indent=1) + "\n")


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_members_from_the_future_are_ignored(path):
    value = json.loads(path.read_bytes())
    event = CODEC.decode(path.read_bytes())
    value["schema"] = "streamvis.event/1.7"
    grown = {**value, "weather": {"rain": True}}
    for member in (
        *("time", "track", "stream", "hb", "merge", "action", "scene", "unknown", "forecast"),
    ):
        if member in grown:
            grown[member] = {**grown[member], "novel": [1]}
    assert CODEC.decode(json.dumps(grown).encode()) == msgspec.structs.replace(
        event, schema="streamvis.event/1.7"
    )


def test_an_end_told_before_there_were_merges_went_into_nobody():
    value = json.loads((GOLDEN / "track.end.json").read_bytes())
    del value["track"]["into"]
    assert CODEC.decode(json.dumps(value).encode()).what.track.into is None


def test_a_track_told_before_there_was_a_speed_is_read_without_one():
    value = json.loads((GOLDEN / "track.update.json").read_bytes())
    for member in ("ground_cov_m2", "vel_m_s", "speed_m_s"):
        del value["track"][member]
    track = CODEC.decode(json.dumps(value).encode()).what.track
    assert track.ground_m == (3.2, 7.9)
    assert (track.ground_cov_m2, track.vel_m_s, track.speed_m_s) == (None, None, None)


def test_a_type_from_the_future_is_handed_over_as_it_is():
    value = json.loads((GOLDEN / "source.eof.json").read_bytes())
    del value["stream"]
    event = CODEC.decode(json.dumps({**value, "type": "queue.jump", "queue": {"id": "a"}}).encode())
    assert event.what == Other("queue.jump", {"queue": {"id": "a"}})
    assert (event.type, event.family) == ("queue.jump", "queue")


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "streamvis.event/2.0"},
        {"source": "Cam 1"},
        {"tseq": -1},
        {"time": {}},
        {"type": 5},
        {"track": {}},
        {"track": None},
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(change):
    value = {**json.loads((GOLDEN / "track.begin.json").read_bytes()), **change}
    assert not SCHEMA.is_valid(value)
    with pytest.raises(DataError, match="not an event of streamvis"):
        CODEC.decode(json.dumps(value).encode())


@given(st.binary(max_size=60) | st.sampled_from([b"[" * 100_000, b'{"type":"hb"}', b"{}", b"1"]))
def test_noise_is_a_data_error(data):
    with pytest.raises(DataError):
        CODEC.decode(data)


def test_the_schema_is_the_published_one(golden):
    """Additions are welcome within major 1: `pytest --accept`, and read the difference."""
    assert json.loads(compact(RULES)) == RULES
    golden(GOLDEN / "schema.json", compact(RULES))


def test_what_was_lost_is_told_apart_as_the_samples_do():
    match Lost(topic="sv1/a/track/", first=3, last=5):
        case Lost(topic, first, last):
            assert (topic, first, last) == ("sv1/a/track/", 3, 5)
