"""The real stages together: the same events however they are run, and whoever dies."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from counted_findings import counted
from process_tree import children
from published import content

from streamvis import config
from streamvis.errors import DataError
from streamvis.events.envelope import Event
from streamvis.events.log import LogReader
from streamvis.runtime import inline, launch
from streamvis.runtime.host import build_stage
from streamvis.runtime.metrics import Summary
from streamvis.sources import resolve
from streamvis.stages import event_codec
from streamvis.stages.track.corrections import Corrections
from streamvis.stages.track.mot import write_tracks

SCENE = "a=synthetic:walkers?people=4&seconds=4&fps=10&size=320x240&seed=5"
FRAMES = 40
LATEST = 20  # events, one of which at least is about a frame


def pipeline() -> config.Pipeline:
    small = {"detect.short_side": "240", "publish.bind": "none"}
    return config.load_pipeline(None, small)


def events(out: Path) -> list[Event]:
    with LogReader(out / "events.db") as log:
        return [content(event_codec().decode(row.payload)) for row in log.events()]


def together() -> config.Placement:
    return config.default_placement(pipeline())


def alone() -> config.Placement:
    """A worker for each stage, with as many threads as all of them have in one process."""
    cores = len(os.sched_getaffinity(0))
    names = [stage.name for stage in pipeline().stages]
    return config.Placement([config.WorkerSpec([name], threads=cores) for name in names])


def seen(out: Path) -> list[tuple[int, int]]:
    """Frames from 1 and who was in them, by what the log knows in the end."""
    with LogReader(out / "events.db") as log:
        told = [event_codec().decode(row.payload) for row in log.events()]
    corrections = Corrections(told)
    sights = [e for e in told if e.frame and e.type in ("track.begin", "track.update")]
    who = {(e.frame.n + 1, corrections.track_id(e)): None for e in sights}
    return [(frame, int(track.rpartition(":")[2])) for frame, track in who]


def run(out: Path, placement: config.Placement) -> Summary:
    return launch.run(pipeline(), placement, resolve([SCENE]), out=out)


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> list[Event]:
    out = tmp_path_factory.mktemp("inline")
    inline.run(pipeline(), resolve([SCENE]), build=build_stage, out=out)
    return events(out)


def frames_logged(out: Path) -> int:
    """The number of the last frame that events of the log are about, from 1."""
    try:
        with LogReader(out / "events.db") as log:
            latest = log.numbered(log.newest() - LATEST, LATEST + 1)
    except DataError:  # it is not there yet
        return 0
    found = [event_codec().decode(row.payload) for _, row in latest]
    return max((event.frame.n for event in found if event.frame), default=-1) + 1


def test_people_are_found_and_followed_in_a_made_up_scene(expected):
    kinds = [event.type for event in expected]
    assert kinds[0] == "source.online"
    assert kinds[-1] == "source.eof"
    assert 2 <= kinds.count("track.begin") <= 8
    assert kinds.count("track.begin") == kinds.count("track.end")
    assert kinds.count("track.update") > 40


def test_processes_give_the_same_events_as_one_process(expected, tmp_path):
    summary = run(tmp_path, together())
    (source,) = summary.sources
    assert (source.decoded, source.admitted, source.dropped) == (FRAMES, FRAMES, {})
    assert events(tmp_path) == expected
    (tracks,) = write_tracks(tmp_path / "events.db", tmp_path)
    rows = [line.split(",")[:2] for line in tracks.read_text().splitlines()]
    assert [(int(frame), int(number)) for frame, number in rows] == seen(tmp_path)
    assert (tmp_path / "summary.json").exists()
    agrees(summary, tmp_path)


def agrees(summary: Summary, out: Path) -> None:
    """What the run says that it found is what its log holds."""
    found, expected = summary.sources[0].found, counted(events(out))
    for name in ("people", "tracks", "merges", "splits"):
        assert getattr(found, name) == expected[name]
    assert found.longest.seconds == pytest.approx(expected["longest"], abs=0.11)
    assert (found.busiest.people, found.busiest.media_us) == (expected["busiest"], expected["when"])


@pytest.mark.parametrize(
    ("placement", "victims"),
    [(together, ["detect", "track"]), (alone, ["camera", "embed"])],
)
def test_killing_workers_leaves_no_trace(placement, victims, expected, tmp_path):
    killed: list[str] = []

    def kill() -> None:
        for number, stage in enumerate(victims, 1):
            deadline = time.monotonic() + 300
            while frames_logged(tmp_path) < 7 * number and time.monotonic() < deadline:
                time.sleep(0.05)
            for pid in children(word=stage):
                os.kill(pid, signal.SIGKILL)
                killed.append(stage)

    assassin = threading.Thread(target=kill)
    assassin.start()
    try:
        summary = run(tmp_path, placement())
    finally:
        assassin.join()
    assert killed == victims
    homes = placement().workers
    died = {name for home in homes for name in home.stages if {*home.stages} & {*victims}}
    assert {s.name: s.restarts for s in summary.stages} == {
        stage.name: int(stage.name in died) for stage in pipeline().stages
    }
    assert events(tmp_path) == expected
    agrees(summary, tmp_path)
