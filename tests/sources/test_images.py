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
    assert [log["path"].name for log in logs] == ["0.png", "2.png"]


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
