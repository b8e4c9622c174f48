"""Published layouts are found, and faulty files get one line."""

import shutil
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from labelled_streets import CLASS_COLOURS, random_labels, write_random_street

from streamvis.datasets.classes import CAMVID, CITYSCAPES, VOID
from streamvis.datasets.pictures import read_picture
from streamvis.datasets.street import read_labels, read_scenes
from streamvis.errors import DataError


def cityscapes(root: Path) -> Path:
    for split, city, numbers in (("train", "ulm", (7, 8, 33)), ("val", "bonn", (0, 11, 255))):
        name = f"{city}_000001_000019"
        for kind in ("leftImg8bit", "gtFine"):
            (root / kind / split / city).mkdir(parents=True)
        truth = np.repeat(np.array(numbers, np.uint8), 32)[None].repeat(64, 0)
        image = CLASS_COLOURS[truth][..., ::-1]
        cv2.imwrite(str(root / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png"), image)
        cv2.imwrite(str(root / f"gtFine/{split}/{city}/{name}_gtFine_labelIds.png"), truth)
    return root


def test_camvid_is_read_with_folders_side_by_side(tmp_path):
    classes, scenes = read_scenes(write_random_street(tmp_path))
    assert classes is CAMVID
    assert [scene.name for scene in scenes] == ["0", "1", "2"]
    truth = random_labels(1)
    assert np.array_equal(read_picture(scenes[1].image), CLASS_COLOURS[truth])
    expected = np.where(truth == 11, VOID, truth)
    assert np.array_equal(read_labels(scenes[1].label, classes), expected)


def test_camvid_is_read_as_segnet_has_it(tmp_path):
    write_random_street(tmp_path, images="val", labels="valannot")
    classes, scenes = read_scenes(tmp_path / "val")
    assert (classes, len(scenes)) == (CAMVID, 3)
    assert scenes[0].label == tmp_path / "valannot" / "0.png"


def test_a_folder_may_be_given_as_a_dot(tmp_path, monkeypatch):
    write_random_street(tmp_path, images="val", labels="valannot")
    monkeypatch.chdir(tmp_path / "val")
    assert len(read_scenes(Path())[1]) == 3


def test_cityscapes_is_read_whole_or_by_split(tmp_path):
    root = cityscapes(tmp_path)
    classes, scenes = read_scenes(root)
    assert (classes, len(scenes)) == (CITYSCAPES, 2)
    classes, (scene,) = read_scenes(root / "leftImg8bit" / "train")
    found = read_labels(scene.label, classes)
    assert [classes.names[i] for i in found[0, ::32]] == ["road", "sidewalk", "bicycle"]
    _, (scene,) = read_scenes(root / "leftImg8bit" / "val")
    assert read_labels(scene.label, classes)[0, ::32].tolist() == [VOID, 2, VOID]


def test_a_city_is_labelled_whole_or_left_out(tmp_path):
    root = cityscapes(tmp_path)
    image = root / "leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png"
    other = image.with_name("ulm_000002_000019_leftImg8bit.png")
    shutil.copyfile(image, other)
    with pytest.raises(
        DataError, match=r"ulm has no ulm_000002_.*\(1 of 3 images have no labels\)"
    ):
        read_scenes(root)
    other.unlink()
    (root / "leftImg8bit/test/rome").mkdir(parents=True)
    shutil.copyfile(image, root / "leftImg8bit/test/rome/rome_000001_000019_leftImg8bit.png")
    assert len(read_scenes(root)[1]) == 2


def test_a_folder_without_pictures_or_labels_is_told(tmp_path):
    with pytest.raises(DataError, match=r"no labelled images; expected CamVid's layout"):
        read_scenes(tmp_path)
    write_random_street(tmp_path)
    (tmp_path / "labels" / "1.png").unlink()
    with pytest.raises(DataError, match=r"has no 1\.png .*\(1 of 3 images have no labels\)"):
        read_scenes(tmp_path)


def png(width: int, height: int) -> bytes:
    """One that claims a size and holds nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\xff" * 200),
        lambda path: path.write_bytes(path.read_bytes()[:40]),
        lambda path: path.write_bytes(png(2**31 - 1, 2**31 - 1)),
        lambda path: path.write_bytes(png(2**20, 2**20)),
        lambda path: cv2.imwrite(str(path), np.zeros((96, 128, 3), np.uint8)),
        lambda path: cv2.imwrite(str(path), np.zeros((96, 128), np.uint16)),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["empty", "noise", "cut", "endless", "huge", "colours", "16 bits", "folder"],
)
def test_a_faulty_label_file_gets_one_line(harm, tmp_path, capfd):
    classes, scenes = read_scenes(write_random_street(tmp_path))
    harm(scenes[1].label)
    with pytest.raises(DataError, match=r"1\.png is not an image of labels; expected one channel"):
        read_labels(scenes[1].label, classes)
    harm(scenes[2].image)
    if scenes[2].image.is_file() and cv2.imread(str(scenes[2].image)) is not None:
        return  # colours are what a picture has
    with pytest.raises(DataError, match=r"2\.png cannot be read as an image"):
        read_picture(scenes[2].image)
