"""Results are written where they can be, and this is known before the work."""

import cv2
import numpy as np
import pytest

from streamvis.cli.output import check_writable, or_dash, write_png
from streamvis.errors import UsageError


def test_paths_that_cannot_be_written_are_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "new/folder/plot.png")
    for path in (tmp_path, tmp_path / "file/plot.png"):
        with pytest.raises(UsageError, match="cannot be written"):
            check_writable(path)


def test_png_files_are_rgb(tmp_path, capsys):
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 0] = 200  # red
    write_png(tmp_path / "a.png", image)
    assert (cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_COLOR_RGB) == image).all()
    assert capsys.readouterr().err == f"wrote {tmp_path / 'a.png'}\n"


def test_a_value_that_does_not_exist_is_a_dash():
    assert [or_dash(value) for value in (0, 0.0, None)] == [0, 0.0, "-"]
