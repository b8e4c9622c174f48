"""Each event as a line for people: every type of the schema has one."""

from pathlib import Path
from typing import get_args

import msgspec
import pytest
from zone_logs import enter, leave, past, revise, revise_line, update, visit

from streamvis.events.envelope import Beat, Event, EventBody, FrameRef, Heartbeat, Lost, Other, Time
from streamvis.events.lines import line
from streamvis.events.source_events import Change, Gap, SourceGap, SourceOffline
from streamvis.stages import event_codec
from streamvis.stages.forecast.events import (
    ForecastScored,
    ForecastSegmentation,
    Outlook,
    Score,
    ZoneForecast,
)
from streamvis.stages.segment.events import (
    EndedSighting,
    Scene,
    SceneUpdate,
    Sighting,
    Unknown,
    UnknownBegin,
    UnknownEnd,
)
from streamvis.stages.track.events import EndedTrack, Merge, Split, TrackEnd, TrackMerge, TrackSplit

GOLDEN = Path(__file__).parent / "golden"
UNSENT = {  # what the client itself adds
    Lost: Lost("sv1/a/source/", 3, 4),
    Other: Other("zone.enter", {"zone": {"id": "door"}}),
}


def example(kind):
    """An event of this type with all that it can say."""
    if kind in UNSENT:
        return event_of(UNSENT[kind])
    return event_codec().decode((GOLDEN / f"{kind.__struct_config__.tag}.json").read_bytes())


@pytest.mark.parametrize("kind", get_args(EventBody), ids=lambda kind: kind.__name__)
def test_every_type_of_the_schema_has_a_line_of_its_own(kind):
    event = example(kind)
    text = line(event, event_codec())
    assert "\n" not in text
    place, said = text.split(f"  {event.type}", 1)
    assert place == f"{event.time.media_us / 1e6:10.3f}  {event.source}"
    assert said.strip(), f"{event.type} says nothing but its type"


def test_who_leaves():
    ended = EndedTrack(
        id="a:1:7",
        reason="lost",
        box_px=(1.0, 2.0, 30.0, 40.0),
        first_seen_us=0,
        last_seen_us=12_340_000,
        age_s=12.34,
    )
    assert line(event_of(TrackEnd(ended)), event_codec()).endswith("after 12.3 s (lost)")
    into = TrackEnd(msgspec.structs.replace(ended, into="a:1:3"))
    assert line(event_of(into), event_codec()).endswith("after 12.3 s (lost, goes on as a:1:3)")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (
            TrackMerge(Merge(gone="a:1:5", kept="a:1:2")),
            "track.merge   a:1:5 is a:1:2",
        ),
        (
            TrackSplit(
                (
                    Split(id="a:1:5", other="a:1:2", since_us=1_250_000),
                    Split(id="a:1:2", other="a:1:5", since_us=1_300_000),
                )
            ),
            "a:1:5 was a:1:2 from 1.250 s on, a:1:2 was a:1:5 from 1.300 s on",
        ),
    ],
)
def test_a_correction_for_people(what, words):
    told = line(event_of(what), event_codec())
    assert words in told
    assert "\n" not in told


BOX = {"share": 0.1, "box_px": (0.0, 1.0, 64.0, 480.0), "p": 0.9, "since_us": 5}
SHARES = {"sky": 0.25, "road": 0.4, "car": 0.05, "tree": 0.3}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (
            SceneUpdate(Scene(classes=SHARES, unknown=Unknown(share=0.0125))),
            "scene.update  road 40%, tree 30%, sky 25%; unknown 1.2%",
        ),
        (SceneUpdate(Scene(classes={"sky": 1.0})), "scene.update  sky 100%"),
        (UnknownBegin(Sighting(**BOX)), "0.0     1.0    64.0   480.0  p=0.90"),
        (
            UnknownEnd(EndedSighting(**BOX, share_max=0.2, reason="over")),
            "480.0  p=0.90 (over)",
        ),
        (
            ForecastSegmentation(
                Outlook(
                    horizon_us=600_000,
                    target_us=700_000,
                    classes=SHARES,
                    zones=(ZoneForecast(zone="crossing", p=0.8),),
                )
            ),
            "in 0.6 s: road 40%, tree 30%, sky 25%; crossing p=0.80",
        ),
        (
            ForecastScored(Score(made_us=1, horizon_us=200_000, miou=0.617, accuracy=0.9)),
            "made 0.2 s ago: mIoU 0.62",
        ),
    ],
)
def test_a_scene_for_people(what, words):
    assert line(event_of(what), event_codec()).endswith(words)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (SourceGap(Gap(first=8, last=76, reason="overload")), "pictures 8..76"),
        (Lost("sv1/a/source/", 3, 4), "sv1/a/source/ 3..4 never came"),
        (SourceOffline(Change("refused")), "source.offline  refused"),
        (Heartbeat(Beat(sources=["a"])), "open: a"),
    ],
)
def test_what_is_missing_for_people(what, words):
    told = line(event_of(what), event_codec())
    assert words in told
    assert "\n" not in told


def event_of(what):
    return Event(
        id="",
        source="a",
        epoch="e",
        tseq=1,
        offset=0,
        time=Time(media_us=0),
        frame=FrameRef(n=0, seq=0, w=640, h=480, stream_epoch=1),
        what=what,
    )


def test_zones_and_lines_for_people():
    moved = [visit("a:1:5", 1_000_000, 3_200_000), visit("a:1:7", 4_000_000)]
    expected = [
        (enter("door", "a:1:5", 0, people=2), "door: a:1:5; 2 people inside"),
        (
            leave("door", "a:1:5", 0, 1_500_000, people=1),
            "door: a:1:5 after 1.5 s (left); 1 person",
        ),
        (
            revise("door", moved, [visit("a:1:5", 1_000_000)], people=1),
            "door: not a:1:5 1.0 to 3.2 s, a:1:7 since 4.0 s, but a:1:5 since 1.0 s; 1 visit",
        ),
        (
            revise_line("gate", [past("a:1:5", 1_000_000)], []),
            "gate: not a:1:5 left_to_right at 1.0 s, but nothing; in 0, out 0",
        ),
        (update("door", 2, 1.95), "door: 2 people, expected 1.95 ± 0.00; longest 0.0 s; 0 visits"),
    ]
    for what, words in expected:
        assert words in line(event_of(what), event_codec())
