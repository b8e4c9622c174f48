"""Detection where something has moved, in whole runs: the same events however they are run."""

import os
import signal
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from process_tree import children
from test_pipeline import events, frames_logged

from streamvis import config
from streamvis.runtime import inline, launch
from streamvis.runtime.host import build_stage
from streamvis.sources import resolve
from streamvis.synthetic.render import SyntheticScene

STILL = range(16, 40)  # pictures in which everybody stands
FRAMES = 56


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder of pictures at 10 fps: people walk, stand still for 2.4 s, and walk on."""
    folder = tmp_path_factory.mktemp("pictures")
    scene = SyntheticScene(seed=7, people=4, size=(320, 240), fps=10, seconds=4)
    rng = np.random.default_rng(0)
    for n in range(FRAMES):
        shown = scene.picture(n - max(0, min(n - STILL.start, len(STILL))))
        noise = rng.integers(-2, 3, shown.shape) if n in STILL else 0
        noisy = np.clip(shown.astype(int) + noise, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{n:03}.png"), noisy[..., ::-1])
    return folder


def pipeline(**settings: str) -> config.Pipeline:
    small = {"detect.short_side": "240", "publish.bind": "none", **settings}
    return config.load_pipeline(None, {**small, "detect.gate": "true"})


def apart() -> config.Placement:
    """A worker that detects, and one for all that follows."""
    first, *others = [stage.name for stage in pipeline().stages]
    workers = [config.WorkerSpec(stages, threads=1) for stages in ([first], others)]
    return config.Placement(workers)


def together() -> config.Placement:
    return config.default_placement(pipeline())


@pytest.fixture(scope="module")
def expected(pictures, tmp_path_factory):
    """Events of a run in one process, and what its detector did."""
    out = tmp_path_factory.mktemp("inline")
    summary = inline.run(pipeline(), sources(pictures), build=build_stage, out=out)
    return events(out), summary.stages[0]


def sources(pictures: Path):
    return resolve([f"a={pictures}#fps=10"])


def test_frames_without_movement_are_not_looked_at_and_keep_their_tracks(expected):
    told, detect = expected
    assert (detect.name, detect.count) == ("detect", FRAMES)
    assert 15 <= detect.gated <= len(STILL) - 2
    updates = [event for event in told if event.type == "track.update" and event.frame.n in STILL]
    by_frame = {n: [e.what.track for e in updates if e.frame.n == n] for n in STILL}
    first = {track.id for track in by_frame[STILL[4]]}
    assert first
    for n in STILL[4:]:
        assert {track.id for track in by_frame[n]} == first
    assert {track.box_from for track in by_frame[STILL[8]]} == {"update"}  # it still holds
    assert {track.score for track in by_frame[STILL[8]]} == {0.0}


def test_processes_give_the_same_events_as_one_process(pictures, expected, tmp_path):
    summary = launch.run(pipeline(), together(), sources(pictures), out=tmp_path)
    assert events(tmp_path) == expected[0]
    assert {s.name: s.gated for s in summary.stages}["detect"] == expected[1].gated


def test_a_worker_that_dies_leaves_no_trace(pictures, expected, tmp_path):
    """It dies while nothing moves: its successor knows which picture was looked at last."""
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 300
        while frames_logged(tmp_path) < STILL[5] and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in children(word="detect"):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        launch.run(pipeline(), apart(), sources(pictures), out=tmp_path)
    finally:
        killer.join()
    assert killed
    assert events(tmp_path) == expected[0]
