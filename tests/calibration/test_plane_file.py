"""Where the plane of each kind of source lies, and what its file gives back."""

import json
from pathlib import Path

import numpy as np
import pytest
from factories import video

from streamvis.calibration import ground_plane, plane_file
from streamvis.calibration.inputs import Points
from streamvis.calibration.plane_file import Calibration
from streamvis.errors import UsageError
from streamvis.geometry import read_ground_plane
from streamvis.sources import resolve
from streamvis.sources.spec import SourceSpec

SIZE = (640, 480)
H = ground_plane.from_view(4.2, 17, 600, SIZE)


def spec_of(text: str) -> SourceSpec:
    (spec,) = resolve([text])
    return spec


def test_a_plane_lies_beside_a_video_or_a_folder_and_inside_a_sequence(tmp_path):
    clip = video(tmp_path / "a.b.mp4")
    assert plane_file.path_for(spec_of(str(clip))) == tmp_path / "a.b.ground_plane.json"
    folder = video(tmp_path / "images/unused.mp4").parent
    images = SourceSpec(id="images", uri=str(folder), kind="images")
    assert plane_file.path_for(images) == tmp_path / "images.ground_plane.json"
    (folder / "seqinfo.ini").touch()
    sequence = SourceSpec(id="s", uri=str(folder / "img1"), kind="images")
    assert plane_file.path_for(sequence) == folder / "ground_plane.json"


def test_the_plane_of_a_live_source_lies_in_the_current_directory_by_its_id():
    for kind, uri in (("camera", "0"), ("url", "rtsp://somewhere/main")):
        spec = SourceSpec(id="door", uri=uri, kind=kind)
        assert plane_file.path_for(spec) == Path("door.ground_plane.json")


@pytest.mark.parametrize(
    ("kind", "uri", "says"),
    [
        ("synthetic", "synthetic:walkers", r"^synthetic:walkers has no directory .* --out FILE"),
        ("images", "here/*.png", r"^here/\*\.png is a glob; calibrate the directory instead, or"),
    ],
)
def test_a_source_without_a_directory_is_told_to_name_a_file(kind, uri, says):
    with pytest.raises(UsageError, match=says):
        plane_file.path_for(SourceSpec(id="a", uri=uri, kind=kind))


def test_what_is_written_is_read_back_and_is_found_by_a_run(tmp_path):
    clip = video(tmp_path / "a.mp4")
    spec = spec_of(str(clip))
    known = Points(np.array([[1.0, 2], [3, 4]]), np.array([[5.0, 6], [7, 8]]))
    path = plane_file.path_for(spec)
    data = plane_file.document(Calibration(H, "points", known), spec, SIZE, "streamvis calibrate")
    plane_file.write(path, data)
    found = plane_file.read(spec, path)
    np.testing.assert_array_equal(found.H, H)
    np.testing.assert_array_equal(found.known.pixels, known.pixels)
    np.testing.assert_array_equal(found.known.metres, known.metres)
    assert (found.way, found.made_for) == ("file", SIZE)
    assert spec_of(str(clip)).ground_plane == read_ground_plane(path)
    fields = json.loads(path.read_text())
    assert (fields["way"], fields["made_by"]) == ("points", "streamvis calibrate")
    assert fields["source"] == str(clip)


def test_a_plane_of_no_points_has_none_in_its_file(tmp_path):
    spec = SourceSpec(id="a", uri="rtsp://user:secret@somewhere/main", kind="url")
    data = plane_file.document(Calibration(H, "view"), spec, SIZE, "")
    assert "points" not in json.loads(data)
    assert b"secret" not in data


def test_without_a_file_the_plane_of_the_source_counts_and_else_none_does(tmp_path):
    spec = SourceSpec(id="a", uri="a.mp4", kind="file")
    assert plane_file.read(spec, tmp_path / "none.json") is None
    spec = SourceSpec(id="a", uri="a.mp4", kind="file", ground_plane=tuple(H.ravel().tolist()))
    found = plane_file.read(spec, tmp_path / "none.json")
    np.testing.assert_array_equal(found.H, H)
    assert (found.known, found.made_for) == (None, None)


def test_a_file_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path):
    plane_file.write(tmp_path / "new/folder/a.json", b"1")
    plane_file.write(tmp_path / "new/folder/a.json", b"2")
    assert (tmp_path / "new/folder/a.json").read_bytes() == b"2"
    (tmp_path / "taken.json").mkdir()
    with pytest.raises(UsageError, match=r"taken\.json cannot be written: Is a directory"):
        plane_file.write(tmp_path / "taken.json", b"3")
    with pytest.raises(UsageError, match=r"b\.json cannot be written: "):
        plane_file.write(tmp_path / "new/folder/a.json/b.json", b"3")
    assert not list(tmp_path.rglob("*.new"))
