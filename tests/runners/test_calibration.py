"""A plane is written with the picture that shows it, and replaces nothing unasked."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from factories import video

from streamvis.calibration import ground_plane
from streamvis.calibration.plane_file import Calibration
from streamvis.errors import SourceError, UsageError
from streamvis.geometry import read_ground_plane
from streamvis.runners import calibration
from streamvis.sources import SourceSpec, resolve

H = ground_plane.from_view(4, 25, 60, (64, 48))
PIXELS = np.full((48, 64, 3), 90, np.uint8)


@pytest.fixture
def spec(tmp_path) -> SourceSpec:
    return resolve([str(video(tmp_path / "a.mp4"))])[0]


def test_the_plane_and_its_picture_are_written_and_kept_unless_replaced(spec, tmp_path):
    path = tmp_path / "plane.json"
    made = Calibration(H, "view")
    found = calibration.write_plane(made, PIXELS, spec, path, overwrite=False)
    assert (found.path, found.picture, found.written) == (path, tmp_path / "plane.png", True)
    np.testing.assert_allclose(np.reshape(read_ground_plane(path), (3, 3)), H)
    assert cv2.imread(str(found.picture)) is not None
    with pytest.raises(UsageError, match=r"plane\.json exists; --overwrite replaces it, --out"):
        calibration.write_plane(made, PIXELS, spec, path, overwrite=False)
    assert calibration.write_plane(made, PIXELS, spec, path, overwrite=True).written


def test_a_plane_that_was_read_is_not_written_and_another_size_is_told(spec, tmp_path):
    read = Calibration(H, "file", made_for=(640, 480))
    found = calibration.write_plane(read, PIXELS, spec, tmp_path / "p.json", overwrite=False)
    assert not found.written
    assert not found.path.exists()
    assert found.picture.exists()
    assert found.lines[0] == "made on pictures of 640x480, but these are 64x48: wrong"


def test_a_picture_that_would_replace_the_source_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), PIXELS)
    before = (tmp_path / "a.png").read_bytes()
    spec = SourceSpec(id="a", uri=str(tmp_path / "a.png"), kind="images")
    with pytest.raises(UsageError, match=r"a\.png would replace the source"):
        calibration.write_plane(
            Calibration(H, "view"), PIXELS, spec, tmp_path / "a.json", overwrite=True
        )
    assert (tmp_path / "a.png").read_bytes() == before


def test_the_first_picture_is_the_one_at_the_time_or_after(spec):
    third = calibration.first_picture(spec, 0.15)  # of ten a second: 9 grey levels further each
    assert abs(int(np.median(third)) - 18) <= 4
    with pytest.raises(SourceError, match=r"has no picture at 9 s or after"):
        calibration.first_picture(spec, 9)


def test_several_sources_are_refused(spec):
    folder = Path(spec.uri).parent
    video(folder / "b.mp4")
    assert calibration.the_source(spec.uri).uri == spec.uri
    with pytest.raises(UsageError, match="is 2 sources; expected one"):
        calibration.the_source(str(folder))
