import json

import msgspec
import pytest

from streamvis.errors import SourceError
from streamvis.sources import resolve
from streamvis.sources.probe import probe


def probed(text):
    (spec,) = resolve([str(text)])
    return probe(spec)


def test_a_video_is_described(encode, tmp_path):
    found = probed(encode("a.mp4", frames=50, turn=(90, False, False)))
    assert (found.id, found.kind, found.live) == ("a", "file", False)
    assert (found.width, found.height, found.fps, found.frames) == (48, 64, 25.0, 50)
    assert found.duration_s == pytest.approx(2.0)
    assert (found.stream.codec, found.stream.pixel_format) == ("h264", "yuv420p")
    assert (found.stream.rotation, found.stream.coded_size) == (90, "64x48")
    assert found.stream.first_pts_s == 0
    assert json.loads(msgspec.json.encode(found))["stream"]["container_fps"] == 25.0


def test_a_scene_is_described():
    found = probed("synthetic:walkers?size=64x48&seconds=3&people=1")
    assert (found.width, found.height, found.frames, found.duration_s) == (64, 48, 30, 3.0)
    assert found.ground_plane
    assert found.stream is None


def test_what_cannot_be_opened_is_an_error(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(SourceError, match="is empty"):
        probed(tmp_path / "a.mp4")


def test_the_pets_container_lies_about_its_rate(real_data):
    found = probed(real_data / "mot" / "pets09-s2l1")
    assert (found.fps, found.stream.container_fps, found.frames) == (7.0, 10.0, 795)
    assert found.ground_plane
