import numpy as np
import pytest
from event_logs import CORRECTED, WALK, logged, track_of

from streamvis.events.source_events import Finish, SourceEof
from streamvis.stages.track.events import (
    TrackBegin,
)
from streamvis.stages.track.mot import write_tracks


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
