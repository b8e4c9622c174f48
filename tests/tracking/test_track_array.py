"""The struct of arrays of tracks: rows, and an encoding that is exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvis.errors import DataError
from streamvis.tracking.track_array import LAYOUT, blank, unpack


def random_tracks(seed, n, width):
    rng = np.random.default_rng(seed)
    tracks = blank(n, width)
    for name in LAYOUT:
        array = getattr(tracks, name)
        setattr(tracks, name, rng.normal(0, 9, array.shape).astype(array.dtype))
    return tracks


def assert_same(one, other):
    for name in LAYOUT:
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype, name
        np.testing.assert_array_equal(a, b, err_msg=name)


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(0, 5))
def test_unpacked_tracks_are_the_packed_ones_and_can_be_changed(seed, n, width):
    tracks = random_tracks(seed, n, width)
    again = unpack(tracks.pack(), width)
    assert_same(again, tracks)
    assert (len(again), again.width) == (n, width)
    again.x += 1  # not a view of the read-only bytes


@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_tracks_that_are_split_and_joined_are_the_same(seed, n):
    tracks = random_tracks(seed, n, 3)
    first = np.arange(n) < n // 2
    assert_same(tracks.take(first).join(tracks.take(~first)), tracks)


def test_taken_rows_are_a_copy():
    tracks = random_tracks(0, 2, 3)
    before = tracks.x.copy()
    tracks.take(np.array([1])).x[:] = 0
    np.testing.assert_array_equal(tracks.x, before)


def test_another_embedding_length_drops_all_embeddings():
    tracks = random_tracks(0, 2, 3)
    tracks.widen(5)
    assert tracks.width == 5
    assert tracks.known.dtype == tracks.fresh.dtype == np.float32
    assert tracks.copy.shape == (2, 5)
    assert not any(array.any() for array in (tracks.known, tracks.fresh, tracks.known_s))
    assert_same(unpack(tracks.pack(), 5), tracks)


@pytest.mark.parametrize(
    "change", [{"x": b"\0" * 8}, {"known": b"\0"}, {"id": b"\0" * 24}], ids=lambda c: next(iter(c))
)
def test_bytes_of_another_length_are_refused(change):
    with pytest.raises(DataError, match="not the state of a tracker"):
        unpack(random_tracks(0, 2, 3).pack() | change, 3)


def test_a_missing_array_is_named():
    packed = random_tracks(0, 2, 3).pack()
    del packed["group"]
    with pytest.raises(DataError, match="not the state of a tracker: KeyError\\('group'\\)"):
        unpack(packed, 3)


def test_a_state_of_half_precision_embeddings_is_read():
    tracks = random_tracks(0, 2, 3)
    packed = tracks.pack()
    for name in ("known", "fresh"):
        packed[name] = getattr(tracks, name).astype(np.float16).tobytes()
    again = unpack(packed, 3)
    assert again.known.dtype == np.float32
    np.testing.assert_array_equal(again.known, tracks.known.astype(np.float16))
    np.testing.assert_array_equal(again.x, tracks.x)


def test_a_state_from_before_a_field_was_added_has_zeros_there():
    tracks = blank(2, 3)
    tracks.x[:] = 7
    later = ("hidden", "copy", "copy_s", "copy_us")
    for name in later:
        getattr(tracks, name)[:] = 3
    packed = tracks.pack()
    for name in later:
        del packed[name]
    again = unpack(packed, 3)
    assert again.copy.shape == (2, 3)
    assert not any(getattr(again, name).any() for name in later)
    assert (again.x == 7).all()
