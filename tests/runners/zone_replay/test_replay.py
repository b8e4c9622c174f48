"""A replay has the events of zones and lines that the run had: of random scenes, in all bodies."""

from collections import Counter
from contextlib import closing

import pytest
from track_scenes import Scene, rows_of_run

from streamvis.errors import ConfigError
from streamvis.events.codec import Codec
from streamvis.events.log import Cursor, LogReader, LogWriter
from streamvis.runners.zone_replay.replay import ZoneReplay
from streamvis.stages.track.events import TRACK_EVENTS
from streamvis.stages.zones import ZoneCounter
from streamvis.stages.zones.events import ZONE_EVENTS
from streamvis.zone_layout import Line, Zone, ZoneLayout

FAMILIES = ("zone", "line")
LAYOUT = ZoneLayout(
    zones=(
        Zone(
            name="left",
            polygon=((0.1, 0.4), (0.5, 0.4), (0.5, 0.95), (0.1, 0.95)),
            dwell_s=(1.0, 3.0),
            crowd=2,
        ),
        Zone(name="right", polygon=((0.5, 0.4), (0.9, 0.4), (0.9, 0.95), (0.5, 0.95)), enter_s=0),
        Zone(name="far", polygon=((0.0, 0.0), (1.0, 0.0), (0.5, 0.6)), outside=True, crowd=1),
        Zone(name="heads", polygon=((0.2, 0.2), (0.8, 0.2), (0.5, 0.8)), anchor="centre"),
    ),
    lines=(
        Line(name="gate", start=(0.5, 0.2), end=(0.5, 1.0)),
        Line(name="aisle", start=(0.0, 0.6), end=(1.0, 0.65), band=0.3, settle_s=0.4),
    ),
)
ON_GROUND = ZoneLayout(
    zones=(
        Zone(name="court", space="ground", polygon=((2.0, 4.0), (12.0, 4.0), (7.0, 12.0))),
        Zone(name="left", polygon=LAYOUT.zones[0].polygon),
    ),
    lines=(Line(name="edge", space="ground", start=(8.0, 2.0), end=(8.0, 12.0)),),
)


def configured(layout: ZoneLayout, absent_s: float = 4.0) -> ZoneCounter:
    return ZoneCounter(zones=layout.zones, lines=layout.lines, absent_s=absent_s)


def log_of(path, rows):
    with closing(LogWriter(path)) as log:
        log.commit(rows, [Cursor("cam1", "e1", 0, len(rows), "eof", b"")])
    return path


def replayed(path, layout, settings=None):
    with LogReader(path) as log:
        replay = ZoneReplay(log, {"cam1": layout}, settings or ZoneCounter())
        events = list(replay)
        return events, replay


def bodies(events):
    return [event.what for event in events if event.family in FAMILIES]


def check(tmp_path, scene, layout, absent_s=4.0, **run):
    settings = configured(layout, absent_s)
    rows = rows_of_run(scene, settings, **run)
    codec = Codec([TRACK_EVENTS, ZONE_EVENTS])
    published = bodies(codec.decode(row.payload) for row in rows)
    found = bodies(replayed(log_of(tmp_path / "events.db", rows), layout, settings)[0])
    for i, (one, other) in enumerate(zip(found, published, strict=False)):
        assert one == other, f"event {i}"
    assert found[len(published) :] == published[len(found) :] == []
    return Counter(type(what).__name__ for what in published)


@pytest.mark.parametrize("seed", range(12))
def test_a_replay_has_the_events_of_the_run(tmp_path, seed):
    check(tmp_path, Scene(seed), LAYOUT)


@pytest.mark.parametrize("seed", range(6))
def test_a_replay_has_the_events_of_a_run_over_stream_epochs(tmp_path, seed):
    kinds = check(tmp_path, Scene(seed, epochs=True), LAYOUT)
    assert kinds["ZoneExit"] > 0


@pytest.mark.parametrize("seed", range(6))
def test_a_replay_has_the_corrections_of_the_run(tmp_path, seed):
    kinds = check(tmp_path, Scene(seed, people=8, corrections=0.3, empty=False), LAYOUT)
    assert kinds["ZoneRevise"] > 3
    assert kinds["LineRevise"] > 0


@pytest.mark.parametrize("seed", range(12))
def test_a_replay_takes_the_same_tracks_as_lost(tmp_path, seed):
    """Tracks are absent for seconds and come back; for some of the time nobody is there at all."""
    scene = Scene(
        seed, people=(1, 3, 8)[seed % 3], absent=0.03, corrections=0.1, epochs=seed % 2 == 0
    )
    kinds = check(tmp_path, scene, LAYOUT, absent_s=0.5)
    assert kinds["ZoneRevise"] > 1


@pytest.mark.parametrize("seed", range(4))
def test_a_replay_has_the_events_of_zones_on_the_ground(tmp_path, seed):
    kinds = check(tmp_path, Scene(seed, ground=True, fps=25), ON_GROUND)
    assert kinds["ZoneEnter"] > 0


def test_zones_in_metres_need_tracks_in_metres(tmp_path):
    """Without them everybody would be outside of each zone."""
    rows = rows_of_run(Scene(3, empty=False), configured(LAYOUT))
    with pytest.raises(ConfigError, match=r"'cam1' of .*events.db: .* is in metres .*calibrate"):
        replayed(log_of(tmp_path / "events.db", rows), ON_GROUND)


@pytest.mark.parametrize("ending", ["drained", "failed"])
def test_a_replay_ends_visits_as_the_run_did(tmp_path, ending):
    kinds = check(tmp_path, Scene(3, empty=False), LAYOUT, ending=ending)
    assert kinds["ZoneExit"] > 0


def test_a_merge_in_a_frame_without_tracks_is_the_same_in_the_replay(tmp_path):
    scene = Scene(2018, frames=400, fps=5, people=1, corrections=0.1, epochs=True)
    assert check(tmp_path, scene, LAYOUT)["ZoneRevise"] > 0
