"""Contact sheets show every picture whole."""

import numpy as np
import pytest

from streamvis.errors import UsageError
from streamvis.viz.contact_sheet import contact_sheet


def test_a_contact_sheet_holds_every_picture_whole():
    pictures = [np.full((20 + 10 * i, 40 + i, 3), 40 * i, np.uint8) for i in range(5)]
    sheet = contact_sheet(pictures, 2, ["one", "two", "three", "four", "five"])
    for picture in pictures:
        assert (sheet == picture[0, 0]).all(axis=2).sum() >= picture[:, :, 0].size
    assert sheet.shape[0] > 3 * 60
    assert sheet.shape[1] > 2 * 44
    bare = contact_sheet(pictures, 2)
    assert bare.shape[0] < sheet.shape[0]


def test_a_contact_sheet_without_pictures_or_with_wrong_captions_is_refused():
    with pytest.raises(UsageError, match="0 pictures"):
        contact_sheet([], 2)
    picture = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(UsageError, match="1 captions for 2 pictures"):
        contact_sheet([picture, picture], 2, ["one"])
