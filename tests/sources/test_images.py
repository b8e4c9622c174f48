import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from structlog.testing import capture_logs

from streamvis.errors import SourceError
from streamvis.sources import SourceSpec, open_source, resolve


def write(path, picture):
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), picture[..., ::-1])


def coloured(n, size=(40, 30)):
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    picture[:] = (10 * n, 200, 50)
    picture[:10, :10] = (255, 0, 0)
    return picture


def watched(text):
    (spec,) = resolve([str(text)])
    source = open_source(spec)
    pictures = list(source)
    source.close()
    return pictures, source


def test_images_come_in_natural_order_with_their_own_sizes(tmp_path):
    sizes = {1: (40, 30), 2: (20, 50), 10: (33, 31)}
    for n, size in sizes.items():
        write(tmp_path / "s" / f"{n}.png", coloured(n, size))
    pictures, source = watched(tmp_path / "s")
    for picture, (n, size) in zip(pictures, sizes.items(), strict=True):
        np.testing.assert_array_equal(picture.pixels, coloured(n, size))
    assert [(p.n, p.media_us) for p in pictures] == [(0, 0), (1, 40_000), (2, 80_000)]
    assert (source.info.width, source.info.height, source.info.frames) == (40, 30, 3)
    assert (source.info.fps, source.info.live, source.ended) == (25.0, False, "eof")


def test_an_image_that_cannot_be_read_is_named_counted_and_skipped(tmp_path):
    for n in range(4):
        write(tmp_path / "s" / f"{n}.png", coloured(n))
    (tmp_path / "s" / "0.png").write_bytes(b"")
    (tmp_path / "s" / "2.png").write_bytes(b"not an image")
    with capture_logs() as logs:
        pictures, source = watched(tmp_path / "s")
    assert [(p.n, p.media_us) for p in pictures] == [(1, 40_000), (3, 120_000)]
    assert source.errors == 2
    assert [Path(log["path"]).name for log in logs] == ["0.png", "2.png"]


def test_a_rate_sets_the_times(tmp_path):
    for n in range(3):
        write(tmp_path / "s" / f"{n}.png", coloured(n))
    pictures, source = watched(f"{tmp_path}/s/*.png#fps=7")
    assert [p.media_us for p in pictures] == [0, 142857, 285714]
    assert source.info.fps == 7.0


@pytest.mark.parametrize("picture", [np.zeros((9, 7), np.uint8), np.zeros((9, 7, 4), np.uint8)])
def test_grey_and_transparent_images_become_rgb(tmp_path, picture):
    assert cv2.imwrite(str(tmp_path / "a.png"), picture)
    assert watched(tmp_path / "a.png")[0][0].pixels.shape == (9, 7, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    picture = cv2.GaussianBlur(coloured(5, (48, 32)), (0, 0), 2)
    jpeg = cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes()
    entry = b"\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0])
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + bytes(4)
    header = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + header + jpeg[2:])
    turned = picture.transpose(1, 0, 2) if orientation > 4 else picture
    flip_x, flip_y = orientation in {2, 3, 6, 7}, orientation in {3, 4, 7, 8}
    expected = turned[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
    (shown,), _ = watched(tmp_path / "a.jpg")
    assert shown.pixels.shape == expected.shape
    assert np.abs(shown.pixels.astype(int) - expected).max() < 20


def test_a_jpeg_opened_as_video_is_turned_too(tmp_path):
    """PyAV cannot list the side data of such a frame: the rotation alone is known."""
    picture = cv2.GaussianBlur(coloured(5, (48, 32)), (0, 0), 2)
    jpeg = cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + bytes(4)
    header = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + header + jpeg[2:])
    source = open_source(SourceSpec(id="a", uri=str(tmp_path / "a.jpg"), kind="file"))
    shown = next(iter(source)).pixels
    source.close()
    assert np.abs(shown.astype(int) - np.rot90(picture, -1)).max() < 40


def test_images_none_of_which_can_be_read_are_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(SourceError, match="none of its 1 images can be read"):
        watched(tmp_path / "*.png")


def test_images_that_went_away_are_refused(tmp_path):
    with pytest.raises(SourceError, match="holds no images"):
        open_source(SourceSpec(id="a", uri=str(tmp_path), kind="images"))


def moving(n):
    """A picture with a white square that moves: each differs from the one before."""
    picture = coloured(n, (48, 40))
    picture[20:30, 4 * n : 4 * n + 10] = 255
    return picture


def animate(path, count=10, durations=None):
    animation = cv2.Animation()
    animation.frames = [np.ascontiguousarray(moving(n)[..., ::-1]) for n in range(count)]
    animation.durations = np.array(durations or [40] * count)
    exact = {".webp": [cv2.IMWRITE_WEBP_QUALITY, 101], ".avif": [cv2.IMWRITE_AVIF_QUALITY, 100]}
    assert cv2.imwriteanimation(str(path), animation, exact.get(path.suffix, []))


@pytest.mark.parametrize("suffix", ["webp", "png", "apng", "avif"])
def test_an_animation_gives_all_its_pictures_at_its_own_times(tmp_path, suffix):
    durations = [100, 40, 40, 40, 200, 40, 40, 40, 40, 40]
    path = tmp_path / f"a.{'png' if suffix == 'apng' else suffix}"
    animate(path, 10, durations)
    path = path.rename(tmp_path / f"a.{suffix}")
    pictures, source = watched(path)
    assert [p.n for p in pictures] == list(range(10))
    starts = np.cumsum([0, *durations[:-1]]) * 1000
    assert [p.media_us for p in pictures] == starts.tolist()
    for n, picture in enumerate(pictures):
        assert np.abs(picture.pixels.astype(int) - moving(n)).max() <= (
            20 if suffix == "avif" else 0
        )
    info = source.info
    assert (info.frames, info.fps, source.errors, source.ended) == (10, 25.0, 0, "eof")
    assert (info.width, info.height) == (48, 40)
    assert [p.media_us for p in watched(f"{path}#fps=5")[0]] == [200_000 * n for n in range(10)]


def test_a_tiff_gives_all_its_pages_with_their_sizes(tmp_path):
    pages = [moving(n) for n in range(5)] + [coloured(7, (30, 20))]
    assert cv2.imwritemulti(str(tmp_path / "a.tif"), [page[..., ::-1].copy() for page in pages])
    pictures, source = watched(tmp_path / "a.tif")
    for picture, page in zip(pictures, pages, strict=True):
        np.testing.assert_array_equal(picture.pixels, page)
    assert [p.media_us for p in pictures] == [40_000 * n for n in range(6)]
    assert source.info.frames == 6


def test_an_animation_is_decoded_some_pictures_at_a_time(tmp_path, monkeypatch):
    animate(tmp_path / "a.webp", 12)
    whole = watched(tmp_path / "a.webp")[0]
    monkeypatch.setattr("streamvis.sources.images.AT_ONCE", 3 * whole[0].pixels.nbytes)
    for picture, other in zip(watched(tmp_path / "a.webp")[0], whole, strict=True):
        np.testing.assert_array_equal(picture.pixels, other.pixels)


def test_in_a_directory_a_file_is_one_picture(tmp_path):
    """Numbers are those of files; what holds several is told, once."""
    write(tmp_path / "s" / "1.png", coloured(1))
    animate(tmp_path / "s" / "2.png")
    animate(tmp_path / "s" / "3.webp")
    write(tmp_path / "s" / "4.png", coloured(4))
    with capture_logs() as logs:
        pictures, source = watched(tmp_path / "s")
    assert [(p.n, p.media_us) for p in pictures] == [(n, 40_000 * n) for n in range(4)]
    assert source.info.frames == 4
    (log,) = logs
    assert "some hold several" in log["event"]
    assert Path(log["path"]).name == "2.png"


def test_what_is_left_of_a_damaged_animation_is_counted(tmp_path):
    animate(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) * 2 // 3])
    pictures, source = watched(tmp_path / "a.png")
    assert 1 < len(pictures) < 10
    assert len(pictures) + source.errors == source.info.frames


def png(depth, colour, channels, count=3):
    """An animation of plain pictures whose every byte is 40 n + 10."""

    def chunk(name, data):
        checked = name + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 16, depth, colour, 0, 0, 0))]
    parts.append(chunk(b"acTL", struct.pack(">II", count, 0)))
    for n in range(count):
        control = struct.pack(">IIIIIHHBB", max(2 * n - 1, 0), 20, 16, 0, 0, 1, 10, 0, 0)
        row = b"\0" + bytes([40 * n + 10]) * (channels * depth // 8 * 20)
        pixels = zlib.compress(row * 16)
        name, number = (b"fdAT", struct.pack(">I", 2 * n)) if n else (b"IDAT", b"")
        parts += [chunk(b"fcTL", control), chunk(name, number + pixels)]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_animations_of_any_depth_become_rgb(tmp_path, depth, colour, channels):
    (tmp_path / "a.png").write_bytes(png(depth, colour, channels))
    pictures, source = watched(tmp_path / "a.png")
    assert [p.pixels[3, 3].tolist() for p in pictures] == [[40 * n + 10] * 3 for n in range(3)]
    assert pictures[0].pixels.dtype == np.uint8
    assert source.info.fps == 10


def test_a_still_avif_is_a_picture_whatever_it_is_called(tmp_path):
    picture = cv2.GaussianBlur(coloured(5), (0, 0), 2)
    write(tmp_path / "a.avif", picture)
    (shown,), _ = watched(tmp_path / "a.avif")
    assert np.abs(shown.pixels.astype(int) - picture).max() < 30
    (tmp_path / "a.avif").rename(tmp_path / "a.mp4")
    with pytest.raises(SourceError, match=r"not a video but a picture: give it the ending \.avif"):
        watched(tmp_path / "a.mp4")


def test_a_heic_picture_is_told_to_be_one(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x08meta")
    with pytest.raises(SourceError, match="HEIC is a format that is not read here; convert it"):
        watched(tmp_path / "a.heic")
