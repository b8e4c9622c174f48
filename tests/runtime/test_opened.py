"""What a run records of its sources, for those who look at their pictures later."""

import json
import os
import stat

import msgspec
import pytest
import toys
from test_launch import chain, source, workers

from streamvis.errors import DataError
from streamvis.runtime import inline, launch, opened
from streamvis.runtime.opened import MOST_ENTRIES, OPENED, OpenedWriter, read
from streamvis.runtime.output import run_files
from streamvis.sources.spec import SourceSpec

MASK = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0))
CAMERA = SourceSpec(
    id="gate",
    uri="rtsp://joe:s3cret@10.0.0.2/main?key=s3cret",
    kind="url",
    options={"headers": "s3cret"},
    privacy_masks=(MASK,),
)


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"some bytes")
    return SourceSpec(
        id="film",
        uri=os.path.relpath(path),
        kind="file",
        fps=12.5,
        options={"decryption_key": "s3cret", "probesize": "5000"},
        privacy_masks=(MASK,),
    )


def test_it_has_what_pictures_need_and_no_secret(tmp_path, film):
    writer = OpenedWriter(tmp_path)
    writer.note(film, 1)
    writer.note(CAMERA, 1)
    path = tmp_path / OPENED
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "s3cret" not in path.read_text()
    of_film, of_camera = read(tmp_path)
    assert of_film.uri == str(tmp_path / "film.mp4")
    assert (of_film.content.size, of_film.encrypted) == (10, True)
    assert of_film.spec() == SourceSpec(
        id="film", uri=of_film.uri, kind="file", fps=12.5, options={"probesize": "5000"}
    )
    assert (of_camera.uri, of_camera.options) == ("", {})
    assert of_film.privacy_masks == of_camera.privacy_masks == (MASK,)
    assert path in run_files(tmp_path)


def test_a_source_that_is_opened_as_it_was_is_recorded_once(tmp_path, film):
    writer = OpenedWriter(tmp_path)
    for epoch in range(1, 5):
        writer.note(CAMERA, epoch)
        writer.note(film, epoch)
    other = msgspec.structs.replace(CAMERA, privacy_masks=())
    OpenedWriter(tmp_path).note(other, 5)
    assert [(one.source, one.stream_epoch) for one in read(tmp_path)] == [
        ("gate", 1),
        ("film", 1),
        ("gate", 5),
    ]


def test_it_is_bounded(tmp_path):
    writer = OpenedWriter(tmp_path)
    for epoch in range(2 * MOST_ENTRIES):
        writer.note(msgspec.structs.replace(CAMERA, fps=float(epoch + 1)), epoch)
    assert [one.stream_epoch for one in read(tmp_path)] == list(
        range(MOST_ENTRIES, 2 * MOST_ENTRIES)
    )


def test_where_it_cannot_be_written_no_older_masks_are_left(tmp_path, monkeypatch):
    writer = OpenedWriter(tmp_path)
    writer.note(msgspec.structs.replace(CAMERA, privacy_masks=()), 1)

    def full(path, data, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(opened, "replace", full)
    writer.note(CAMERA, 2)
    assert read(tmp_path) == []


def test_a_file_that_lists_no_sources(tmp_path):
    assert read(tmp_path) == []
    (tmp_path / OPENED).write_text("{}")
    with pytest.raises(DataError) as told:
        read(tmp_path)
    assert OPENED in str(told.value)


@pytest.mark.parametrize("engine", ["inline", "processes"])
def test_runs_record_their_sources(tmp_path, engine):
    spec = msgspec.structs.replace(source("a", 3), privacy_masks=(MASK,))
    run(engine, spec, tmp_path, "refuse")
    (found,) = json.loads((tmp_path / OPENED).read_bytes())["sources"]
    assert (found["source"], found["stream_epoch"]) == ("a", 1)
    assert found["privacy_masks"] == [[list(corner) for corner in MASK]]
    run(engine, source("b", 3), tmp_path, "overwrite")
    assert [one.source for one in read(tmp_path)] == ["b"]


def run(engine, spec, out, on_used):
    if engine == "inline":
        how = {"build": toys.build_looking, "open_source": toys.open_toy}
        inline.run(chain(), [spec], out=out, on_used=on_used, **how)
        return
    launch.run(
        *(chain(), workers(["detect"], ["track", "publish"]), [spec]),
        build="toys:build_looking",
        open_source="toys:open_toy",
        out=out,
        on_used=on_used,
    )
