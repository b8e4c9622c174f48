"""A recording is killed at any moment, or its disk is full: what was written can be played."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from packet_streams import Clock, encoded, feed, greys, packets_of, recorder_of, recordings

from streamvis.recording.mp4 import FLOOR_BYTES

RECORD = """
import sys, time
from pathlib import Path
from packet_streams import changed, recorder_of, Clock
import av

source, out = map(Path, sys.argv[1:])
recorder = recorder_of(out, segments=3, clips=(2, 2))
with av.open(str(source)) as container:
    recorder.follow(container.streams.video[0])
    for number, packet, media_us in changed(container, lambda n, p: p):
        if number % 20 == 0:
            recorder.cut(f"1:{number}", "track.begin", media_us or 0)
        recorder.add(packet, media_us)
        time.sleep(0.002)
        print(number, flush=True)
"""


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return encoded(tmp_path_factory.mktemp("film") / "in.ts", pictures=300)


@pytest.mark.parametrize("seed", range(6))
def test_after_kill_9_all_but_the_last_second_can_be_played(tmp_path, film, seed):
    command = [sys.executable, "-c", RECORD, str(film), str(tmp_path)]
    last = random.Random(seed).randrange(30, 280)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        number = 0
        for line in process.stdout:
            number = int(line)
            if number >= last:
                break
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        number = int(rest[-1]) if rest and rest[-1].isdigit() else number
    paths = recordings(tmp_path)
    shown = greys(paths)
    assert shown == greys([film])[: len(shown)]
    assert len(shown) >= number - 12  # a fragment is a second: 10 pictures
    for path in (tmp_path / "clips").rglob("*.mp4"):
        if path.stat().st_size:
            packets = packets_of(path)
            assert all(a.dts < b.dts for a, b in pairwise(packets))
            assert not packets or packets[0].is_keyframe
            greys([path])


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 20 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk is a mounted tmpfs, which takes root: run this test as root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def filled(disk: Path, left: int = 0) -> Path:
    """Fill the disk but for so many bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(ballast, ballast.stat().st_size - left)
    return ballast


def test_a_full_disk_stops_the_recording_until_there_is_room(tmp_path, film, small_disk, capfd):
    """Thirty seconds are recorded onto a full disk, of which something is deleted half way."""
    ballast = filled(small_disk)
    clock = Clock()
    recorder = recorder_of(small_disk, segments=3, clips=(1, 1), clock=clock)

    def at_once(number, packet):
        clock.now = number * 1.0
        if number == 100:
            recorder.cut("1:1", "track.begin", 9_500_000)
        if number == 150:
            ballast.unlink()
        return packet

    feed(recorder, film, at_once)
    recorder.close()
    paths = recordings(small_disk)
    shown, sent = greys(paths), greys([film])
    assert len(shown) >= 100
    assert shown[-100:] == sent[-100:]
    log = capfd.readouterr()
    assert (log.out + log.err).count("recording stopped") == 1
    assert (log.out + log.err).count("recording resumed") == 1


def test_a_disk_that_fills_up_while_recording(film, small_disk):
    """What was written before can be played; what is left on the disk is for the event log."""
    recorder = recorder_of(small_disk, segments=3)
    filled(small_disk, left=FLOOR_BYTES + 20_000)
    feed(recorder, film)
    recorder.close()
    shown = greys(recordings(small_disk))
    assert 10 <= len(shown) < 300
    assert shutil.disk_usage(small_disk).free >= FLOOR_BYTES - 100_000
    assert shown == greys([film])[: len(shown)]


def test_room_is_made_on_a_full_disk(film, small_disk):
    """Recording goes on for ever on a small disk: the oldest segments make room."""
    from streamvis.recording.room import RoomKeeper
    from streamvis.recording.settings import Recording, Segments

    clock = Clock()
    keeper = RoomKeeper(small_disk, now=lambda: time.time() + 3600)
    log = small_disk / "events.db"
    log.write_bytes(bytes(12_200_000))
    settings = {"cam1": Recording(segments=Segments())}
    for turn in range(12):
        recorder = recorder_of(small_disk, segments=3, clock=clock, epoch=turn)
        feed(recorder, film)
        recorder.close()
        clock.now += 60
        room = keeper.make_room(settings)
        assert room.free_bytes >= 2 * FLOOR_BYTES
    assert log.stat().st_size == 12_200_000
    epochs = {path.stem.partition("-")[2] for path in recordings(small_disk)}
    assert "e11" in epochs
    assert "e0" not in epochs
    greys(recordings(small_disk))
