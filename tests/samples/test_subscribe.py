import itertools
import signal
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from waiting import PATIENCE_S

from streamvis.events.envelope import Event, Mask, Time, encode, family_of
from streamvis.events.feed import Feed, Message
from streamvis.stages.actions.events import Action, ActionBegin, ActionEnd, EndedAction
from streamvis.stages.forecast.events import (
    ForecastScored,
    ForecastSegmentation,
    Outlook,
    Score,
    ZoneForecast,
)
from streamvis.stages.track.events import (
    Association,
    EndedTrack,
    Merge,
    Split,
    Track,
    TrackBegin,
    TrackEnd,
    TrackMerge,
    TrackSplit,
)

SAMPLES = Path(__file__).parents[2] / "samples"
TRACK = Track(
    id="cam1:1:7",
    box_px=(0.0, 0.0, 1.0, 1.0),
    box_from="update",
    score=0.9,
    vel_px_s=(0.0, 0.0),
    cov_diag=(1.0, 1.0, 1.0, 1.0),
    p_exist=0.9,
    assoc=Association(),
    first_seen_us=0,
    age_s=0.0,
)
ENDED = EndedTrack(
    id="cam1:1:7",
    reason="lost",
    box_px=TRACK.box_px,
    first_seen_us=0,
    last_seen_us=2_000_000,
    age_s=2.0,
)

FIGHT = {"label": "fight", "window_us": 900_000, "since_us": 1_000_000, "track": "cam1:1:7"}
STORY = [
    TrackBegin(TRACK),
    TrackEnd(ENDED),
    TrackMerge(Merge(gone="cam1:1:7", kept="cam1:1:2")),
    TrackSplit((Split(id="cam1:1:2", other="cam1:1:4", since_us=500_000),)),
    ActionBegin(Action(**FIGHT, p=0.91)),
    ActionEnd(EndedAction(**FIGHT, p=0.3, p_max=0.95, reason="over")),
    ForecastSegmentation(
        Outlook(
            horizon_us=600_000,
            target_us=2_100_000,
            classes={"road": 1.0},
            mask=Mask(attachment=0, w=1, h=1, labels=("road",)),
            zones=(ZoneForecast(zone="crossing", p=0.8),),
        )
    ),
    ForecastScored(Score(made_us=900_000, horizon_us=600_000, miou=0.5, accuracy=0.9)),
]


@contextmanager
def people_coming_and_going():
    stop = threading.Event()
    with closing(Feed("tcp://127.0.0.1:*", epoch="e")) as feed:
        feed.open_source("cam1")

        def publish():
            for tseq in itertools.count(1):
                what = STORY[tseq % len(STORY)]
                event = Event(
                    id="x",
                    source="cam1",
                    epoch="e",
                    tseq=tseq,
                    offset=tseq - 1,
                    time=Time(media_us=1_500_000),
                    what=what,
                )
                family, payload = family_of(what), encode(event)
                attachments = (b"\x89PNG",) if isinstance(what, ForecastSegmentation) else ()
                feed.publish([Message("cam1", family, tseq, payload, attachments)])
                if stop.wait(0.02):
                    return

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            yield feed.endpoint
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (
            "subscribe_plain.py",
            {
                *(f"sv1/cam1/track/ N track.{what}" for what in ("begin", "end", "merge", "split")),
                *(f"sv1/cam1/action/ N action.{what}" for what in ("begin", "end")),
                *(f"sv1/cam1/forecast/ N forecast.{what}" for what in ("segmentation", "scored")),
            },
        ),
        (
            "actions.py",
            {
                "cam1: fight by cam1:1:7, p = 0.91",
                "cam1: fight ended (over) after 0.5 s",
            },
        ),
        (
            "forecast.py",
            {
                "cam1: crossing occupied in 0.6 s with p = 0.80",
                "cam1: forecast of 0.6 s ago right in 90% of pixels",
            },
        ),
        (
            "subscribe.py",
            {
                "cam1:1:7 came at 1.50 s",
                "cam1:1:7 left after 2.0 s (lost)",
                "cam1:1:7 was cam1:1:2",
                "cam1:1:2 was cam1:1:4 from 0.50 s on",
            },
        ),
    ],
)
def test_sample(sample, expected):
    with (
        people_coming_and_going() as endpoint,
        subprocess.Popen(
            [sys.executable, str(SAMPLES / sample), endpoint],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as run,
    ):
        seen = set()
        while not expected <= seen:
            line = run.stdout.readline()
            assert line, run.stderr.read()
            words = line.split()
            seen.add(" ".join("N" if word.isdecimal() else word for word in words))
        run.send_signal(signal.SIGINT)
        run.wait(PATIENCE_S)
