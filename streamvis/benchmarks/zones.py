"""Benchmark of zones: the cost of a frame, and the replay of a log over real time.

CPU time, so that other processes on the machine count little.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from streamvis.events.envelope import Event, FrameRef, Time, encode
from streamvis.events.log import Cursor, LogReader, LogWriter, Row
from streamvis.messages import Array, Frame, SourceInfo, Tracks
from streamvis.runners.zone_replay.replay import ZoneReplay
from streamvis.stages.track.events import Association, Track, TrackBegin, TrackUpdate
from streamvis.stages.zones import ZoneCounter
from streamvis.stages.zones.stage import SourceZones
from streamvis.zone_layout import Zone, ZoneLayout

SIZE = (1280, 720)
FPS = 25.0
HEIGHT = 120  # px, of a person
BLOCK = 25  # frames that are measured together: to read the clock takes time, too


class ZonesReport(msgspec.Struct, frozen=True, kw_only=True):
    """Cost of the stage, and speed of the replay."""

    people: int
    zones: int
    frame_ms_p50: float  # of means over a second
    frame_ms_mean: float
    replay_people: int
    replay_zones: int
    replay_over_real_time: float  # at 25 frames a second


def measure(frames: int = 750, people: int = 50, zones: int = 20) -> ZonesReport:
    """Measure both, in about ten seconds."""
    costs = 1e3 * np.array(list(_frame_s(frames, people, zones)))[1:]  # the first is a warm-up
    few = (people // 5, zones // 4)
    return ZonesReport(
        people=people,
        zones=zones,
        frame_ms_p50=round(float(np.median(costs)), 3),
        frame_ms_mean=round(float(costs.mean()), 3),
        replay_people=few[0],
        replay_zones=few[1],
        replay_over_real_time=round(_replay(frames, *few), 1),
    )


def layout(zones: int) -> ZoneLayout:
    """Return so many rectangles beside each other."""
    columns = max(round(zones**0.5), 1)
    rows = -(-zones // columns)
    return ZoneLayout(
        zones=tuple(
            Zone(name=f"zone-{i}", polygon=_rectangle(i % columns, i // columns, columns, rows))
            for i in range(zones)
        )
    )


def _rectangle(x: int, y: int, columns: int, rows: int) -> tuple[tuple[float, float], ...]:
    left, right, top, bottom = x / columns, (x + 1) / columns, y / rows, (y + 1) / rows
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def _walk(frames: int, people: int) -> Iterator[tuple[Array, Array]]:
    """Yield foot points and velocities (N, 2) of people who are reflected at the edges."""
    rng = np.random.default_rng(0)
    span = np.array(SIZE, np.float64)
    start, speed = rng.uniform(0, span, (people, 2)), rng.normal(0, 80, (people, 2))
    for n in range(frames):
        turns = (start + speed * n / FPS) / span
        inside = np.abs((turns + 1) % 2 - 1)
        yield inside * span, speed


def _boxes(feet: Array) -> Array:
    half = np.array([HEIGHT / 5, 0])
    return np.concatenate([feet - half - (0, HEIGHT), feet + half], axis=1)


def _tracks(feet: Array, velocity: Array) -> Tracks:
    people = len(feet)
    return Tracks(
        ids=np.arange(1, people + 1),
        boxes=_boxes(feet).astype(np.float32),
        scores=np.ones(people, np.float32),
        existence=np.full(people, 0.95, np.float32),
        velocity=velocity.astype(np.float32),
        covariance=np.full((people, 4), 9.0, np.float32),
        ground=np.full((people, 2), np.nan, np.float32),
        entropy=np.zeros(people, np.float32),
        gated=np.ones(people, np.int32),
        detection=np.arange(people, dtype=np.int32),
        first_seen_us=np.zeros(people, np.int64),
        ended=np.zeros(0, np.int64),
    )


def _frame_s(frames: int, people: int, zones: int) -> Iterator[float]:
    """Yield the CPU time of the stage for a frame, s: the mean of each block."""
    width, height = SIZE
    info = SourceInfo(
        id="bench", label="", width=width, height=height, fps=FPS, live=False, zones=layout(zones)
    )
    source = SourceZones(ZoneCounter(), info)
    walk = enumerate(_walk(frames, people))
    while block := [(n, _tracks(*place)) for n, place in islice(walk, BLOCK)]:
        start = time.process_time()
        for n, tracks in block:
            us = round(n * 1e6 / FPS)
            frame = Frame(source="bench", seq=n, n=n, media_us=us, width=width, height=height)
            source.add(frame, tracks, None)
        yield (time.process_time() - start) / len(block)


def _replay(frames: int, people: int, zones: int) -> float:
    """Return the media time of a log over the CPU time of its replay."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.db"
        rows = list(_rows(frames, people))
        with closing(LogWriter(path)) as writer:
            writer.commit(rows, [Cursor("bench", "", 0, len(rows), "eof", b"")])
        with LogReader(path) as log:
            start = time.process_time()
            replay = ZoneReplay(log, {"bench": layout(zones)}, ZoneCounter())
            for _ in replay:
                pass
            return replay.played_s / (time.process_time() - start)


def _rows(frames: int, people: int) -> Iterator[Row]:
    offset = 0
    for n, (feet, velocity) in enumerate(_walk(frames, people)):
        us = round(n * 1e6 / FPS)
        frame = FrameRef(n=n, seq=n, w=SIZE[0], h=SIZE[1], stream_epoch=1)
        places = zip(_boxes(feet).round(2).tolist(), velocity.round(2).tolist(), strict=True)
        for number, (box, speed) in enumerate(places, start=1):
            what = (TrackUpdate if n else TrackBegin)(_track(number, tuple(box), tuple(speed)))
            event = Event(
                id="",
                source="bench",
                epoch="",
                tseq=offset + 1,
                offset=offset,
                time=Time(media_us=us),
                frame=frame,
                what=what,
            )
            yield Row("bench", offset, offset + 1, event.type, us, encode(event))
            offset += 1


def _track(
    number: int, box: tuple[float, float, float, float], speed: tuple[float, float]
) -> Track:
    return Track(
        id=f"bench:1:{number}",
        box_px=box,
        box_from="update",
        score=0.9,
        vel_px_s=speed,
        cov_diag=(9.0, 9.0, 9.0, 9.0),
        p_exist=0.95,
        assoc=Association(),
        first_seen_us=0,
        age_s=0.0,
    )
