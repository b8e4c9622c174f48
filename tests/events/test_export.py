import csv
import json
from pathlib import Path

import pytest
from event_logs import CORRECTED, WALK, logged, track_of

from streamvis.errors import DataError, RunError
from streamvis.events.envelope import Heartbeat, encode
from streamvis.events.export import COLUMNS, columns_of, csv_lines, jsonl, write_csv, write_jsonl
from streamvis.events.log import LogReader, Row
from streamvis.events.source_events import Finish, Restart, SourceEof, SourceEpoch
from streamvis.stages import event_codec
from streamvis.stages.forecast.events import ForecastSegmentation
from streamvis.stages.segment.events import SceneUpdate
from streamvis.stages.track.events import (
    Merge,
    TrackBegin,
    TrackMerge,
    TrackUpdate,
)
from streamvis.stages.track.mot import write_tracks


def test_json_lines(tmp_path):
    rows = logged(tmp_path / "events.db", "cam1", WALK)
    with LogReader(tmp_path / "events.db") as log:
        write_jsonl(log.events(), tmp_path / "events.jsonl")
        assert b"".join(jsonl(log.events())) == (tmp_path / "events.jsonl").read_bytes()
    lines = (tmp_path / "events.jsonl").read_bytes().splitlines()
    assert lines == [row.payload for row in rows]
    assert [json.loads(line)["offset"] for line in lines] == [0, 1, 2, 3, 4]


def test_csv(tmp_path):
    rows = logged(tmp_path / "events.db", "cam1", WALK)
    write_csv(rows, tmp_path / "events.csv", event_codec())
    with (tmp_path / "events.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == columns_of(event_codec())
    assert [line["type"] for line in table] == [row.type for row in rows]
    assert (table[1]["track"], table[1]["right"], table[1]["ground_y_m"]) == (
        *("cam1:1:3", "31.5", "-2.0"),
    )
    assert (table[0]["ground_x_m"], table[3]["reason"], table[4]["track"]) == ("", "lost", "")


def test_csv_has_a_line_for_each_id_that_is_corrected(tmp_path):
    write_csv(
        logged(tmp_path / "events.db", "cam1", CORRECTED), tmp_path / "events.csv", event_codec()
    )
    with (tmp_path / "events.csv").open(newline="") as file:
        table = [line for line in csv.DictReader(file) if line["other"]]
    assert [(line["type"], line["track"], line["other"], line["since_us"]) for line in table] == [
        ("track.split", "cam1:1:3", "cam1:1:4", "40000"),
        ("track.split", "cam1:1:4", "cam1:1:3", "40000"),
        ("track.merge", "cam1:1:5", "cam1:1:4", ""),
    ]
    assert [line["left"] for line in table] == ["", "", ""]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    (tmp_path / "events.jsonl").write_text("before")

    def torn():
        yield Row("cam1", 0, 1, "x", 0, b"{}")
        raise DataError("torn")

    with pytest.raises(DataError, match="torn"):
        write_jsonl(torn(), tmp_path / "events.jsonl")
    assert (tmp_path / "events.jsonl").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["events.jsonl"]


def test_a_place_that_is_not_there(tmp_path):
    with pytest.raises(RunError, match=r"gone/events\.csv cannot be written: No such file"):
        write_csv([], tmp_path / "gone" / "events.csv", event_codec())


def test_what_is_no_plain_file_is_written_to_and_not_replaced(tmp_path):
    rows = logged(tmp_path / "events.db", "cam1", WALK)
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_csv(rows, tmp_path / "link", event_codec())
    assert (tmp_path / "link").is_symlink()
    assert len((tmp_path / "target").read_text().splitlines()) == 1 + len(rows)


GOLDEN = Path(__file__).parent / "golden"
OF_EVERY_EVENT = ("source", "offset", "type", "media_us", "capture_us", "n")
FIRST_COLUMNS = (
    *("source", "offset", "type", "media_us", "capture_us", "n", "track", "label"),
    *("left", "top", "right", "bottom", "box_from", "score", "p_exist"),
    *("ground_x_m", "ground_y_m", "reason", "other", "since_us", "p", "window_us"),
)


def fixture_of(kind):
    return event_codec().decode((GOLDEN / f"{kind.__struct_config__.tag}.json").read_bytes())


def table_of(event):
    row = Row(event.source, event.offset, event.tseq, event.type, 0, encode(event))
    return list(csv.DictReader(csv_lines([row], event_codec())))


def test_the_table_of_one_event_of_each_type(golden):
    events = [fixture_of(kind) for kind in event_codec().types]
    rows = [Row(e.source, e.offset, e.tseq, e.type, 0, encode(e)) for e in events]
    golden(GOLDEN / "export.csv", "".join(csv_lines(rows, event_codec())))


@pytest.mark.parametrize("kind", event_codec().types, ids=lambda kind: kind.__name__)
def test_no_row_of_any_event_says_only_that_it_was(kind):
    table = table_of(fixture_of(kind))
    assert bool(table) == (kind is not Heartbeat)  # which is in no log
    for line in table:
        assert line["type"] == kind.__struct_config__.tag
        assert any(value for name, value in line.items() if name not in OF_EVERY_EVENT), line


def test_every_column_is_filled_by_some_event_and_the_first_ones_stay_in_their_places():
    filled = {
        name
        for kind in event_codec().types
        for line in table_of(fixture_of(kind))
        for name, value in line.items()
        if value
    }
    assert filled == set(columns_of(event_codec()))
    assert COLUMNS[: len(FIRST_COLUMNS)] == FIRST_COLUMNS


def test_speed_is_in_the_table():
    event = fixture_of(TrackUpdate)
    [line] = table_of(event)
    track = event.what.track
    assert float(line["speed_m_s"]) == track.speed_m_s
    assert (float(line["vel_x_m_s"]), float(line["vel_y_m_s"])) == track.vel_m_s
    assert (float(line["vel_x_px_s"]), float(line["vel_y_px_s"])) == track.vel_px_s


def test_a_scene_has_a_row_for_each_class_and_one_for_what_is_unknown():
    event = fixture_of(SceneUpdate)
    *classes, unknown = table_of(event)
    scene = event.what.scene
    assert {line["label"]: float(line["share"]) for line in classes} == scene.classes
    assert (unknown["label"], float(unknown["share"])) == ("unknown", scene.unknown.share)
    assert float(unknown["left"]) == scene.unknown.largest.box_px[0]


def test_a_forecast_has_a_row_for_each_class_and_each_zone():
    event = fixture_of(ForecastSegmentation)
    table = table_of(event)
    shares = {line["label"]: float(line["share"]) for line in table if line["label"]}
    zones = {line["zone"]: float(line["p"]) for line in table if line["zone"]}
    assert shares == event.what.forecast.classes
    assert zones == {zone.zone: zone.p for zone in event.what.forecast.zones}
    assert len(table) == len(shares) + len(zones)
    assert {line["horizon_us"] for line in table} == {"600000"}


def test_exports_are_of_the_latest_run_of_an_old_log_with_several(tmp_path):
    path = tmp_path / "events.db"
    box = (0.0, 0.0, 10.0, 10.0)
    logged(path, "cam1", [(0, TrackBegin(track_of(1, box)))], epoch="e1")
    logged(path, "cam2", [(0, TrackBegin(track_of(1, box)))], epoch="e1")
    wrong = TrackMerge(Merge(gone="cam1:1:2", kept="cam1:1:1"))
    logged(path, "cam1", [(1, wrong)], first=1, epoch="e1")
    logged(path, "cam1", [(0, TrackBegin(track_of(2, box)))], first=2, epoch="e2")
    with LogReader(path) as log:
        assert log.has_older_runs()
        assert log.sources() == ["cam1"]
        assert [(row.source, row.offset) for row in log.latest()] == [("cam1", 2)]
        assert [(row.source, row.offset) for row in log.latest("cam2")] == [("cam2", 0)]
        assert list(log.latest(types=["source"])) == []
    (written,) = write_tracks(path, tmp_path)
    assert written.name == "tracks.txt"
    assert [line.split(",")[:2] for line in written.read_text().splitlines()] == [["1", "2"]]


def test_csv_says_the_stream_epoch_of_the_frame_or_of_the_track(tmp_path):
    whats = [
        (3, TrackBegin(track_of(1, (0.0, 0.0, 1.0, 1.0)))),
        (4, SourceEpoch(Restart(stream_epoch=2, reason="resumed"))),
        (4, TrackMerge(Merge(gone="cam1:2:2", kept="cam1:2:1"))),
        (4, SourceEof(Finish(5))),
    ]
    rows = logged(tmp_path / "events.db", "cam1", whats)
    bare = [rows[0]]
    for row in rows[1:]:
        event = json.loads(row.payload)
        event["frame"] = None
        bare.append(row._replace(payload=json.dumps(event).encode()))
    table = list(csv.DictReader(csv_lines(bare, event_codec())))
    assert [line["stream_epoch"] for line in table] == ["1", "2", "2", ""]
    assert COLUMNS[-1] == "stream_epoch"
