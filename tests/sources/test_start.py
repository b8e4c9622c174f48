"""When a recording began: by its user, or by its container."""

import time
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.errors import SourceError, UsageError
from streamvis.sources import open_source, resolve, starting
from streamvis.sources.start import parse_start

EIGHT_US = 1_795_935_600_000_000  # 2026-11-29T08:00:00+01:00


def video(path, **metadata):
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update(metadata)
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for n in range(3):
            picture = np.full((16, 32, 3), 80 * n, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path


def start_us(text):
    (spec,) = resolve([str(text)])
    with closing(open_source(spec)) as source:
        return source.info.start_us


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-29T08:00:00+01:00",
        "2026-11-29 08:00:00+01:00",
        "2026-11-29T08:00+01:00",
        "2026-11-29T07:00:00Z",
        "20261129T070000Z",
        "2026-11-29T07:00:00.000+00:00",
    ],
)
def test_a_time_with_its_offset(tmp_path, text):
    path = video(tmp_path / "gate.mp4")
    assert start_us(f"{path}#start_time={text}") == EIGHT_US


@pytest.mark.parametrize("text", ["2026-11-29T08:00:00", "2026-11-29 08:00", "2026-11-29T08"])
def test_without_an_offset_a_time_is_local(monkeypatch, text):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert parse_start(text, "start_time") == EIGHT_US
    finally:
        monkeypatch.undo()
        time.tzset()


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)),
    st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m))),
)
def test_every_time_is_read_to_the_microsecond(when, zone):
    redacted = when.replace(tzinfo=zone)
    expected = (redacted - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert parse_start(redacted.isoformat(), "start_time") == expected


@pytest.mark.parametrize("text", ["", "now", "8 o'clock", "2026-13-01", "1969-12-31T00:00Z"])
def test_what_is_no_time_is_refused_with_what_is_expected(text):
    with pytest.raises(UsageError, match=r"start_time=.*expected a time since 1970 in ISO 8601"):
        parse_start(text, "start_time")


def test_as_the_container_says(tmp_path):
    path = video(tmp_path / "gate.mp4", creation_time="2026-11-29T07:00:00Z")
    assert start_us(f"{path}#start_time=container") == EIGHT_US
    assert start_us(path) is None


def test_apples_own_tag_goes_first(tmp_path):
    tags = {"com.apple.quicktime.creationdate": "2026-11-29T08:00:00+0100"}
    path = video(tmp_path / "gate.mp4", creation_time="2026-12-24T12:00:00Z", **tags)
    assert start_us(f"{path}#start_time=container") == EIGHT_US


def test_a_container_that_does_not_say_is_an_error(tmp_path):
    path = video(tmp_path / "gate.mkv")
    with pytest.raises(SourceError, match=r"gate\.mkv'.* has no creation_time; give the time"):
        start_us(f"{path}#start_time=container")


def test_one_time_for_all_but_those_that_have_their_own(tmp_path):
    path = video(tmp_path / "gate.mp4")
    specs = resolve([f"a={path}", f"b={path}#start_time=2026-11-29T08:00:01%2B01:00"])
    assert [spec.start for spec in starting(specs, "2026-11-29T08:00:00+01:00")] == [
        *(EIGHT_US, EIGHT_US + 1_000_000)
    ]


@pytest.mark.parametrize(
    "source",
    ["/dev/video3", "rtsp://camera/main", "synthetic:walkers?live=true"],
)
def test_a_live_source_has_a_clock_of_its_own(source):
    with pytest.raises(UsageError, match="--start-time is for recordings, and this source is live"):
        starting(resolve([source]), "2026-11-29T08:00")
    with pytest.raises(UsageError, match="start_time is for recordings"):
        resolve([f"{source}#start_time=2026-11-29T08:00"])


def test_pictures_have_a_time_and_no_container(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (spec,) = resolve([f"{tmp_path}/a.png#start_time=2026-11-29T08:00:00+01:00"])
    assert spec.start == EIGHT_US
    with pytest.raises(UsageError, match="only video files say when"):
        resolve([f"{tmp_path}/a.png#start_time=container"])


def test_files_that_are_processed_one_by_one_do_not_begin_at_the_same_time(tmp_path):
    paths = [str(video(tmp_path / name)) for name in ("a.mp4", "b.mp4")]
    with pytest.raises(UsageError, match="2 files would begin at the same time; give each its own"):
        starting(resolve(paths), "2026-11-29T08:00", at_once=False)
    own = resolve([f"{paths[0]}#start_time=2026-11-29T08:00:00Z", paths[1]])
    assert all(spec.start for spec in starting(own, "2026-11-29T09:00:00Z", at_once=False))
    redacted = starting(resolve(paths), "container", at_once=False)
    assert [spec.start for spec in redacted] == ["container", "container"]


@pytest.mark.parametrize("command", ["run", "batch"])
def test_the_command_line_says_what_it_expects(tmp_path, command):
    path = str(video(tmp_path / "a.mp4"))
    which = ["--source", path] if command == "run" else [path, "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [command, *which, "--start-time", "noon"])
    assert result.exit_code == 2
    assert "--start-time=noon: expected a time since 1970 in ISO 8601" in result.stderr
