"""A camera is watched and recorded on a disk of 20 MB: the oldest segments make room."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from packet_streams import greys, recordings

sys.path.append(str(Path(__file__).parents[1]))
from live_runs import running
from rtsp_server import Camera, encode_film, serving

from streamvis.recording.settings import Recording, Segments
from streamvis.sources.spec import SourceSpec


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk is a mounted tmpfs, which takes root: run this test as root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_watching_goes_on_and_the_oldest_segments_go(small_disk):
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 255, (128, 192, 3)).astype(np.uint8) for _ in range(25)]
    film = encode_film(pictures, fps=25, key_every=25)  # 0.4 MB a second
    (small_disk / "ballast").write_bytes(bytes(7_000_000))
    out = small_disk / "out"
    record = Recording(segments=Segments(seconds=1))
    with serving(Camera(films=[film])) as server:
        camera = SourceSpec(id="cam1", uri=server.url, kind="url", record=record)
        with running(out, camera, opener="toys:open_hasty") as run:
            run.online("cam1")
            first = run.wait(lambda: recordings(out))[0]
            run.wait(lambda: not first.exists())
            before = len(run.events("cam1")), run.source("cam1")["admitted"]
            run.wait(lambda: run.source("cam1")["admitted"] > before[1] + 25)
            run.wait(lambda: len(recordings(out)) >= 3)  # tried again after a full disk
            run.end()
            log = run.log()
            assert len(run.events("cam1")) >= before[0]
    assert "recordings deleted" in log
    segments = {path.stem for path in recordings(out)}
    assert {path.stem for path in out.glob("recordings/cam1/*/*.times")} <= segments
    assert len(greys(recordings(out))) >= 25  # each of them plays to its end
    assert (small_disk / "ballast").stat().st_size == 7_000_000
