import gc
from pathlib import Path

import av
import numpy as np
import pytest

from streamvis.sources import Picture, SourceSpec
from streamvis.sources.color import upright
from streamvis.sources.video import VideoSource


def opened(path: Path, **changes) -> VideoSource:
    return VideoSource(SourceSpec(id="a", uri=str(path), kind="file", **changes))


def watched(path: Path, **changes) -> tuple[list[Picture], VideoSource]:
    source = opened(path, **changes)
    try:
        return list(source), source
    finally:
        source.close()


KINDS = [
    ("a.mp4", {}),
    ("a.mp4", {"options": {"bf": "3"}, "frames": 23}),  # pictures come out of order
    ("a.avi", {"codec": "mpeg4"}),
    ("a.mkv", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    ("odd.mp4", {"size": (63, 47), "pix_fmt": "yuv444p"}),
    ("odd.mkv", {"size": (33, 35), "codec": "mjpeg", "pix_fmt": "yuvj444p"}),
    ("deep.mp4", {"pix_fmt": "yuv420p10le"}),
    ("a.webm", {"codec": "libvpx-vp9"}),
    ("lossless.mkv", {"codec": "ffv1", "pix_fmt": "bgr0"}),
    ("one.mp4", {"frames": 1}),
]


@pytest.mark.parametrize(("name", "how"), KINDS, ids=lambda value: str(value))
def test_pixels_are_those_of_swscale(encode, name, how):
    path = encode(name, **how)
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    pictures, _ = watched(path)
    np.testing.assert_array_equal([p.pixels for p in pictures], expected)


@pytest.mark.parametrize("matrix", [1, 6], ids=["BT.709", "BT.601"])
@pytest.mark.parametrize("extent", [1, 2], ids=["limited", "full"])
def test_colours_survive_as_they_are_tagged(encode, matrix, extent):
    patch = np.zeros((48, 64, 3), np.uint8)
    patch[:24, :32], patch[:24, 32:] = (200, 40, 60), (30, 180, 70)
    patch[24:, :32], patch[24:, 32:] = (40, 60, 210), (250, 250, 250)
    options = {"crf": "4"}
    path = encode("a.mp4", pictures=[patch] * 3, colour=(matrix, extent), options=options)
    picture = watched(path)[0][-1]
    for y, x in ((12, 16), (12, 48), (36, 16), (36, 48)):
        np.testing.assert_allclose(picture.pixels[y, x], patch[y, x], atol=6)


TURNS = [(90, 0, 0), (-90, 0, 0), (180, 0, 0), (0, 1, 0), (0, 0, 1), (90, 1, 0), (90, 0, 1)]


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_rotation_and_mirroring_are_applied(encode, turn):
    degrees, hflip, vflip = turn
    path = encode("a.mp4", turn=(degrees, bool(hflip), bool(vflip)), options={"crf": "4"})
    plain = encode("b.mp4", options={"crf": "4"})
    expected = np.rot90(watched(plain)[0][0].pixels, degrees // 90)
    expected = expected[:, ::-1] if hflip else expected
    expected = expected[::-1] if vflip else expected
    pictures, source = watched(path)
    np.testing.assert_array_equal(pictures[0].pixels, expected)
    assert all(picture.pixels.shape == expected.shape for picture in pictures)
    assert (source.info.height, source.info.width) == expected.shape[:2]


@pytest.mark.parametrize("how", [{}, {"codec": "mjpeg", "pix_fmt": "yuvj420p"}], ids=str)
def test_decoded_frames_are_freed_without_garbage_collection(encode, how):
    source = opened(encode("a.mkv", frames=30, **how))
    gc.collect()
    gc.disable()
    try:
        count = sum(1 for _ in source)
        left = sum(type(one) is av.VideoFrame for one in gc.get_objects())
    finally:
        gc.enable()
        source.close()
    assert count == 30
    assert left <= 4  # key frames whose display matrix was read, and the last picture


def test_a_slanted_display_matrix_is_left_alone(encode):
    pictures, _ = watched(encode("a.mp4", turn=(30, False, False)))
    assert pictures[0].pixels.shape == (48, 64, 3)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirror", [False, True])
def test_upright_agrees_with_the_matrix_on_every_pixel(turns, mirror):
    picture = np.arange(15, dtype=np.uint8).reshape(3, 5, 1).repeat(3, axis=2)
    quarter = np.array([[0, 1], [-1, 0]])  # rows [x y] @ quarter
    matrix = np.linalg.matrix_power(quarter, turns) @ np.diag([-1 if mirror else 1, 1])
    rows, columns = np.mgrid[:3, :5]
    moved = np.stack([columns, rows], axis=2).reshape(-1, 2) @ matrix
    moved -= moved.min(axis=0)
    expected = np.zeros_like(upright(picture, matrix))
    expected[moved[:, 1], moved[:, 0]] = picture.reshape(-1, 3)
    np.testing.assert_array_equal(upright(picture, matrix), expected)
