"""Damaged videos, from disk and from a web server, through a whole run; and a run that is slow."""

import os
import random

import films
import pytest
import street
from structlog.testing import capture_logs
from test_url import serving

from streamvis.sources import resolve

FRAMES = 60
SEEDS = int(os.environ.get("STREAMVIS_ROUNDS", "1"))  # `make soak` sets more
FILMS = {
    "mp4": films.Film(
        "mp4", "h264", reorder=True, frames=FRAMES, options={"movflags": "faststart"}
    ),
    "ts": films.Film("ts", "h264", frames=FRAMES),
    "mkv": films.Film("mkv", "mpeg4", frames=FRAMES),
    "avi": films.Film("avi", "mjpeg", frames=FRAMES),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """By container: the bytes of an undamaged film."""
    home = tmp_path_factory.mktemp("films")
    for name, film in FILMS.items():
        films.write(film, home / f"film.{name}")
    return {name: (home / f"film.{name}").read_bytes() for name in FILMS}


def flipped(data, rng):
    """One byte in 500 is another one, behind the first quarter."""
    spoiled = bytearray(data)
    for place in rng.sample(range(len(data) // 4, len(data)), len(data) // 500):
        spoiled[place] ^= rng.randrange(1, 256)
    return bytes(spoiled)


def dropped(data, rng):
    """Ten pieces, together at most a tenth, are gone, behind the first quarter."""
    spoiled = bytearray(data)
    for _ in range(10):
        size = rng.randrange(1, len(data) // 100)
        place = rng.randrange(len(data) // 4, len(spoiled) - size)
        del spoiled[place : place + size]
    return bytes(spoiled)


def truncated(data, rng):
    return data[: rng.randrange(len(data) // 2, len(data) * 9 // 10)]


HARM = {"flipped": flipped, "dropped": dropped, "truncated": truncated}


def reports_of(sources, out):
    """Of a run on all of these at once: its reports by source; no process may have died."""
    with capture_logs():  # of pictures that are missing
        summary = street.run(resolve(sources), out)
    assert [stage.restarts for stage in summary.stages] == [0, 0, 0]
    reports = street.balanced(summary)
    assert {report.restarts for report in reports.values()} == {0}
    return reports


def is_told(out, source):
    """The events of a source: from online to its end, in order of media time."""
    events = [event for name, *_, event in street.rows(out) if name == source]
    kinds = [event["type"] for event in events]
    assert (kinds[0], kinds[-1]) == ("source.online", "source.eof")
    times = [event["time"]["media_us"] for event in events]
    assert times == sorted(times)
    return events


@pytest.mark.parametrize("seed", range(SEEDS))
def test_damaged_files_are_shown_as_far_as_they_go_and_errors_are_counted(whole, tmp_path, seed):
    sources = [f"whole={tmp_path}/whole.mp4"]
    (tmp_path / "whole.mp4").write_bytes(whole["mp4"])
    for kind, data in whole.items():
        for name, harm in HARM.items():
            path = tmp_path / f"{kind}-{name}.{kind}"
            path.write_bytes(harm(data, random.Random(f"{kind} {name} {seed}")))
            sources.append(str(path))
    reports = reports_of(sources, tmp_path / "out")
    for name, report in reports.items():
        is_told(tmp_path / "out", name)
        assert report.ending == "eof", report.error
        assert 1 <= report.admitted <= FRAMES
    assert reports["whole"].admitted == FRAMES
    assert reports["whole"].decode_errors == 0
    for kind in whole:
        for name in ("flipped", "dropped"):
            assert reports[f"{kind}-{name}"].decode_errors > 0
    for name in reports:
        told = [e["stream"] for e in is_told(tmp_path / "out", name) if "stream" in e]
        missing = sum(s["count"] for s in told if s.get("reason") == "decode")
        assert missing <= reports[name].decode_errors
    short = reports["mp4-truncated"]
    assert (short.frames_promised, short.admitted < FRAMES) == (FRAMES, True)


def test_damage_on_the_way_from_a_web_server_is_counted_or_a_clear_loss(whole, tmp_path):
    waits = "#open_s=6&read_s=2"
    rng = random.Random(5)
    with (
        serving(whole["mp4"]) as good,
        serving(flipped(whole["mp4"], rng)) as bad,
        serving(dropped(whole["mp4"], rng)) as worse,
        serving(whole["mp4"], stop_at=len(whole["mp4"]) // 2) as cut,
    ):
        sources = [f"good={good}/a.mp4{waits}", f"flipped={bad}/a.mp4{waits}"]
        sources += [f"dropped={worse}/a.mp4{waits}", f"cut={cut}/a.mp4{waits}"]
        reports = reports_of(sources, tmp_path)
    assert (reports["good"].admitted, reports["good"].decode_errors) == (FRAMES, 0)
    for name in ("flipped", "dropped"):
        assert reports[name].decode_errors > 0
        assert reports[name].ending == "eof"
    assert reports["cut"].ending == "failed"
    assert reports["cut"].error == f"source '{cut}/a.mp4' was lost"


def test_a_slow_stage_drops_no_frame_of_a_file(whole, tmp_path, monkeypatch):
    """The container's frame count is admitted, the last frame included."""
    monkeypatch.setenv(street.SLOW_S, "0.03")
    path = tmp_path / "film.mp4"
    path.write_bytes(whole["mp4"])
    reports = reports_of([str(path)], tmp_path / "out")
    (report,) = reports.values()
    assert (report.admitted, report.frames_promised, report.dropped) == (FRAMES, FRAMES, {})
    assert is_told(tmp_path / "out", "film")[-1]["stream"]["frames"] == FRAMES
