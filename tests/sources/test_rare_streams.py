"""Streams that are rare, but whole: nothing of them is lost, misplaced or called an error."""

from itertools import pairwise

import av
import films
import looking
import numpy as np
import pytest
from av.packet import Packet
from av.stream import Disposition
from films import Film, draw, number, write
from structlog.testing import capture_logs

from streamvis.config import MaskRcnn, Pipeline, StageSpec
from streamvis.runtime import inline
from streamvis.sources import SourceSpec
from streamvis.sources.video import VideoSource


def watched(path):
    source = VideoSource(SourceSpec(id="a", uri=str(path), kind="file"))
    try:
        return list(source), source
    finally:
        source.close()


def remux(path, to, change, options=None):
    """Copy the video of one file into another; `change` gives the packets to be written."""
    with av.open(str(path)) as given, av.open(str(to), "w", options=options or {}) as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        packets = [packet for packet in given.demux(video=0) if packet.size]
        for packet in change(packets):
            packet.stream = stream
            container.mux(packet)


def assert_whole(pictures, source, shown, step_us=40_000):
    assert [number(p.pixels) for p in pictures] == shown
    assert [p.n for p in pictures] == list(range(len(shown)))
    steps = [b.media_us - a.media_us for a, b in pairwise(pictures)]
    assert steps == pytest.approx([step_us] * len(steps), abs=1000)
    assert (source.errors, source.ended) == (0, "eof")


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv", "ts", "flv"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_stamps_of_decoding_in_place_of_those_of_presentation(tmp_path, codec, container):
    """As in files that were made from bare streams."""

    def shuffle(packets):
        first = packets[0].dts
        for packet in packets:
            packet.pts = packet.dts = packet.dts - first
        return packets

    write(Film("mp4", codec, reorder=True), tmp_path / "a.mp4")
    remux(tmp_path / "a.mp4", tmp_path / f"b.{container}", shuffle)
    assert_whole(*watched(tmp_path / f"b.{container}"), list(range(24)))


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("container", ["mkv", "ts", "mp4"])
def test_pictures_before_a_cut_are_not_missed(tmp_path, monkeypatch, codec, container):
    """Cut at a key frame in whose place others are shown that need what was cut away."""
    monkeypatch.setitem(films.REORDERED["h264"], "x264-params", "open-gop=1")  # x265's default
    whole = tmp_path / ("a.ts" if container == "ts" else "a.mp4")  # with the headers it needs
    write(Film(whole.suffix[1:], codec, reorder=True, frames=48), whole)

    def cut(packets):
        start = [n for n, packet in enumerate(packets) if packet.is_keyframe][1]
        return packets[start:]

    remux(whole, tmp_path / f"b.{container}", cut)
    pictures, source = watched(tmp_path / f"b.{container}")
    first = number(pictures[0].pixels)
    assert_whole(pictures, source, list(range(first, 48)))


def test_a_cover_is_no_video(tmp_path):
    write(Film("mp4", "h264"), tmp_path / "a.mp4")
    with (
        av.open(str(tmp_path / "a.mp4")) as given,
        av.open(str(tmp_path / "b.mp4"), "w") as container,
    ):
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 320, 192, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        stream = container.add_stream_from_template(given.streams.video[0])
        frame = av.VideoFrame.from_ndarray(np.zeros((192, 320, 3), np.uint8), format="rgb24")
        packets = [*cover.encode(frame), *cover.encode(None)]
        container.mux(packets)
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    assert_whole(*watched(tmp_path / "b.mp4"), list(range(24)))


@pytest.mark.parametrize("codec", ["h264", "mpeg2"])
@pytest.mark.parametrize("container", ["mp4", "ts", "mkv", "avi"])
def test_interlaced_pictures(tmp_path, monkeypatch, codec, container):
    encoder, pix_fmt, options = films.ENCODERS[codec]
    options = options | {"flags": "+ildct+ilme"}
    monkeypatch.setitem(films.ENCODERS, codec, (encoder, pix_fmt, options))
    write(Film(container, codec, reorder=True), tmp_path / f"a.{container}")
    pictures, source = watched(tmp_path / f"a.{container}")
    assert_whole(pictures, source, list(range(24)))


@pytest.mark.parametrize("reorder", [False, True])
def test_a_fragmented_mp4_promises_nothing(tmp_path, reorder):
    options = {"movflags": "frag_keyframe+empty_moov"}
    write(Film("mp4", "h264", reorder, options=options), path := tmp_path / "a.mp4")
    pictures, source = watched(path)
    assert_whole(pictures, source, list(range(24)))
    assert source.info.promised is None
    path.write_bytes(path.read_bytes()[:-800])
    with capture_logs() as redacted:
        pictures, source = watched(path)
    assert 6 <= len(pictures) < 24
    assert redacted == []


def packed(packets):
    """As early DivX and Xvid: a B-picture lies in the packet before it, and an empty one behind."""
    groups, held = [], None
    mark = b"\0\0\1\xb2DivX503b1393p"  # by which decoders know it
    for packet in packets:
        data = bytes(packet)
        vop = data.index(b"\0\0\1\xb6") + 4
        if data[vop] >> 6 == 2 and held is not None:  # of type B
            groups[held] += data
            groups.append(b"\0\0\1\xb6\x51\x7f")  # a picture that is not coded
            held = None
        else:
            held = len(groups)
            groups.append(data if groups else data[: vop - 4] + mark + data[vop - 4 :])
    for packet, data in zip(packets, groups, strict=True):
        new = Packet(data)
        new.pts = new.dts = packet.dts
        new.time_base, new.is_keyframe = packet.time_base, packet.is_keyframe
        yield new


def test_packed_pictures_come_in_order(tmp_path):
    write(Film("avi", "mpeg4", reorder=True), tmp_path / "a.avi")
    remux(tmp_path / "a.avi", tmp_path / "b.avi", packed)
    assert_whole(*watched(tmp_path / "b.avi"), list(range(24)))


def test_a_file_that_was_cut_short_says_so_in_the_summary(tmp_path):
    options = {"movflags": "faststart"}
    write(Film("mp4", "mjpeg", frames=20, options=options), path := tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    sources = [SourceSpec(id="a", uri=str(path), kind="file")]
    pipeline = Pipeline(stages=[StageSpec("look", MaskRcnn())])
    with capture_logs() as redacted:
        summary = inline.run(pipeline, sources, build=looking.build, out=tmp_path / "out")
    (report,) = summary.sources
    assert (report.frames_promised, report.ending) == (20, "eof")
    assert 5 < report.decoded < 20
    assert [line["promised"] for line in redacted] == [20]


def test_drawn_numbers_are_read():
    assert [number(draw(n)) for n in range(0, 1024, 7)] == list(range(0, 1024, 7))
