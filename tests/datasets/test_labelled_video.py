"""Videos and folders of images, some of their frames labelled."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from labelled_drives import FRAMES, VOID, truth_of, write_drive

from streamvis.datasets.classes import CAMVID
from streamvis.datasets.labelled_video import read_labelled_video
from streamvis.errors import DataError, UsageError


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    return write_drive(tmp_path_factory.mktemp("videos") / "labelled")


def test_videos_that_cannot_be_read_are_refused(labelled, tmp_path):
    with pytest.raises(UsageError, match="no times; give their rate: --fps 15"):
        read_labelled_video(labelled, None, CAMVID.names)
    with pytest.raises(DataError, match=r"labels cannot be read.*\(this, that\) are none of"):
        read_labelled_video(labelled, 15, ("this", "that"))
    odd = write_drive(tmp_path / "odd", frames=1)
    cv2.imwrite(str(odd / "labels/000.png"), np.zeros((9, 9), np.uint8))
    with pytest.raises(DataError, match=r"000\.png is 9×9, its picture 200×48"):
        list(read_labelled_video(odd, 15, CAMVID.names))


def test_a_video_yields_times_pixels_and_labels(labelled):
    frames = list(read_labelled_video(labelled, 15, CAMVID.names))
    assert [frame.media_us for frame in frames] == [round(n * 1e6 / 15) for n in range(FRAMES)]
    expected = np.where(truth_of(7) == VOID, 255, truth_of(7))
    np.testing.assert_array_equal(frames[7].truth, expected)
