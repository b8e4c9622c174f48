"""`streamvis zones`: reports of logs."""

import csv
import json

import cv2
import pytest
from typer.testing import CliRunner
from zone_logs import (
    SECOND,
    begin,
    cross,
    end,
    enter,
    leave,
    move,
    write_log,
)

from streamvis.cli.main import app

S = SECOND
WALK = [
    (0, begin("cam1:1:1", (5.0, 300.0), speed_px=20.0)),
    (1 * S, enter("door", "cam1:1:1", S)),
    *((i * S, move("cam1:1:1", (5.0 + 10 * i, 300.0), speed_px=10.0)) for i in range(1, 60)),
    (60 * S, cross("gate", "cam1:1:1", 59 * S)),
    (60 * S, leave("door", "cam1:1:1", S, 60 * S)),
    (60 * S, end("cam1:1:1", 60 * S, (605.0, 300.0))),
]


def zones(*words):
    return CliRunner().invoke(app, ["zones", *map(str, words)])


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_report_prints_tables_and_writes_files(tmp_path):
    log = write_log(tmp_path / "events.db", WALK)
    result = zones("report", tmp_path, "--out", tmp_path / "report")
    assert result.exit_code == 0, result.output
    assert "door" in result.stdout
    assert "gate" in result.stdout
    assert "slower than 0.3 heights/s" in result.stderr
    counts = table(tmp_path / "report" / "counts.csv")
    assert [(row["name"], row["event"], row["count"]) for row in counts] == [
        ("gate", "crossing", "1"),
        ("door", "entry", "1"),
        ("door", "exit", "1"),
    ]
    (dwell,) = table(tmp_path / "report" / "dwell.csv")
    assert (dwell["visits"], dwell["max_s"]) == ("1", "59.0")
    (queue,) = table(tmp_path / "report" / "queue.csv")
    assert (queue["max"], queue["seconds"]) == ("1", "59.0")
    heat = table(tmp_path / "report" / "heatmap.csv")
    assert sum(float(row["seconds"]) for row in heat) == 60.0
    assert {row["row"] for row in heat} == {"30"}  # 300 of 480 px in 48 rows
    picture = cv2.imread(str(tmp_path / "report" / "heatmap-cam1.png"))
    assert picture.shape[1] == 1280
    as_json = json.loads(zones("report", log, "--json").stdout)
    assert [row["count"] for row in as_json["counts"]] == [1, 1, 1]
    assert as_json["dwell"][0]["max_s"] == 59.0


def test_a_report_of_a_log_without_zones_says_what_to_do(tmp_path):
    log = write_log(tmp_path / "events.db", WALK[:1])
    result = zones("report", log)
    assert result.exit_code == 0
    assert "streamvis zones replay" in result.stderr


def test_a_report_of_an_empty_log_says_so(tmp_path):
    log = write_log(tmp_path / "events.db", [])
    result = zones("report", log)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no events of tracks, zones or lines yet" in result.stderr


def test_a_report_of_no_log_is_one_line(tmp_path):
    (tmp_path / "some.db").write_text("no log")
    for name in ("some.db", "absent.db"):
        result = zones("report", tmp_path / name)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


DOOR = "zones:\n  - {name: door, polygon: [[0.3, 0.4], [0.7, 0.4], [0.7, 0.8], [0.3, 0.8]]}\n"


def walk(source, every):
    """A person who crosses the picture in 60 s, at 10 frames/s, logged in every so many frames."""
    name = f"{source}:1:1"
    frames = range(every, 600, every)
    feet = [(n, (5.0 + n, 300.0)) for n in frames]
    return [
        (0, begin(name, (5.0, 300.0))),
        *((n * S // 10, move(name, foot)) for n, foot in feet),
        (60 * S, end(name, 60 * S, (605.0, 300.0))),
    ]


def zones_file(tmp_path, text=DOOR):
    path = tmp_path / "door.yaml"
    path.write_text(text)
    return path


def test_replay_prints_the_events_that_there_would_have_been(tmp_path):
    log = write_log(tmp_path / "events.db", walk("cam1", 1))
    result = zones("replay", log, "--zones", zones_file(tmp_path))
    assert result.exit_code == 0, result.output
    assert "door: cam1:1:1; 1 person inside" in result.stdout
    events = [
        json.loads(one)
        for one in zones("replay", log, "--zones", tmp_path / "door.yaml", "--jsonl").stdout.split(
            "\n"
        )[:-1]
    ]
    assert [one["offset"] for one in events] == list(range(len(events)))
    (entry,) = [one["zone"] for one in events if one["type"] == "zone.enter"]
    (gone,) = [one["zone"] for one in events if one["type"] == "zone.exit"]
    assert abs(entry["at_us"] - 18.7 * S) < 0.1 * S  # 5 + 10 px/s: 0.3 · 640 px after 18.7 s
    assert abs(gone["dwell_s"] - 25.6) < 0.1
    assert "every" not in result.stderr
    assert "times real time" in result.stderr


def test_replay_of_a_log_with_few_positions_says_so(tmp_path):
    log = write_log(tmp_path / "events.db", walk("cam1", 10), seqs=lambda us: us * 10 // S)
    result = zones("replay", log, "--zones", zones_file(tmp_path))
    assert result.exit_code == 0, result.output
    assert "a track's position every 1 s (publish.update_every_s)" in result.stderr
    assert "after 25." in result.stdout


def test_replay_gives_each_source_its_zones(tmp_path):
    log = tmp_path / "events.db"
    for source in ("cam1", "cam2"):
        write_log(log, walk(source, 1), source=source)
    other = tmp_path / "other.yaml"
    other.write_text(DOOR.replace("door", "exit"))
    door = zones_file(tmp_path)
    result = zones("replay", log, "--zones", door, "--zones", f"cam2={other}")
    assert "door: cam1:1:1" in result.stdout
    assert "exit: cam2:1:1" in result.stdout
    assert "door: cam2" not in result.stdout
    alone = zones("replay", log, "--zones", f"cam2={other}")
    assert "cam1" not in alone.stdout
    assert zones("replay", log, "--zones", door, "--source", "cam1").stdout.count("cam2") == 0


def test_replay_writes_a_log_once(tmp_path):
    log = write_log(tmp_path / "events.db", walk("cam1", 1))
    words = ("replay", log, "--zones", zones_file(tmp_path), "--out", tmp_path / "new.db")
    assert zones(*words).exit_code == 0
    result = zones(*words)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "there is a file of this name; give the new log another" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["door.yaml", "events.db", "new.db"]
    report = zones("report", tmp_path / "new.db")
    assert "no updates of tracks" in report.stderr


@pytest.mark.parametrize(
    ("words", "text", "says"),
    [
        (["--zones", "absent.yaml"], DOOR, "absent.yaml"),
        (
            ["--zones", "door.yaml"],
            "zones: [{name: a, polygon: [[0, 0], [1, 1]]}]",
            "three at least",
        ),
        (["--zones", "cam9=door.yaml"], DOOR, "--zones cam9"),
        (["--zones", "door.yaml", "--source", "cam9"], DOOR, "--source cam9"),
        (["--zones", "door.yaml", "--zones", "door.yaml"], DOOR, "two files"),
        (["--zones", "door.yaml", "--set", "update_x=1"], DOOR, "update_x"),
        (["--zones", "door.yaml", "--set", "update_s=-1"], DOOR, "update_s"),
        (["--zones", "door.yaml", "--out", "absent/new.db"], DOOR, "no directory absent"),
        (["--zones", "door.yaml", "--out", "."], DOOR, "a directory of this name"),
    ],
)
def test_what_is_wrong_with_a_replay_is_one_line(tmp_path, monkeypatch, words, text, says):
    write_log(tmp_path / "events.db", walk("cam1", 1))
    zones_file(tmp_path, text)
    monkeypatch.chdir(tmp_path)
    result = zones("replay", "events.db", *words)
    assert result.exit_code in (1, 2)
    assert result.stderr.count("\n") == 1
    assert says in result.stderr
    assert result.stdout == ""


def test_replay_of_a_log_without_tracks_says_so(tmp_path):
    log = write_log(tmp_path / "events.db", [])
    result = zones("replay", log, "--zones", zones_file(tmp_path))
    assert result.exit_code == 0
    assert "no events of tracks" in result.stderr
