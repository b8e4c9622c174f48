import csv
import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from streamvis.errors import DataError, RunError
from streamvis.events.envelope import Event, FrameRef, Heartbeat, Time, encode
from streamvis.events.export import COLUMNS, csv_lines, jsonl, write_csv, write_jsonl
from streamvis.events.log import Cursor, LogReader, LogWriter, Row
from streamvis.events.source_events import Finish, Restart, SourceEof, SourceEpoch
from streamvis.stages import event_codec
from streamvis.stages.forecast.events import ForecastSegmentation
from streamvis.stages.segment.events import SceneUpdate
from streamvis.stages.track.events import (
    Association,
    EndedTrack,
    Merge,
    Split,
    Track,
    TrackBegin,
    TrackEnd,
    TrackMerge,
    TrackSplit,
    TrackUpdate,
)
from streamvis.stages.track.mot import write_tracks


def track_of(number, box, epoch=1, ground=None):
    return Track(
        id=f"cam1:{epoch}:{number}",
        box_px=box,
        box_from="update",
        score=0.8,
        vel_px_s=(0.0, 0.0),
        cov_diag=(1.0, 1.0, 1.0, 1.0),
        p_exist=0.75,
        assoc=Association(),
        first_seen_us=0,
        age_s=0.0,
        ground_m=ground,
    )


def logged(path, source, whats, first=0, epoch="e1"):
    """A log with these (frame number, what), as a run would write it."""
    rows = []
    for offset, (n, what) in enumerate(whats, start=first):
        event = Event(
            id="x",
            source=source,
            epoch=epoch,
            tseq=offset + 1,
            offset=offset,
            time=Time(media_us=40_000 * n),
            frame=FrameRef(n=n, seq=n, w=640, h=480, stream_epoch=1),
            what=what,
        )
        payload = encode(event)
        rows.append(Row(source, offset, offset + 1, event.type, event.time.media_us, payload))
    with closing(LogWriter(path)) as log:
        log.commit(rows, [Cursor(source, epoch, first, first + len(rows), "eof", b"")])
    return rows


END = TrackEnd(
    EndedTrack(
        id="cam1:1:3",
        reason="lost",
        box_px=(0.0, 0.0, 1.0, 1.0),
        first_seen_us=0,
        last_seen_us=1,
        age_s=0.0,
    )
)
WALK = [
    (0, TrackBegin(track_of(3, (10.0, 20.0, 30.5, 80.25)))),
    (2, TrackUpdate(track_of(3, (11.0, 20.0, 31.5, 80.25), ground=(1.5, -2.0)))),
    (2, TrackBegin(track_of(1, (0.0, 0.0, 5.0, 9.0), epoch=2))),
    (3, END),
    (4, SourceEof(Finish(5))),
]


def test_tracks_as_motchallenge_text(tmp_path):
    logged(tmp_path / "events.db", "cam1", WALK)
    [path] = write_tracks(tmp_path / "events.db", tmp_path)
    assert path == tmp_path / "tracks.txt"
    assert path.read_text() == (
        "1,3,10.00,20.00,20.50,60.25,0.7500,-1,-1,-1\n"
        "3,3,11.00,20.00,20.50,60.25,0.7500,1.500,-2.000,0\n"
        "3,1000001,0.00,0.00,5.00,9.00,0.7500,-1,-1,-1\n"
    )


def test_boxes_come_back_from_the_text(tmp_path):
    rng = np.random.default_rng(5)
    corner, size = rng.uniform(0, 1900, (50, 2)), rng.uniform(1, 300, (50, 2))
    boxes = np.hstack([corner, corner + size]).round(2)
    whats = [(n, TrackBegin(track_of(n + 1, tuple(box)))) for n, box in enumerate(boxes.tolist())]
    logged(tmp_path / "events.db", "cam1", whats)
    table = np.loadtxt(write_tracks(tmp_path / "events.db", tmp_path)[0], delimiter=",")
    assert table.shape == (50, 10)
    np.testing.assert_array_equal(table[:, 0], table[:, 1])
    np.testing.assert_allclose(
        np.hstack([table[:, 2:4], table[:, 2:4] + table[:, 4:6]]), boxes, atol=0.011
    )


def test_several_sources_and_one_that_saw_nobody(tmp_path):
    logged(tmp_path / "events.db", "cam1", WALK)
    logged(tmp_path / "events.db", "cam2", [(4, SourceEof(Finish(5)))])
    paths = write_tracks(tmp_path / "events.db", tmp_path)
    assert [path.name for path in paths] == ["tracks-cam1.txt", "tracks-cam2.txt"]
    assert [len(path.read_text().splitlines()) for path in paths] == [3, 0]


def test_only_the_latest_run_counts(tmp_path):
    logged(tmp_path / "events.db", "cam1", WALK)
    logged(tmp_path / "events.db", "cam1", WALK[:1], first=len(WALK), epoch="e2")
    [path] = write_tracks(tmp_path / "events.db", tmp_path)
    assert len(path.read_text().splitlines()) == 1


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
    assert tuple(table[0]) == COLUMNS
    assert [line["type"] for line in table] == [row.type for row in rows]
    assert (table[1]["track"], table[1]["right"], table[1]["ground_y_m"]) == (
        *("cam1:1:3", "31.5", "-2.0"),
    )
    assert (table[0]["ground_x_m"], table[3]["reason"], table[4]["track"]) == ("", "lost", "")


LEFT, RIGHT = (0.0, 0.0, 10.0, 20.0), (50.0, 0.0, 60.0, 20.0)
SWAP = tuple(
    Split(id=f"cam1:1:{a}", other=f"cam1:1:{b}", since_us=40_000) for a, b in [(3, 4), (4, 3)]
)
CORRECTED = [
    *((0, TrackBegin(track_of(3, LEFT))), (0, TrackBegin(track_of(4, RIGHT)))),
    *((1, TrackUpdate(track_of(3, RIGHT))), (1, TrackUpdate(track_of(4, LEFT)))),
    (2, TrackSplit(SWAP)),
    *((2, TrackUpdate(track_of(3, LEFT))), (2, TrackBegin(track_of(5, RIGHT)))),
    (3, TrackMerge(Merge(gone="cam1:1:5", kept="cam1:1:4"))),
    (3, TrackUpdate(track_of(4, RIGHT))),
]


@pytest.mark.parametrize(
    ("as_published", "rights"),
    [(False, ["1,4", "2,4", "3,4", "4,4"]), (True, ["1,4", "2,3", "3,5"])],
)
def test_tracks_are_corrected_unless_wanted_as_published(tmp_path, as_published, rights):
    logged(tmp_path / "events.db", "cam1", CORRECTED)
    [path] = write_tracks(tmp_path / "events.db", tmp_path, as_published=as_published)
    lines = [line.split(",") for line in path.read_text().splitlines()]
    assert len(lines) == 7
    found = [f"{line[0]},{line[1]}" for line in lines if line[2] == "50.00"]
    assert found[: len(rights)] == rights


def test_an_earlier_run_in_the_log_corrects_nothing_of_a_later_one(tmp_path):
    logged(tmp_path / "events.db", "cam1", CORRECTED)
    logged(tmp_path / "events.db", "cam1", CORRECTED[:4], first=len(CORRECTED), epoch="e2")
    files = [
        write_tracks(tmp_path / "events.db", tmp_path, as_published=as_published)[0].read_text()
        for as_published in (False, True)
    ]
    assert files[0] == files[1]


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
    assert filled == set(COLUMNS)
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
