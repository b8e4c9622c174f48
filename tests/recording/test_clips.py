"""Clips: complete around their event, several at a time, each a file that plays."""

import threading
from pathlib import Path

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
    packets_of,
    recorder_of,
    units,
)

from streamvis.recording.clips import PacketRing
from streamvis.recording.tracks import TimedPacket, VideoFormat

VIDEO = VideoFormat(b"", 96, 64)


def fed_with_cuts(recorder, path: Path, cuts: dict[int, list[tuple[str, int]]], clock=None):
    """Feed a video; before the packet with a number, clips of (event id, media_us) are cut."""
    with av.open(str(path)) as container:
        recorder.follow(container.streams.video[0])
        for number, packet, media_us in changed(container, lambda n, p: p):
            if clock:
                clock.now = number / FPS
            for event, at_us in cuts.pop(number, []):
                recorder.cut(event, "track.begin", at_us)
            recorder.add(packet, media_us)


def shown(out: Path, saved: list[tuple[str, str]], source: Path) -> dict[str, range]:
    """By event id the numbers of the pictures that its clip shows."""
    numbers = {units(bytes(p))[-1]: n for n, p in enumerate(packets_of(source))}
    found = {}
    for event, path in saved:
        packets = packets_of(out / path)
        assert packets[0].is_keyframe
        assert packets[0].dts == 0
        row = [numbers[units(bytes(p), in_mp4=True)[-1]] for p in packets]
        assert row == list(range(row[0], row[-1] + 1))
        assert len(greys([out / path])) == len(row)
        found[event] = range(row[0], row[-1] + 1)
    return found


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Twelve seconds, by the number of B frames."""
    home = tmp_path_factory.mktemp("films")
    return {n: encoded(home / f"{n}.ts", pictures=120, b_frames=n) for n in (0, 2)}


@settings(max_examples=15)
@given(
    events=st.lists(
        st.tuples(st.integers(0, 11_900_000), st.integers(1, 40)), min_size=1, max_size=6
    ),
    before_s=st.floats(0, 4),
    after_s=st.floats(0, 4),
    b_frames=st.sampled_from([0, 2]),
)
def test_a_clip_has_all_that_was_asked_for_and_at_most_a_group_more(
    tmp_path_factory, films, events, before_s, after_s, b_frames
):
    """Pictures 0 to 119 are 0.1 s apart; an event is derived up to 4 s after its picture."""
    out = tmp_path_factory.mktemp("clips")
    source = films[b_frames]
    recorder = recorder_of(out, clips=(before_s, after_s))
    cuts: dict[int, list[tuple[str, int]]] = {}
    for number, (at_us, late) in enumerate(events):
        cuts.setdefault(at_us // 100_000 + late, []).append((f"1:{number}", at_us))
    asked = {event: at for number, row in cuts.items() if number <= 120 for event, at in row}
    fed_with_cuts(recorder, source, cuts)
    recorder.close()
    found = shown(out, recorder.saved(), source)
    assert set(found) == set(asked)
    for event, at_us in asked.items():
        first = max(0, at_us / 1e5 - before_s * 10)
        last = min(119, at_us / 1e5 + after_s * 10)
        assert first - 10 - 7 <= found[event][0] <= first
        assert last - 1 <= found[event][-1] <= last + 5


def test_overlapping_clips_are_each_complete(tmp_path):
    source = encoded(tmp_path / "in.ts", pictures=100)
    recorder = recorder_of(tmp_path, clips=(2, 3))
    fed_with_cuts(
        recorder, source, {42: [("1:1", 4_000_000), ("1:2", 4_100_000)], 55: [("1:3", 5_000_000)]}
    )
    recorder.close()
    found = shown(tmp_path, recorder.saved(), source)
    assert found["1:1"] == range(10, 72)
    assert found["1:2"] == range(10, 73)
    assert found["1:3"] == range(20, 82)


def test_a_clip_is_told_when_it_is_complete_and_once(tmp_path):
    source = encoded(tmp_path / "in.ts", pictures=100)
    recorder = recorder_of(tmp_path, clips=(1, 2))
    told = []
    with av.open(str(source)) as container:
        recorder.follow(container.streams.video[0])
        for number, packet, media_us in changed(container, lambda n, p: p):
            if number == 30:
                recorder.cut("cam1:1:7", "track.begin", 2_500_000)
            recorder.add(packet, media_us)
            told += [(number, *one) for one in recorder.saved()]
    recorder.close()
    ((number, event, path),) = told
    assert (number, event) == (47, "cam1:1:7")  # picture 46 has been decoded
    assert path == "clips/cam1/2027-01-15/075959-track.begin-cam1-1-7.mp4"


def test_at_the_end_of_the_stream_what_there_is_is_saved(tmp_path):
    source = encoded(tmp_path / "in.ts", pictures=50)
    recorder = recorder_of(tmp_path, clips=(1, 600))
    fed_with_cuts(recorder, source, {30: [("1:1", 2_500_000)]})
    recorder.cut("1:2", "track.begin", 4_500_000)  # after the last packet
    recorder.close()
    found = shown(tmp_path, recorder.saved(), source)
    assert found == {"1:1": range(10, 50), "1:2": range(30, 50)}


def test_what_is_not_in_memory_is_no_clip(tmp_path, capfd):
    source = encoded(tmp_path / "in.ts", pictures=300)
    recorder = recorder_of(tmp_path, clips=(1, 1))
    recorder.cut("1:0", "track.begin", 0)
    fed_with_cuts(recorder, source, {290: [("1:1", 100_000)]})
    recorder.close()
    assert recorder.saved() == []
    log = capfd.readouterr()
    assert (log.out + log.err).count("clip not saved") == 2


def test_a_live_camera_whose_pictures_are_skipped_between_key_frames(tmp_path):
    """The media time is that of the last key frame; a clip begins in time all the same."""
    source = encoded(tmp_path / "in.ts", pictures=100, gop=20)
    clock = Clock()
    recorder = recorder_of(tmp_path, clips=(1, 2), clock=clock)
    with av.open(str(source)) as container:
        recorder.follow(container.streams.video[0])
        for number, packet, _ in changed(container, lambda n, p: p):
            clock.now = number / FPS
            decoded = (number - 1) // 20 * 20
            if number == 66:
                recorder.cut("1:1", "track.begin", 6_000_000)
            recorder.add(packet, None if number == 0 else decoded * 100_000)
    recorder.close()
    found = shown(tmp_path, recorder.saved(), source)["1:1"]
    assert found[0] == 40
    assert 79 <= found[-1] <= 82


def test_many_threads_may_ask(tmp_path):
    source = encoded(tmp_path / "in.ts", pictures=100)
    recorder = recorder_of(tmp_path, clips=(1, 1))
    threads = [
        threading.Thread(target=recorder.cut, args=(f"1:{n}", "track.begin", 4_000_000 + n))
        for n in range(8)
    ]

    def ask(number, packet):
        if number == 45:
            for thread in threads:
                thread.start()
        return packet

    feed(recorder, source, ask)
    for thread in threads:
        thread.join()
    recorder.close()
    found = shown(tmp_path, recorder.saved(), source)
    assert set(found) == {f"1:{n}" for n in range(8)}


def test_ids_of_events_make_no_paths(tmp_path):
    source = encoded(tmp_path / "in.ts", pictures=50)
    recorder = recorder_of(tmp_path, clips=(1, 1))
    fed_with_cuts(recorder, source, {30: [("../../../etc/x/\n", 2_500_000)]})
    recorder.close()
    ((_, path),) = recorder.saved()
    assert Path(path).parent == Path("clips/cam1/2027-01-15")
    assert (tmp_path / path).resolve().is_relative_to(tmp_path.resolve())


@given(
    packets=st.lists(
        st.tuples(st.booleans(), st.integers(0, 2_000_000), st.integers(0, 400)), max_size=60
    ),
    asked=st.integers(-1_000_000, 60_000_000),
)
def test_a_ring_is_the_shortest_tail_that_holds_what_is_asked(packets, asked):
    """Brute force: all packets are kept, and those that the ring may forget are left out."""
    ring = PacketRing(5_000_000, 5_000)
    kept: list[TimedPacket] = []
    now = 0
    for key, step, size in packets:
        now += step
        packet = TimedPacket(None, b"x" * size, 0, 0, 0, key, now)
        ring.add(packet, VIDEO)
        kept.append(packet)
        keys = [i for i, one in enumerate(kept) if one.key]
        if not keys:
            kept = []
            continue
        spare = [i for i in keys if kept[i].media_us <= now - 5_000_000]
        kept = kept[spare[-1] :] if spare else kept[keys[0] :]
        while sum(len(one.data) for one in kept) > 5_000:
            later = [i for i, one in enumerate(kept) if one.key and i > 0]
            kept = kept[later[0] :] if later else []
    assert ring.bytes == sum(len(one.data) for one in kept) <= 5_000
    before = [i for i, one in enumerate(kept) if one.key and one.media_us <= asked]
    assert ring.since(asked) == kept[before[-1] if before else 0 :]


def test_a_ring_has_packets_of_one_format():
    ring = PacketRing(10**9, 10**9)
    other = VideoFormat(b"", 640, 480)
    for media_us, video in ((0, VIDEO), (10, other), (20, other)):
        ring.add(TimedPacket(None, b"", 0, 0, 0, True, media_us), video)
    assert [packet.media_us for packet in ring.since(5)] == [10, 20]


def test_more_clips_at_once_than_are_written_are_refused(tmp_path, capfd):
    source = encoded(tmp_path / "in.ts", pictures=60)
    recorder = recorder_of(tmp_path, clips=(1, 1))
    fed_with_cuts(recorder, source, {45: [(f"1:{n}", 4_000_000) for n in range(20)]})
    recorder.close()
    assert len(recorder.saved()) == 16
    log = capfd.readouterr()
    assert (log.out + log.err).count("16 clips are being written") == 4


@pytest.mark.parametrize("memory_mb", [1])
def test_memory_is_bounded(tmp_path, memory_mb):
    """Random pictures of 200 kB a second, and 30 s asked for."""
    ring = PacketRing(30_000_000, memory_mb * 1_000_000)
    for number in range(3000):
        packet = TimedPacket(None, bytes(20_000), 0, 0, 0, number % 10 == 0, number * 100_000)
        ring.add(packet, VIDEO)
        assert ring.bytes <= 1_000_000
    assert len(ring.since(0)) >= 40
