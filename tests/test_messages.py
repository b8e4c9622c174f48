"""Parts survive the wire bit by bit, and nothing else gets through it."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from streamvis.errors import DataError
from streamvis.messages import Detections, Frame, Packet, Receipt, Tracks, decode_part, encode_part


def detections(count: int, seed: int) -> Detections:
    rng = np.random.default_rng(seed)
    return Detections(
        boxes=rng.uniform(0, 100, (count, 4)).astype(np.float32),
        scores=rng.uniform(0, 1, count).astype(np.float32),
        labels=np.ones(count, np.int32),
        masks=rng.integers(0, 255, (count, 28, 28)).astype(np.uint8),
    )


@given(st.integers(0, 9), st.integers(0, 1000))
def test_detections_come_back_as_they_were(count, seed):
    part = detections(count, seed)
    back = decode_part(encode_part(part))
    assert isinstance(back, Detections)
    for name in part.__struct_fields__:
        sent, got = getattr(part, name), getattr(back, name)
        assert np.array_equal(sent, got)
        if isinstance(sent, np.ndarray):
            assert (sent.dtype, sent.shape) == (got.dtype, got.shape)


@given(arrays.arrays(np.float32, (3, 2), elements=st.floats(width=32, allow_nan=True)))
def test_not_a_number_survives_and_so_do_strided_arrays(values):
    empty = np.zeros(0, np.int64)
    part = Tracks(
        **dict.fromkeys(
            ("ids", "boxes", "scores", "existence", "covariance", "entropy", "ended"), empty
        ),
        **dict.fromkeys(("gated", "detection", "first_seen_us", "velocity"), empty),
        ground=values[:, ::-1],
    )
    back = decode_part(encode_part(part))
    assert isinstance(back, Tracks)
    assert np.array_equal(back.ground, values[:, ::-1], equal_nan=True)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_in_one_way(data):
    with pytest.raises(DataError):
        decode_part(data)


@pytest.mark.parametrize(
    "array",
    [
        ["|O", [1], b"12345678"],
        ["<f4", [3, 4], b"1234"],
        ["<f4", [-5], b"1234"],
        ["nonsense", [1], b"1234"],
        "text",
        7,
    ],
)
def test_hostile_arrays_are_refused(array):
    plain = ["<f4", [0], b""]
    raw = {"type": "detections", "boxes": array, "scores": plain, "labels": plain, "masks": plain}
    with pytest.raises(DataError, match="not a part of streamvis"):
        decode_part(msgspec.msgpack.encode(raw))


def test_a_packet_gives_its_part_or_none():
    frame = Frame(source="a", seq=0, n=0, media_us=0, width=4, height=4)
    packet = Packet(frame=frame, parts=[Receipt(written=2)])
    assert packet.part(Receipt) == Receipt(written=2)
    assert packet.part(Detections) is None
