"""The status of a run in words: which camera is bad, and why."""

import msgspec
import pytest
from controlled_runs import report, stage

from streamvis.runners import status_tables
from streamvis.runners.status_tables import problems, tables
from streamvis.runtime.faults import duration
from streamvis.runtime.metrics import Quantiles, Status
from streamvis.runtime.recent import RecentPictures


def status(*sources, stages=()):
    return Status(wall_s=7384.0, sources=list(sources), stages=list(stages))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (7384, "2 h 3 min"),
        (86400 * 9 + 3600 * 5, "9 d 5 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {"state": "offline", "state_s": 190, "reason": "it refused the connection"},
            "cam2 offline for 3 min: it refused the connection",
        ),
        (
            {"state": "offline", "state_s": 20, "reason": "no route", "attempts": 7},
            "cam2 offline for 20 s: no route (attempt 7)",
        ),
        (
            {"state": "offline", "reason": "no route", "attempts": 7, "next_attempt_s": 21.4},
            "cam2 offline for 0 s: no route (attempt 7, next in 21 s)",
        ),
        (
            {"state": "connecting", "state_s": 8, "reason": "waits for a key frame"},
            "cam2 connecting for 8 s: waits for a key frame",
        ),
        ({"state": "connecting", "state_s": 30}, "cam2 connecting for 30 s: no picture yet"),
        (
            {"state": "stalled", "state_s": 4},
            "cam2 stalled for 4 s: connected, but nothing arrives",
        ),
        (
            {"state": "ended", "ending": "failed", "error": "rtsp://10.0.0.2/x: no video"},
            "cam2 has failed: rtsp://10.0.0.2/x: no video",
        ),
        (
            {"measured_fps": 7.13, "declared_fps": 25.0, "state_s": 60.0},
            "cam2 delivers 7.1 frames/s, though it declares 25: the measured rate counts",
        ),
        (
            {"clock_offset_ms": 3_600_250.0},
            "cam2: its clock is 1 h 0 min behind ours; set its time server (NTP)",
        ),
        (
            {"clock_offset_ms": -5000.0},
            "cam2: its clock is 5 s ahead of ours; set its time server (NTP)",
        ),
        ({"suspect": 12}, "cam2: 12 pictures may be damaged, since data before them was lost"),
        ({"decode_errors": 3}, "cam2: 3 errors of decoding"),
    ],
)
def test_each_trouble_of_a_source_has_its_line(fields, line):
    assert problems(status(report("cam2", **{"state": "online", **fields}))) == [line]


@pytest.mark.parametrize(
    ("recent", "lines"),
    [
        (
            RecentPictures(50, {"stale": 10, "skipped": 40}),
            [
                "cam2: 50% of its pictures of the last minute were not analysed "
                "(stale 10, skipped 40)"
            ],
        ),
        (RecentPictures(95, {"overload": 5}), []),
        (RecentPictures(0, {}), []),
    ],
)
def test_pictures_count_that_were_lost_in_the_last_minute(recent, lines):
    camera = report("cam2", state="online", decoded=60, dropped={"overload": 50}, skipped=40)
    assert problems(msgspec.structs.replace(status(camera), recent={"cam2": recent})) == lines


def test_a_source_in_good_order_has_none():
    good = report(
        "cam1",
        state="online",
        state_s=5000.0,
        decoded=1000,
        dropped={"stale": 10},
        measured_fps=24.6,
        declared_fps=25.0,
        clock="rtcp_sr",
        clock_offset_ms=80.0,
        reconnects=2,
    )
    starting = report("cam2", state="connecting", state_s=1.0)
    played = report("film", state="ended", ending="eof", decoded=10, dropped={"drained": 9})
    assert problems(status(good, starting, played, stages=[stage("detect")])) == []


def test_a_stage_whose_process_died_has_a_line():
    (line,) = problems(status(stages=[stage("detect", restarts=2)]))
    assert line == "stage detect: its process was restarted 2 times; the log says why"


def test_refused_connections_have_a_line():
    refused = msgspec.structs.replace(status(), refused_clients={"unknown_key": 4, "flood": 1})
    assert problems(refused) == [
        "the feed has refused connections (flood 1, unknown_key 4); the log says whose"
    ]


def test_the_tables_have_a_row_for_each_source_and_stage(tmp_path):
    live = report(
        "cam1",
        state="online",
        state_s=190.0,
        fps=12.3,
        measured_fps=24.64,
        declared_fps=25.0,
        decoded=500,
        admitted=495,
        dropped={"stale": 3, "full": 2},
        skipped=7,
        age_ms=Quantiles(p50=81.2, p99=240.4, most=300.0),
        clock="rtcp_sr",
        clock_offset_ms=12.3,
        reconnects=3,
    )
    film = report("film", state="online", latency_ms=Quantiles(p50=10.0, p99=20.0, most=21.0))
    states, counts, stages, disk = tables(status(live, film, stages=[stage("detect")]), tmp_path)
    assert states.title == "2 h 3 min"
    first, second = (dict(zip(states.columns, row, strict=True)) for row in states.rows)
    assert first == {
        "source": "cam1",
        "state": "online 3 min",
        "fps": 12.3,
        "camera fps": "24.6 of 25",
        "age ms": "81 / 240",
        "clock": "rtcp_sr +12 ms",
    }
    assert (second["age ms"], second["camera fps"], second["clock"]) == ("10 / 20", None, None)
    first, _ = (dict(zip(counts.columns, row, strict=True)) for row in counts.rows)
    assert first == {
        "source": "cam1",
        "admitted": 495,
        "dropped": 5,
        "skipped": 7,
        "errors": 0,
        "reconnects": 3,
    }
    assert stages.rows == [("detect", 40, 2, 0, 12.5, "3.2 / 7.5")]
    assert disk.startswith(f"disk of {tmp_path}: ")


def test_a_directory_that_is_gone_is_named(tmp_path):
    *_, disk = tables(status(), tmp_path / "gone")
    assert disk == f"disk of {tmp_path / 'gone'}: No such file or directory"


def test_what_the_stages_chose_for_a_source_is_a_line():
    chosen = {"track.space": "image: gates on the ground are 9.4 m², more than 5.6 m²"}
    text = [one for one in tables(status(report("cam2", chosen=chosen))) if isinstance(one, str)]
    line = "cam2: track.space is image: gates on the ground are 9.4 m², more than 5.6 m²"
    assert line in text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        *((0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_400, "999 kB"), (999_700, "1 MB")),
        *((950_000_000, "950 MB"), (1_234_000_000, "1.23 GB"), (2_500_000_000_000, "2.5 TB")),
    ],
)
def test_sizes_have_three_digits(count, text):
    assert status_tables._size(count) == text
