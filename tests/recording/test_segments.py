"""Segments: every packet in its place, playable, whatever stamps and parameter sets do."""

import errno
import os
import shutil
import subprocess
import threading
from fractions import Fraction
from itertools import pairwise

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packet_streams import (
    FPS,
    Clock,
    changed,
    encoded,
    feed,
    greys,
    like,
    packets_of,
    recorder_of,
    units,
)
from packet_streams import recordings as recorded

from streamvis.recording.parameter_sets import SETS, head_units
from streamvis.recording.tracks import Track


def assert_same_pictures(paths, source, first=0):
    """The files show what the source shows, from one picture on."""
    assert greys(paths) == greys([source])[first:]


def assert_times(path):
    """Times go forward from 0, and a key frame is first."""
    packets = packets_of(path)
    assert packets[0].is_keyframe
    assert packets[0].dts == 0
    assert all(a.dts < b.dts for a, b in pairwise(packets))
    assert all(p.pts >= p.dts for p in packets)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_all_nal_units_of_the_camera_are_in_the_segments(tmp_path, codec, b_frames):
    source = encoded(tmp_path / "in.ts", codec, b_frames=b_frames)
    recorder = recorder_of(tmp_path, segments=2)
    feed(recorder, source)
    recorder.close()
    paths = recorded(tmp_path)
    sent = [units(bytes(p)) for p in packets_of(source)]
    kept = [units(bytes(p), in_mp4=True) for path in paths for p in packets_of(path)]
    assert kept == sent
    for path in paths:
        assert_times(path)
    if b_frames == 0:
        assert [len(packets_of(path)) for path in paths] == [20, 20, 10]
    assert_same_pictures(paths, source)


@pytest.mark.parametrize(
    ("codec", "name"), [("mjpeg", "in.avi"), ("mpeg4", "in.mp4"), ("h264", "in.mp4")]
)
def test_bytes_stay_as_they_are_where_there_are_no_start_codes(tmp_path, codec, name):
    source = encoded(tmp_path / name, codec)
    recorder = recorder_of(tmp_path, segments=2)
    feed(recorder, source)
    recorder.close()
    paths = recorded(tmp_path)
    assert [bytes(p) for path in paths for p in packets_of(path)] == [
        bytes(p) for p in packets_of(source)
    ]
    for path in paths:
        assert_times(path)
    assert_same_pictures(paths, source)


def test_stamps_that_are_right_keep_their_distances(tmp_path):
    source = encoded(tmp_path / "in.ts", b_frames=2)
    recorder = recorder_of(tmp_path, segments=60)
    feed(recorder, source)
    recorder.close()
    (path,) = recorded(tmp_path)
    sent, kept = packets_of(source), packets_of(path)
    assert [p.dts - kept[0].dts for p in kept] == [p.dts - sent[0].dts for p in sent]
    assert [p.pts - p.dts for p in kept] == [p.pts - p.dts for p in sent]


def without_sets(codec):
    def change(number, packet):
        sets = {unit for kind, unit in head_units(codec, bytes(packet)) if kind in SETS[codec]}
        kept = [unit for unit in units(bytes(packet)) if unit not in sets]
        assert kept
        return like(packet, b"".join(b"\0\0\0\1" + unit for unit in kept))

    return change


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_parameter_sets_only_in_the_sdp(tmp_path, codec):
    source = encoded(tmp_path / "in.ts", codec)
    recorder = recorder_of(tmp_path, segments=2)
    feed(recorder, source, without_sets(codec))
    recorder.close()
    assert_same_pictures(recorded(tmp_path), source)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_parameter_sets_only_in_band(tmp_path, codec):
    source = encoded(tmp_path / "in.ts", codec)
    recorder = recorder_of(tmp_path, segments=2)
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        stream.codec_context.extradata = None
        recorder.follow(stream)
        for packet in container.demux(stream):
            recorder.add(packet, 0)
    recorder.close()
    assert_same_pictures(recorded(tmp_path), source)


@pytest.mark.parametrize("codec", ["h264", "hevc", "mjpeg"])
def test_another_size_begins_another_segment(tmp_path, codec):
    """A camera that is reconfigured goes on in the same stream."""
    ending = "avi" if codec == "mjpeg" else "ts"
    small = encoded(tmp_path / f"small.{ending}", codec)
    large = encoded(tmp_path / f"large.{ending}", codec, size=(160, 128))
    recorder = recorder_of(tmp_path, segments=60)
    with av.open(str(small)) as first, av.open(str(large)) as second:
        recorder.follow(first.streams.video[0])
        end = 0
        for packet in first.demux(video=0):
            recorder.add(packet, 0)
            end = max(end, (packet.dts or 0) + packet.duration)
        for packet in second.demux(video=0):
            if packet.size:
                moved = like(packet, pts=packet.pts + end, dts=packet.dts + end)
                moved.stream = first.streams.video[0]
                recorder.add(moved, 0)
    recorder.close()
    paths = recorded(tmp_path)
    sizes = []
    for path, source in zip(paths, (small, large), strict=True):
        with av.open(str(path)) as container:
            sizes.append((container.streams.video[0].width, container.streams.video[0].height))
        assert_same_pictures([path], source)
    assert sizes == [(96, 64), (160, 128)]


FAULTS = {
    "missing": lambda n, p: like(p, pts=None, dts=None) if n % 3 else p,
    "all missing": lambda n, p: like(p, pts=None, dts=None),
    "doubled": lambda n, p: like(p, pts=p.pts - 9000, dts=p.dts - 9000) if n % 2 else p,
    "hours ahead": lambda n, p: like(p, pts=p.pts + 10**9, dts=p.dts + 10**9) if n % 7 == 3 else p,
    "hours back": lambda n, p: like(p, pts=p.pts - 10**9, dts=p.dts - 10**9) if n % 7 == 3 else p,
    "begin anew": lambda n, p: like(p, pts=n % 20 * 9000, dts=n % 20 * 9000),
    "stand still": lambda n, p: like(p, pts=1, dts=1),
    "no presentation": lambda n, p: like(p, pts=None),
    "no decoding": lambda n, p: like(p, dts=None),
    "shown before decoded": lambda n, p: like(p, pts=p.dts - 40000),
}


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_stamps_lose_no_packet_and_times_stay_near_real_time(tmp_path, fault, live):
    source = encoded(tmp_path / "in.ts")
    clock = Clock() if live else None
    recorder = recorder_of(tmp_path, segments=60, clock=clock)
    with av.open(str(source)) as container:
        recorder.follow(container.streams.video[0])
        for number, packet, media_us in changed(container, FAULTS[fault]):
            if clock:
                clock.now = number / FPS
            recorder.add(packet, media_us)
    recorder.close()
    (path,) = recorded(tmp_path)
    assert_times(path)
    assert_same_pictures([path], source)
    packets = packets_of(path)
    assert float(packets[-1].dts * packets[-1].time_base) == pytest.approx(4.9, abs=2.5)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return encoded(tmp_path_factory.mktemp("film") / "in.ts", pictures=30)


@settings(max_examples=40)
@given(
    stamps=st.lists(
        st.tuples(
            st.none() | st.integers(-(2**40), 2**40), st.none() | st.integers(-(2**40), 2**40)
        ),
        min_size=30,
        max_size=30,
    )
)
def test_any_stamps_make_a_file_that_plays(tmp_path_factory, film, stamps):
    folder, source = tmp_path_factory.mktemp("any"), film
    recorder = recorder_of(folder, segments=1)
    feed(recorder, source, lambda n, p: like(p, pts=stamps[n][0], dts=stamps[n][1]))
    recorder.close()
    for path in recorded(folder):
        assert_times(path)
    assert len(greys(recorded(folder))) == 30
    shutil.rmtree(folder)


@pytest.mark.parametrize("codec", ["aac", "pcm_mulaw", "mp3"])
def test_audio_is_recorded_if_an_mp4_can_hold_it(tmp_path, codec, capfd):
    """MP3 of 8 kHz is refused only when the header is written."""
    source = encoded(tmp_path / ("in.mkv" if codec == "mp3" else "in.mov"), audio=codec)
    recorder = recorder_of(tmp_path, segments=60)
    feed(recorder, source)
    recorder.close()
    (path,) = recorded(tmp_path)
    assert_same_pictures([path], source)
    with av.open(str(path)) as container:
        assert len(container.streams.audio) == (codec == "aac")
    log = capfd.readouterr()
    assert (log.out + log.err).count("audio is not recorded") == (codec != "aac")
    if codec == "aac":
        sent, kept = packets_of(source, "audio"), packets_of(path, "audio")
        sent = [p for p in sent if p.dts >= 0]
        assert [bytes(p) for p in kept] == [bytes(p) for p in sent]


def test_an_audio_stream_without_packets_does_not_hold_back_the_video(tmp_path):
    source = encoded(tmp_path / "in.mov", audio="aac")
    recorder = recorder_of(tmp_path, segments=60)
    with av.open(str(source)) as container:
        recorder.follow(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.size:
                recorder.add(packet, 0)
        (path,) = recorded(tmp_path)
        assert len(greys([path])) >= 30  # of 50, while it is being written
    recorder.close()


def test_a_packet_that_the_muxer_refuses_is_left_out(tmp_path):
    source = encoded(tmp_path / "in.mp4")
    recorder = recorder_of(tmp_path, segments=60)
    feed(recorder, source, lambda n, p: like(p, b"\xff" * 9) if n in (15, 33) else p)
    recorder.close()
    (path,) = recorded(tmp_path)
    assert len(packets_of(path)) in (48, 50)  # an MP4 may hold nonsense, too


def test_names_tell_time_and_epoch_and_replace_nothing(tmp_path):
    source = encoded(tmp_path / "in.ts")
    for epoch in (1, 1, 2):
        recorder = recorder_of(tmp_path, segments=60, epoch=epoch)
        feed(recorder, source)
        recorder.close()
    names = [path.relative_to(tmp_path).as_posix() for path in recorded(tmp_path)]
    assert names == [
        f"recordings/cam1/2027-01-15/080000-{name}.mp4" for name in ("e1", "e1_1", "e2")
    ]
    for path in recorded(tmp_path):
        assert_same_pictures([path], source)


def test_others_cannot_read_recordings(tmp_path):
    before = os.umask(0)
    try:
        recorder = recorder_of(tmp_path, segments=60)
        feed(recorder, encoded(tmp_path / "in.ts"))
        recorder.close()
    finally:
        os.umask(before)
    (path,) = recorded(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o640
    assert {folder.stat().st_mode & 0o777 for folder in path.parents[:3]} == {0o750}


def test_a_segment_that_somebody_has_deleted_is_followed_by_another(tmp_path):
    source = encoded(tmp_path / "in.ts")
    recorder = recorder_of(tmp_path, segments=60)

    def delete(number, packet):
        if number == 15:
            shutil.rmtree(tmp_path / "recordings")
        return packet

    feed(recorder, source, delete)
    recorder.close()
    assert_same_pictures(recorded(tmp_path), source, 20)


def test_another_thread_may_close_it(tmp_path):
    source = encoded(tmp_path / "in.ts")
    recorder = recorder_of(tmp_path, segments=60)
    thread = threading.Thread(target=recorder.close)

    def close(number, packet):
        if number == 25:
            thread.start()
            thread.join()
        return packet

    feed(recorder, source, close)
    recorder.close()
    assert greys(recorded(tmp_path)) == greys([source])[:25]


def test_what_comes_before_the_first_key_frame_is_not_recorded(tmp_path):
    source = encoded(tmp_path / "in.ts")
    recorder = recorder_of(tmp_path, segments=60)
    feed(recorder, source, lambda n, p: p if n >= 7 else None)
    recorder.close()
    assert_same_pictures(recorded(tmp_path), source, 10)


def test_a_folder_that_cannot_be_written_is_tried_again_and_nothing_raises(tmp_path, capfd):
    source = encoded(tmp_path / "in.ts", pictures=100)
    (tmp_path / "recordings").write_text("in the way")
    clock = Clock()
    recorder = recorder_of(tmp_path, segments=60, clock=clock)
    with av.open(str(source)) as container:
        recorder.follow(container.streams.video[0])
        for number, packet, media_us in changed(container, lambda n, p: p):
            clock.now = number * 0.7  # slow motion
            if number == 30:
                (tmp_path / "recordings").unlink()
            recorder.add(packet, media_us)
    recorder.close()
    assert_same_pictures(recorded(tmp_path), source, 50)  # 30 s after the first attempt
    log = capfd.readouterr()
    assert (log.out + log.err).count("recording stopped") == 1
    assert (log.out + log.err).count("recording resumed") == 1


def test_a_disk_that_fills_up_leaves_whole_fragments(tmp_path, monkeypatch):
    """The disk takes 4000 bytes of the file, and half of a write."""
    from streamvis.recording import mp4

    class Full(mp4.FileIO):
        room = 4000

        def write(self, data):
            taken = min(len(data), self.room)
            self.room -= taken
            if not taken:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(bytes(data)[:taken])

    monkeypatch.setattr(mp4, "FileIO", Full)
    source = encoded(tmp_path / "in.ts", pictures=100)
    recorder = recorder_of(tmp_path, segments=60)
    feed(recorder, source)
    recorder.close()
    (path,) = recorded(tmp_path)
    found = greys([path])
    assert 10 <= len(found) < 100
    assert mp4.end_of_fragments(path) == path.stat().st_size


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="no ffprobe: install ffmpeg")
def test_ffprobe_finds_nothing_wrong(tmp_path):
    source = encoded(tmp_path / "in.ts", b_frames=2)
    recorder = recorder_of(tmp_path, segments=2)
    feed(recorder, source)
    recorder.close()
    for path in recorded(tmp_path):
        command = ["ffprobe", "-v", "warning", "-count_packets", "-show_streams", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert f"nb_read_packets={len(packets_of(path))}" in done.stdout


def test_ticks_are_divided_exactly_with_every_pyav(tmp_path):
    with av.open(str(encoded(tmp_path / "a.mp4", pictures=2))) as container:
        track = Track(container.streams.video[0])
    assert type(track.time_base) is Fraction
