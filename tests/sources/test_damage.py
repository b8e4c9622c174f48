"""Which pictures lost data may have damaged, and what is lost by the frame numbers of H.264."""

import pytest
from films import draw
from hypothesis import given
from hypothesis import strategies as st
from rtsp_server import encode_film

from streamvis.sources.damage import Damage, FrameNumbers

KINDS = {
    "one reference": {},
    "two bits more": {"x264-params": "keyint=200"},
    "reordered": {"bf": "3", "b-pyramid": "normal", "b_strategy": "0", "refs": "4"},
    "high profile with scaling lists": {"profile": "high", "x264-params": "cqm=jvt:8x8dct=1"},
    "interlaced": {"flags": "+ildct+ilme"},
    "intra refresh": {"intra-refresh": "1"},
}


def packet(unit) -> bytes:
    return b"".join(b"\0\0\0\1" + nal for nal in unit.nals)


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def film(request):
    return encode_film([draw(n) for n in range(60)], key_every=25, options=request.param)


def is_reference(unit) -> bool:
    return any(nal[0] & 31 in {1, 5} and nal[0] & 0x60 for nal in unit.nals)


def test_nothing_is_lost_in_a_whole_stream(film):
    numbers = FrameNumbers()
    assert [numbers.lost_before(packet(unit)) for unit in film.units] == [0] * 60


@pytest.mark.parametrize("gap", [1, 2, 5])
def test_missing_reference_pictures_are_counted(film, gap):
    """The picture after those that are missing says how many, but for a key frame."""
    for first in range(5, 20 - gap, 2):
        numbers = FrameNumbers()
        lost = [
            numbers.lost_before(packet(unit))
            for place, unit in enumerate(film.units)
            if not first <= place < first + gap
        ]
        missing = sum(is_reference(unit) for unit in film.units[first : first + gap])
        assert sum(lost) == missing


@given(st.binary(max_size=200), st.integers(0, 59))
def test_no_bytes_make_it_fail(noise, place):
    film = encoded()
    numbers = FrameNumbers(packet(film.units[0])[:60] + noise)
    data = packet(film.units[place])
    assert 0 <= numbers.lost_before(data[: len(noise)] + noise + data[len(noise) :]) <= 1000
    assert 0 <= numbers.lost_before(b"\0\0\1" + noise) <= 1000


_films: list = []


def encoded():
    if not _films:
        _films.append(encode_film([draw(n) for n in range(60)], key_every=25))
    return _films[0]


@given(st.lists(st.sampled_from(["key", "fine", "lost", "corrupt"]), min_size=1, max_size=60))
def test_a_picture_is_suspect_exactly_when_its_group_was_damaged_before(kinds):
    damage, group_damaged = Damage(), False
    for pts, kind in enumerate(kinds):
        damage.add_packet(pts, key=kind == "key", lost=kind == "lost")
        found = damage.is_suspect(pts, key=kind == "key", corrupt=kind == "corrupt")
        group_damaged = kind in {"lost", "corrupt"} or (group_damaged and kind != "key")
        assert found == group_damaged


def test_a_decoder_that_holds_pictures_back_does_not_mix_groups():
    """The key frame comes out after the packets behind it were lost: only those are suspect."""
    damage = Damage()
    damage.add_packet(0, key=True, lost=False)
    damage.add_packet(1, key=False, lost=True)
    damage.add_packet(2, key=True, lost=False)
    damage.add_packet(3, key=False, lost=True)
    found = [damage.is_suspect(pts, key=pts in {0, 2}, corrupt=False) for pts in range(4)]
    assert found == [False, True, False, True]


def test_pictures_shown_before_a_key_frame_need_those_of_the_group_before():
    damage = Damage()
    damage.add_packet(0, key=True, lost=False)
    damage.add_packet(1, key=False, lost=True)
    damage.add_packet(4, key=True, lost=False)
    damage.add_packet(3, key=False, lost=False)  # refers to 1 and 4
    damage.add_packet(5, key=False, lost=False)
    found = {
        pts: damage.is_suspect(pts, key=pts in {0, 4}, corrupt=False) for pts in (0, 1, 3, 4, 5)
    }
    assert found == {0: False, 1: True, 3: True, 4: False, 5: False}


def test_an_intra_refresh_takes_the_time_of_a_group():
    damage, found = Damage(), []
    for pts in range(40):
        damage.add_packet(pts, key=pts % 10 == 0, lost=pts == 15)
        found.append(damage.is_suspect(pts, key=pts == 0, corrupt=False))
    assert found == [15 <= pts < 30 for pts in range(40)]
