"""Actions in a whole run: however it is run, and whoever dies."""

import os
import signal
import threading
import time
from pathlib import Path

import msgspec
import pytest
import torch
from process_tree import children
from published import content

from streamvis import config
from streamvis.events.envelope import Event
from streamvis.events.log import LogReader
from streamvis.messages import Actions
from streamvis.models.off import Calibration, Off, OffConfig
from streamvis.models.weights import save
from streamvis.runtime import inline, launch
from streamvis.runtime.host import build_stage
from streamvis.sources import resolve
from streamvis.stages import event_codec

SCENE = "a=synthetic:walkers?people=3&seconds=3&fps=20&size=320x240&seed=5"
FRAMES = 60


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> config.Pipeline:
    """Whole frames, by an untrained network that sees some action in everything."""
    weights = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    torch.manual_seed(0)
    small = {"widths": (8, 8, 8), "temporal": 8, "spatial": 4, "size": (64, 64), "window": 9}
    model = Off(OffConfig(name="untrained", actions=("fight", "normal"), **small))
    for part in model.body.modules():  # numbers as large as trained ones': tiny ones are slow
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)
    model.calibration = Calibration(scale=0.05)  # never sure
    save(model, weights, {})
    act = config.OffActions(
        weights=str(weights), scope="frame", begin=0.2, end=0.1, engine="torch", precision="fp32"
    )
    return config.Pipeline(
        [
            config.StageSpec("act", act),
            config.StageSpec("publish", config.Publish(bind=None), after=["act"]),
        ]
    )


def events(out: Path) -> list[Event]:
    with LogReader(out / "events.db") as log:
        return [content(event_codec().decode(row.payload)) for row in log.events()]


@pytest.fixture(scope="module")
def expected(pipeline, tmp_path_factory) -> list[Event]:
    out = tmp_path_factory.mktemp("inline")
    inline.run(pipeline, resolve([SCENE]), build=build_stage, out=out)
    return events(out)


def test_what_goes_on_in_the_frame_begins_goes_on_and_ends(expected):
    kinds = [event.type for event in expected]
    assert kinds[:2] == ["source.online", "action.begin"]
    assert kinds[-2:] == ["action.end", "source.eof"]
    updates = [event.frame.seq for event in expected if event.type == "action.update"]
    assert updates == list(range(updates[0], FRAMES, 2))  # ten a second


def test_processes_give_the_same_events_as_one_process(pipeline, expected, tmp_path):
    placement = config.default_placement(pipeline, machine=config.Machine(cores=2))
    launch.run(pipeline, placement, resolve([SCENE]), out=tmp_path)
    assert events(tmp_path) == expected


def test_a_killed_worker_is_cold_for_a_while_and_the_run_goes_on(pipeline, expected, tmp_path):
    killed = []

    def kill() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                if any(event.type == "action.begin" for event in events(tmp_path)):
                    break
            except Exception:  # noqa: BLE001 - the log may not be there yet
                pass
            time.sleep(0.01)
        for pid in children(word="act"):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    assassin = threading.Thread(target=kill)
    assassin.start()
    try:
        summary = launch.run(
            pipeline,
            config.default_placement(pipeline),
            resolve([SCENE]),
            out=tmp_path,
        )
    finally:
        assassin.join()
    assert killed
    (source,) = summary.sources
    assert (source.decoded, source.admitted, source.dropped) == (FRAMES, FRAMES, {})
    assert {stage.name: stage.restarts for stage in summary.stages}["act"] == 1
    found = events(tmp_path)
    lifecycle = [event for event in found if event.type != "action.update"]
    assert [event.type for event in lifecycle] == [
        event.type for event in expected if event.type != "action.update"
    ]
    told = {event.frame.seq: event.what.action.p for event in expected if event.frame}
    for event in found:
        if event.type == "action.update":
            assert event.what.action.p == pytest.approx(told[event.frame.seq], abs=0.1)
    updates = {event.frame.seq for event in found if event.type == "action.update"}
    missing = {event.frame.seq for event in expected if event.type == "action.update"} - updates
    assert len(missing) <= 2  # the moment without a pair, and none else


def test_people_are_told_of_along_their_tracks(pipeline, tmp_path):
    people = msgspec.structs.replace(
        pipeline.stage("act").run, scope="both", begin=0.2, end=0.1, min_height=8
    )
    whole = config.load_pipeline(None, {"detect.short_side": "240", "publish.bind": "none"})
    stages = [
        *(stage for stage in whole.stages if stage.name != "publish"),
        config.StageSpec("act", people, after=["track"]),
        config.StageSpec("publish", config.Publish(bind=None), after=["track", "act"]),
    ]
    parts = []
    inline.run(
        config.with_record(config.Pipeline(stages), config.Record()),
        resolve(["a=synthetic:walkers?people=3&seconds=2&fps=10&size=320x240&seed=5"]),
        build=build_stage,
        out=tmp_path,
        on_packet=lambda packet: parts.append(packet.part(Actions)),
    )
    found = events(tmp_path)
    begun = [event.what.action.track for event in found if event.type == "action.begin"]
    tracks = {event.what.track.id for event in found if event.type == "track.begin"}
    assert None in begun
    assert set(begun) - {None} <= tracks
    assert len(set(begun) - {None}) >= 1
    ended = [event.what.action.track for event in found if event.type == "action.end"]
    assert sorted(map(str, ended)) == sorted(map(str, begun))
    assert all(part.ids[0] == 0 for part in parts)
    assert (tmp_path / "annotated-a.mp4").exists() or (tmp_path / "annotated.mp4").exists()
