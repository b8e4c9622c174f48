"""`streamvis zones`: reports of logs."""

import csv
import json

import cv2
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
