"""The command that scores zones and lines, on made-up people."""

import json
import sys
from types import ModuleType

import numpy as np
import pytest
from typer.testing import CliRunner

from streamvis.benchmarks import peers, zone_accuracy
from streamvis.benchmarks.tracker_protocol import ReportedTracks
from streamvis.benchmarks.zone_peers import counted_by_supervision
from streamvis.cli.main import app
from streamvis.evaluation.zones import SequenceTime
from streamvis.zone_layout import Line, Zone, ZoneLayout


def write_public(sequence, folder):
    """The sequence with its truth as public detections, without its video."""
    folder.mkdir()
    for name in ("gt", "seqinfo.ini", "ground_plane.json"):
        (folder / name).symlink_to(sequence / name)
    (folder / "det").mkdir()
    lines = (sequence / "gt/gt.txt").read_text().splitlines()
    cells = [line.split(",") for line in lines]
    rows = [
        ",".join([row[0], "-1", *row[2:6], str(50 + i % 7), "-1", "-1", "-1"])
        for i, row in enumerate(cells)
    ]
    (folder / "det/det.txt").write_text("\n".join(rows) + "\n")


FEW = ("--count", "4", "--no-peers")


def run(*arguments: object):
    return CliRunner().invoke(app, ["eval", "zones", *map(str, arguments)])


def scores(*arguments: object):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_public_detections_that_are_the_truth_are_counted_as_it_is(sequence, tmp_path):
    write_public(sequence, tmp_path / "a")
    (one,) = scores(tmp_path / "a", *FEW, "--seeds", "3")
    assert (one["detections"], one["contender"]) == ("public", "streamvis")
    assert one["lines"]["true"] > 5
    assert one["zones"]["true"] > 5
    assert one["count_error"] == one["lines"]["error"] < 0.3
    assert one["event_f1"] > 0.7
    assert one["dwell_s"] < 0.5
    assert len(one["count_error_by_seed"]) == 3
    assert sum(row["number"] for row in one["reliability"]) == 32 * 4 * 3  # frames × zones
    assert (
        one == scores(tmp_path / "a", *FEW, "--seeds", "3")[0]
    )  # the same seeds, the same numbers
    assert one != scores(tmp_path / "a", *FEW, "--seeds", "3", "--seed", "3")[0]


def test_our_own_detections(sequence, looks):
    (one,) = scores(sequence, *FEW, "--own", "--looks", looks)
    assert (one["detections"], one["lines"]["true"] > 0) == ("own", True)
    result = run(sequence, *FEW, "--public")
    assert result.exit_code != 0
    assert "has no det/det.txt, the public detections" in result.stderr


def test_tables_and_the_sum_of_sequences(sequence, tmp_path):
    write_public(sequence, tmp_path / "a")
    write_public(sequence, tmp_path / "b")
    (tmp_path / "b/seqinfo.ini").unlink()
    info = (sequence / "seqinfo.ini").read_text().replace("name=made-up", "name=other")
    (tmp_path / "b/seqinfo.ini").write_text(info)
    first, second, both = scores(tmp_path, *FEW)
    assert both["sequence"] == "all"
    assert both["lines"]["true"] == first["lines"]["true"] + second["lines"]["true"]
    result = run(tmp_path, *FEW)
    assert result.exit_code == 0, result.stderr
    assert "frames × zones" in result.stdout


def test_without_peers_it_says_how_to_install_them(sequence, tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "imports", lambda module: False)
    write_public(sequence, tmp_path / "a")
    result = run(tmp_path / "a", "--count", "2")
    assert result.exit_code == 0, result.stderr
    assert "pip install supervision" in result.stderr


class ToyDetections:
    def __init__(self, xyxy, tracker_id):
        self.xyxy, self.tracker_id = xyxy, tracker_id


class ToyLineZone:
    """Counts whoever is right of x = 100 for the first time."""

    def __init__(self, start, end, triggering_anchors, minimum_crossing_threshold):
        self.after, self.seen = minimum_crossing_threshold, {}

    def trigger(self, detections):
        beyond = detections.xyxy[:, 0] > 95
        for track, is_beyond in zip(detections.tracker_id.tolist(), beyond.tolist(), strict=True):
            self.seen[track] = (self.seen.get(track, 0) + 1) * is_beyond
        crossed = np.array(
            [self.seen[t] == self.after for t in detections.tracker_id.tolist()], bool
        )
        return crossed, np.zeros_like(crossed)


class ToyPolygonZone:
    def __init__(self, polygon):
        self.polygon = polygon

    def trigger(self, detections):
        low, high = self.polygon.min(axis=0), self.polygon.max(axis=0)
        foot = np.stack([detections.xyxy[:, [0, 2]].mean(axis=1), detections.xyxy[:, 3]], axis=1)
        return ((foot > low) & (foot < high)).all(axis=1)


@pytest.fixture
def supervision(monkeypatch):
    toys = ModuleType("supervision")
    toys.Detections, toys.LineZone, toys.PolygonZone = ToyDetections, ToyLineZone, ToyPolygonZone
    toys.Point = lambda x, y: (x, y)
    toys.Position = ModuleType("Position")
    toys.Position.BOTTOM_CENTER = "foot"
    monkeypatch.setitem(sys.modules, "supervision", toys)


LAYOUT = ZoneLayout(
    lines=(Line(name="gate", start=(0.5, 0.1), end=(0.5, 0.9)),),
    zones=(Zone(name="room", polygon=((0.25, 0), (0.75, 0), (0.75, 1), (0.25, 1))),),
)


@pytest.mark.usefixtures("supervision")
def test_what_supervision_counts_is_read_in_our_terms():
    walker = [
        ReportedTracks(np.array([7]), np.array([[x, 40, x + 10, 60]])) for x in range(5, 190, 5)
    ]
    time = SequenceTime(len(walker), 10)
    found = counted_by_supervision(LAYOUT, walker, time, (200, 100))
    assert list(found) == ["LineZone 1", "LineZone 2"]
    (first,), (second,) = (one.crossings for one in found.values())
    assert first == (0, "right_to_left", pytest.approx(1.9))  # to the left of a walk downwards
    assert second.at_s == pytest.approx(2.0)
    ((_, entered, left, ended),) = found["LineZone 1"].visits
    assert (entered, left, ended) == (pytest.approx(0.9), pytest.approx(2.8), True)
    assert found["LineZone 1"].people[:, 0].sum() == 19


@pytest.mark.usefixtures("supervision")
def test_peers_follow_at_the_threshold_that_suits_them(sequence, tmp_path, monkeypatch):
    def start(fps, threshold):
        def update(detections):
            boxes = detections.boxes if threshold == 0.3 else detections.boxes[:0]
            return ReportedTracks(np.arange(len(boxes)), boxes)

        return update

    toys = {name: peers.Peer(start, "json", "") for name in zone_accuracy.TRACKERS}
    monkeypatch.setattr(peers, "PEERS", toys)
    monkeypatch.setattr(peers, "imports", lambda module: True)
    write_public(sequence, tmp_path / "a")
    found = scores(tmp_path / "a", "--count", "2")
    assert [one["contender"] for one in found] == [
        "streamvis",
        *("SORT, LineZone 1", "SORT, LineZone 2", "ByteTrack, LineZone 1", "ByteTrack, LineZone 2"),
    ]
    assert found[1]["people_error"] < 0.2  # it has everybody
