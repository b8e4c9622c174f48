"""Pictures of a live stream in pieces come at the pace of their time stamps."""

from contextlib import closing
from itertools import accumulate, islice

import pytest
from file_server import serving_files

from streamvis.sources import open_source, resolve
from streamvis.sources.pacing import Pacer


def waits(arrivals, stamps):
    """When each packet goes on, for packets that wait to be read until the one before did."""
    pacer, now, given = Pacer(), 0.0, []
    for arrives, stamp in zip(arrivals, stamps, strict=True):
        now = max(now, arrives)
        now += pacer.wait_s(stamp, now)
        given.append(now)
    return given


def test_the_packets_of_a_piece_are_spread_over_its_time():
    stamps = [n / 5 for n in range(30)]
    pieces = [10.0 + 2 * (n // 10) for n in range(30)]
    assert waits(pieces, stamps) == pytest.approx([10 + stamp for stamp in stamps])


def test_after_a_late_piece_all_are_as_late():
    stamps = [n / 5 for n in range(40)]
    pieces = [0.0] * 10 + [3.0] * 10 + [4.0] * 10 + [7.0] * 10
    late = [stamp + (n >= 10) for n, stamp in enumerate(stamps)]
    assert waits(pieces, stamps) == pytest.approx(late)


@pytest.mark.parametrize("jump", [-100.0, 2.5, 3600.0])
def test_a_jump_of_the_stamps_is_not_waited_for(jump):
    stamps = [*accumulate([0.0, *[0.2] * 9, jump, *[0.2] * 9])]
    expected = [n / 5 for n in range(10)] + [1.8 + n / 5 for n in range(10)]
    assert waits([0.0] * 20, stamps) == pytest.approx(expected)


def test_a_live_playlist_is_not_read_faster_than_it_was_filmed(encode, tmp_path):
    playlist = encode(
        "live.m3u8", frames=50, container_options={"hls_time": "1"}, options={"g": "25"}
    )
    playlist.write_text(playlist.read_text().replace("#EXT-X-ENDLIST\n", ""))  # more will come
    with serving_files(tmp_path) as server:
        (spec,) = resolve([f"{server}/live.m3u8#read_s=3"])
        with closing(open_source(spec)) as source:
            assert source.info.live
            seen = list(islice(source, 45))
    passed_us = seen[-1].capture_us - seen[0].capture_us
    assert passed_us >= 0.9 * (seen[-1].media_us - seen[0].media_us) > 1_000_000
