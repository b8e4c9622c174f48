"""Pictures are read as RGB, and refused where their labels are of another size."""

import cv2
import numpy as np
import pytest

from streamvis.datasets.pictures import read_picture
from streamvis.errors import DataError


def test_a_picture_is_rgb_also_a_grey_one_with_a_name_in_unicode(tmp_path):
    red, grey = tmp_path / "röd.png", tmp_path / "grey.png"
    cv2.imwrite(str(red), np.full((2, 3, 3), (0, 0, 255), np.uint8))
    cv2.imwrite(str(grey), np.full((2, 3), 7, np.uint8))
    assert read_picture(red, (3, 2)).tolist() == [[[255, 0, 0]] * 3] * 2
    assert read_picture(grey).tolist() == [[[7, 7, 7]] * 3] * 2


def test_what_is_no_picture_or_of_another_size_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(DataError, match=r"a.png has 3×2 pixels, but 6×4 by its labels"):
        read_picture(tmp_path / "a.png", (6, 4))
    (tmp_path / "b.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"b.png cannot be read as an image"):
        read_picture(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"c.png does not exist"):
        read_picture(tmp_path / "c.png")
