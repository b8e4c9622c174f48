"""Cameras that come and go: real servers, real signals, real processes."""

import time
from itertools import pairwise

import av
import numpy as np
import pytest
from live_runs import running
from rtsp_server import Camera, encode_film, serving

from streamvis.recording.settings import Clips, Recording, Segments
from streamvis.sources.spec import SourceSpec


@pytest.fixture(scope="module")
def film():
    pictures = [np.full((48, 64, 3), 20 + 4 * n, np.uint8) for n in range(50)]
    return encode_film(pictures, fps=25)


def camera(name, url, **settings):
    settings = {"open_s": 10.0, "read_s": 5.0, "retry_s": 1.0, **settings}
    return SourceSpec(id=name, uri=url, kind="url", **settings)


def test_a_camera_that_is_lost_comes_back_in_the_next_epoch(film, tmp_path):
    with serving(Camera(films=[film])) as server, running(tmp_path, camera("a", server.url)) as run:
        run.online("a")
        server.kill()
        run.wait(lambda: run.source("a")["state"] == "offline")
        time.sleep(2)
        server.restart()
        before = run.source("a")["admitted"]
        run.wait(lambda: run.source("a")["admitted"] > before + 10)
        report = run.source("a")
        assert (report["reconnects"], report["epoch"]) == (1, 2)
        types = run.types("a")
        summary = run.end()
        events = run.events("a")
    assert types[:3] == ["source.connecting", "source.online", "source.offline"]
    assert [t for t in types[3:] if t not in ("source.connecting", "source.offline")] == [
        "source.online",
        "source.epoch",
    ]
    # media time grows over both epochs, and the second goes on at real time
    frames = [e for e in events if e.frame is not None]
    times = {(e.frame.stream_epoch, e.frame.seq): e.time for e in frames}
    ordered = [times[key] for key in sorted(times)]
    assert all(a.media_us < b.media_us for a, b in pairwise(ordered))
    first, last = ordered[0], ordered[-1]
    media_s = (last.media_us - first.media_us) / 1e6
    # a connection begins with up to a second that was received before the first picture came out
    assert media_s == pytest.approx((last.capture_us - first.capture_us) / 1e6, abs=2.0)
    (source,) = summary["sources"]
    assert source["decoded"] == source["admitted"] + sum(source["dropped"].values())
    assert "source offline" in run.log()


def test_a_camera_that_falls_silent_is_stalled_and_may_go_on(film, tmp_path):
    with (
        serving(Camera(films=[film])) as server,
        running(tmp_path, camera("a", server.url, read_s=4.0)) as run,
    ):
        run.online("a")
        server.pause()
        run.wait(lambda: "source.stalled" in run.types("a"))
        server.resume()
        run.wait(lambda: run.source("a")["state"] == "online")
        run.end()


def test_sigterm_ends_a_run_whose_camera_is_silent(film, tmp_path):
    with (
        serving(Camera(films=[film])) as server,
        running(tmp_path, camera("a", server.url, read_s=60.0, stall_s=1.0)) as run,
    ):
        run.online("a")
        server.pause()
        run.wait(lambda: run.source("a")["state"] == "stalled")
        run.end()
        assert run.types("a")[-1] == "source.offline"
        server.resume()


def test_an_absent_camera_holds_nobody_back_and_joins_later(film, tmp_path):
    with (
        serving(Camera(films=[film])) as one,
        serving(Camera(films=[film])) as two,
        serving(Camera(films=[film])) as three,
    ):
        url = three.url
        three.kill()
        cameras = [camera("a", one.url), camera("b", two.url), camera("c", url)]
        with running(tmp_path, *cameras) as run:
            run.online("a")
            run.online("b")
            run.wait(lambda: run.source("c")["attempts"] >= 2)
            reason = run.source("c")["reason"]
            assert "refused the connection" in reason or not reason
            three.restart()
            run.online("c")
            run.end()
            assert run.types("c")[:2] == ["source.connecting", "source.offline"]
            assert run.source("c")["epoch"] == 1


def test_a_slow_stage_drops_frames_and_counts_balance(film, tmp_path):
    """A detector three times too slow."""
    with (
        serving(Camera(films=[film])) as server,
        running(tmp_path, camera("a", server.url), detect="detect_late-120") as run,
    ):
        run.online("a")
        run.wait(lambda: run.source("a")["dropped"].get("overload", 0) > 20)
        (source,) = run.end()["sources"]
    assert source["decoded"] == source["admitted"] + sum(source["dropped"].values())
    assert source["dropped"]["overload"] > 0
    events = run.events("a")
    gaps = [e.what.stream for e in events if e.type == "source.gap"]
    told = sum(gap.count for gap in gaps if gap.reason == "overload")
    assert told == source["dropped"]["overload"]
    skipped = sum(gap.count for gap in gaps if gap.reason == "skipped")
    assert skipped == source["skipped"]


def test_a_clip_is_recorded_around_an_event_and_segments_play(film, tmp_path):
    record = Recording(
        segments=Segments(seconds=2.0),
        clips=Clips(on=["track.begin"], before_s=1.0, after_s=1.0),
    )
    with (
        serving(Camera(films=[film])) as server,
        running(tmp_path, camera("a", server.url, record=record)) as run,
    ):
        run.online("a")
        clips = run.wait(lambda: [e for e in run.events("a") if e.type == "source.clip"])
        run.end()
        begun = {e.id for e in run.events("a") if e.type == "track.begin"}
    assert clips[0].what.stream.event in begun
    path = tmp_path / clips[0].what.stream.path
    assert 1.0 < played_s(path) < 6.0
    segments = sorted((tmp_path / "recordings" / "a").rglob("*.mp4"))
    assert sum(map(played_s, segments)) > 2.0
    assert run.source("a")["recorded_bytes"] > 0


def played_s(path):
    """Decode a file and return its length in seconds."""
    with av.open(path) as container:
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    return times[-1] - times[0]


def test_a_service_that_was_killed_goes_on_in_its_log_with_other_cameras(film, tmp_path):
    with serving(Camera(films=[film])) as one, serving(Camera(films=[film])) as two:
        a, b, c = camera("a", one.url), camera("b", two.url), camera("c", two.url)
        with running(tmp_path, a, b, serve=True) as run:
            run.online("a")
            run.wait(lambda: [e for e in run.events("a") if e.type == "track.begin"])
            run.process.kill()
            run.process.wait()
        (tmp_path / "status.json").unlink()
        with running(tmp_path, a, c, serve=True, on_used="resume") as run:
            run.online("a")
            run.online("c")
            run.wait(lambda: any(e.frame and e.frame.stream_epoch == 2 for e in run.events("a")))
            run.end()
            events = run.events("a")
            offsets = [event.offset for event in events]
            assert offsets == list(range(len(offsets)))
            assert {e.frame.stream_epoch for e in events if e.frame} == {1, 2}
            open_ = {e.what.track.id for e in events if e.type == "track.begin"}
            assert open_ == {e.what.track.id for e in events if e.type == "track.end"}
            assert run.types("c")[:2] == ["source.connecting", "source.online"]


def test_two_cameras_of_one_scene_agree_on_when_it_happened(tmp_path):
    """The events of both have the same capture time for the same picture, whatever the delay."""
    pictures = [np.full((48, 64, 3), 20 + 2 * n, np.uint8) for n in range(100)]
    scene = {
        "films": [encode_film(pictures, fps=25)],
        "wall_offset_s": 0.0,
        "scene_us": time.time_ns() // 1000,
    }
    with serving(Camera(**scene)) as one, serving(Camera(**scene, latency_s=0.3)) as two:
        sources = [camera("a", one.url), camera("b", two.url)]
        with running(tmp_path, *sources, detect="shade") as run:
            run.wait(lambda: run.source("a").get("clock") == "rtcp_sr")
            run.wait(lambda: run.source("b").get("clock") == "rtcp_sr")
            run.wait(lambda: len(captured(run.events("a")).keys() & captured(run.events("b"))) > 20)
            run.end()
            seen = {name: captured(run.events(name)) for name in "ab"}
    common = seen["a"].keys() & seen["b"].keys()
    assert len(common) > 20
    period_us = 4_000_000  # of the film, which repeats
    for shade in common:
        apart = (seen["a"][shade] - seen["b"][shade] + period_us // 2) % period_us - period_us // 2
        assert abs(apart) < 40_000


def captured(events):
    """Capture times in µs by the shade of the picture, which the detector's score tells."""
    return {
        round(event.what.track.score, 3): event.time.capture_us
        for event in events
        if event.type == "track.update" and event.time.clock == "rtcp_sr"
    }


def test_no_file_of_a_run_holds_a_password(film, tmp_path):
    """Of a camera that is online, of one that refuses it, and of one that is absent."""
    password, wrong = "s3same-%2F", "0pen-sesame"
    locked = {"films": [film], "auth": "digest", "user": "joe"}
    with serving(Camera(**locked, password="s3same-/")) as server:
        address = server.url.rpartition("@")[2].removeprefix("rtsp://")
        cameras = [
            camera("a", f"rtsp://joe:{password}@{address}"),
            camera("b", f"rtsp://joe:{wrong}@{address}"),
            camera("c", f"rtsp://joe:{password}@127.0.0.1:9/main"),
        ]
        with running(tmp_path, *cameras) as run:
            run.online("a")
            run.wait(lambda: run.source("b")["reason"] and run.source("c")["reason"])
            assert "user and password" in run.source("b")["reason"]
            run.end()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 4
    for path in written:
        data = path.read_bytes()
        assert not any(secret in data for secret in (b"s3same", b"0pen-sesame")), path


def test_a_camera_too_large_for_shared_memory_ends_alone(film, tmp_path):
    large = encode_film([np.zeros((2160, 3840, 3), np.uint8)] * 10, fps=10)
    size = 64 * 48 * 3
    with serving(Camera(films=[film])) as small, serving(Camera(films=[large])) as huge:
        cameras = [camera("a", small.url), camera("b", huge.url)]
        with running(tmp_path, *cameras, detect="detect", slots=4, most_bytes=100 * size) as run:
            run.online("a")
            failed = run.wait(lambda: run.source("b").get("ending"))
            before = run.source("a")["admitted"]
            run.wait(lambda: run.source("a")["admitted"] > before)
            summary = run.end()
    assert failed == "failed"
    errors = {source["id"]: source["error"] for source in summary["sources"]}
    assert "/dev/shm" in errors["b"]
    assert not errors["a"]
