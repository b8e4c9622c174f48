"""Recordings of the simulated camera: over RTSP, with the faults of real ones."""

import sys
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from packet_streams import packets_of, recordings, units

sys.path.append(str(Path(__file__).parents[1]))
from rtsp_server import Camera, StampFault, encode_film, serving

from streamvis.recording.recorder import Recorder
from streamvis.recording.settings import Clips, Recording, Segments

UNITS = 120  # at 100 a second
BOTH = Recording(segments=Segments(60), clips=Clips(["track.begin"], 0.2, 0.2))


def picture(number: int, size: tuple[int, int] = (64, 96)) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (*size, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def films():
    return {
        codec: encode_film([picture(n) for n in range(50)], fps=100, key_every=10, codec=codec)
        for codec in ("H264", "H265")
    }


def recorded(camera: Camera, out: Path, least: int = 40):
    """Record 120 units of video, and a clip of at least so many; return the files of segments."""
    with serving(camera) as server:
        options = {"rtsp_transport": "tcp", "analyzeduration": "1000000"}
        with av.open(server.url, options=options, timeout=(10, 5)) as container:
            recorder = Recorder(BOTH, str(out), "cam1", 1, live=True)
            stream = container.streams.video[0]
            recorder.follow(stream)
            number = 0
            for packet in container.demux():
                recorder.add(packet, number * 10_000 or None)
                number += packet.stream.index == stream.index
                if number == 70 and packet.stream.index == stream.index:
                    recorder.cut("cam1:1:5", "track.begin", 600_000)
                if number == UNITS:
                    break
            recorder.close()
    (saved,) = recorder.saved()
    assert saved[0] == "cam1:1:5"
    assert len(packets_of(out / saved[1])) >= least
    return recordings(out)


def slices(row, codec):
    """The NAL units that hold pixels."""
    kind = (lambda nal: nal[0] & 31) if codec == "H264" else (lambda nal: nal[0] >> 1 & 63)
    last = 5 if codec == "H264" else 31
    return [[nal.rstrip(b"\0") for nal in nals if kind(nal) <= last] for nals in row]


def check(paths, film):
    """The files show the film, unit by unit; return how many units."""
    sent = slices([unit.nals for unit in film.units], film.codec)
    kept = []
    for path in paths:
        packets = packets_of(path)
        assert packets[0].is_keyframe
        assert packets[0].dts == 0
        assert all(a.dts < b.dts for a, b in pairwise(packets))
        kept += slices([units(bytes(p), in_mp4=True) for p in packets], film.codec)
        with av.open(str(path)) as container:
            assert sum(1 for _ in container.decode(video=0)) == len(packets)
    first = sent.index(kept[0])
    assert kept == [sent[(first + n) % len(sent)] for n in range(len(kept))]
    return len(kept)


@pytest.mark.parametrize("codec", ["H264", "H265"])
@pytest.mark.parametrize("quirk", ["none", "no_sprop", "no_inband", "audio_first", "metadata"])
def test_parameter_sets_and_other_tracks_wherever_they_are(films, tmp_path, codec, quirk):
    more = {} if quirk == "none" else {quirk: True}
    film = films[codec]
    paths = recorded(Camera(films=[film], fps=100, **more), tmp_path)
    assert len(paths) == 1
    assert check(paths, film) >= UNITS - 10


def test_a_camera_that_is_joined_between_key_frames(films, tmp_path):
    paths = recorded(Camera(films=[films["H264"]], fps=100, begin=3), tmp_path)
    assert check(paths, films["H264"]) >= UNITS - 20


@pytest.mark.parametrize("codec", ["H264", "H265"])
def test_a_camera_whose_size_changes(films, tmp_path, codec):
    small = films[codec]
    large = encode_film([picture(n, (96, 128)) for n in range(50)], key_every=10, codec=codec)
    paths = recorded(Camera(films=[small + large], fps=100), tmp_path, least=30)
    sizes = []
    for path in paths:
        with av.open(str(path)) as container:
            sizes.append((container.streams.video[0].width, container.streams.video[0].height))
            frames = {(frame.width, frame.height) for frame in container.decode(video=0)}
            assert frames == {sizes[-1]}
    assert len(sizes) >= 3
    assert all(a != b for a, b in pairwise(sizes))


FAULTS = {
    "hours ahead": [StampFault(kind="single", at=10, seconds=7200, every=25)],
    "hours back": [StampFault(kind="single", at=10, seconds=-7200, every=25)],
    "jump ahead": [StampFault(kind="jump", at=40, seconds=3600)],
    "jump back": [StampFault(kind="jump", at=40, seconds=-3600)],
    "restart": [StampFault(kind="restart", at=40, every=30)],
    "repeat": [StampFault(kind="repeat", at=10, every=5)],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_camera_whose_stamps_are_wrong(films, tmp_path, fault):
    faults = FAULTS[fault]
    paths = recorded(Camera(films=[films["H264"]], fps=100, stamps=faults), tmp_path)
    assert check(paths, films["H264"]) >= UNITS - 10
    packets = packets_of(paths[0])
    assert float(packets[-1].dts * packets[-1].time_base) == pytest.approx(1.2, abs=2.5)


@pytest.mark.parametrize("damage", ["drop", "flip", "truncate"])
def test_damaged_packets_are_recorded_as_they_come(films, tmp_path, damage):
    camera = Camera(films=[films["H264"]], fps=100, seed=3, spare=20, **{damage: 0.1})
    paths = recorded(camera, tmp_path)
    assert sum(len(packets_of(path)) for path in paths) >= UNITS // 2
    for path in paths:
        packets = packets_of(path)
        assert packets[0].is_keyframe
        assert all(a.dts < b.dts for a, b in pairwise(packets))
