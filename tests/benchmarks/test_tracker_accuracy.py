"""Scores of our tracker and of others."""

import json
import math
import shutil
from functools import partial

import cv2
import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from streamvis.benchmarks import (
    jpda_step,
    peers,
    simulated_detections,
    tracker_accuracy,
    tracker_speed,
)
from streamvis.benchmarks.peers import Peer
from streamvis.benchmarks.tracker_protocol import ReportedTracks
from streamvis.cli.main import app
from streamvis.models.embedding import ARCHITECTURES, Embedder
from streamvis.models.weights import save


def toy_peer(fps, threshold):
    """Calls everyone by their row, and is of use at one threshold only."""

    def follow(detections):
        boxes = detections.boxes[:2] if math.isclose(threshold, 0.3) else detections.boxes[:1]
        return ReportedTracks(np.arange(len(boxes)), boxes)

    return follow


@pytest.fixture
def sequence(tmp_path):
    """Two people stand in ten frames, found at scores on a scale of their own."""
    folder = tmp_path / "toy"
    rows = [(n, i, 50 + 200 * i) for n in range(1, 11) for i in (0, 1)]
    for name, line in (
        ("gt", "{n},{id},{x},50,40,100,1,-1,-1,-1"),
        ("det", "{n},-1,{x},50,40,100,{s}"),
    ):
        (folder / name).mkdir(parents=True)
        lines = [line.format(n=n, id=i + 1, x=x, s=40 - 9 * i) for n, i, x in rows]
        (folder / name / f"{name}.txt").write_text("\n".join(lines))
    (folder / "seqinfo.ini").write_text(
        "[Sequence]\nname=toy\nframeRate=10\nimWidth=400\nimHeight=300\nseqLength=10\n"
    )
    return folder


@pytest.fixture
def one_toy(monkeypatch):
    """The toy is all that there is, and scenes are small."""
    toys = {
        "Toy": Peer(toy_peer, "json", "pip install toy"),
        "Absent": Peer(toy_peer, "no_such_module_here", "pip install absent"),
    }
    monkeypatch.setattr(peers, "PEERS", toys)
    monkeypatch.setattr(jpda_step, "imports", lambda module: False)
    monkeypatch.setattr(tracker_speed, "measure", partial(tracker_speed.measure, (5,)))


@pytest.mark.usefixtures("one_toy")
def test_the_command_scores_peers_at_their_best_threshold(sequence):
    result = CliRunner().invoke(app, ["bench", "tracker", str(sequence), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)["tracker"]
    assert list(report["tracker"]["sizes"]["5"]["ms"]) == [tracker_speed.OURS, "Toy"]
    assert report["not_installed"]["Absent"] == "pip install absent"
    assert "favours them" in report["note"]
    rows = {(row["sequence"], row["tracker"]): row for row in report["scores"]}
    assert set(rows) == {
        (where, who) for where in ("toy", "COMBINED") for who in ("streamvis", "Toy")
    }
    assert rows["toy", "Toy"]["mota"] == rows["COMBINED", "Toy"]["idf1"] == 1
    assert rows["toy", "Toy"]["threshold"] == 0.3
    assert rows["toy", "streamvis"]["threshold"] is None
    assert all(row["hz"] > 0 for row in rows.values())


@pytest.mark.usefixtures("one_toy")
def test_where_there_are_pictures_ours_takes_part_a_second_time(sequence, tmp_path, monkeypatch):
    weights = tmp_path / "untrained.safetensors"
    save(Embedder(msgspec.structs.replace(ARCHITECTURES["person-r18"], size=(64, 32))), weights, {})
    monkeypatch.setattr(tracker_accuracy, "EMBEDDER", str(weights))
    seen = tmp_path / "seen"
    shutil.copytree(sequence, seen)
    text = (sequence / "seqinfo.ini").read_text()
    (seen / "seqinfo.ini").write_text(text.replace("toy", "seen"))
    (seen / "img1").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    for n in range(1, 11):
        cv2.imwrite(str(seen / f"img1/{n:06}.png"), noise)
    result = CliRunner().invoke(app, ["bench", "tracker", str(sequence), str(seen), "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["tracker"]["scores"]
    ours = {(row["sequence"], row["tracker"]): row for row in rows if row["tracker"] != "Toy"}
    seeing = f"streamvis, {tracker_accuracy.WITH_CUES}"
    everywhere = {("toy", "streamvis"), ("seen", "streamvis"), ("COMBINED", "streamvis")}
    assert set(ours) == everywhere | {("seen", seeing), ("COMBINED", seeing)}
    assert ours["seen", seeing]["mota"] > 0.5
    together = ours["COMBINED", seeing]["idsw"]  # without pictures, what ours made of boxes alone
    assert together == ours["toy", "streamvis"]["idsw"] + ours["seen", seeing]["idsw"]


@pytest.mark.usefixtures("one_toy")
def test_the_command_prints_tables(sequence):
    result = CliRunner().invoke(app, ["bench", "tracker", str(sequence)])
    assert result.exit_code == 0, result.output
    assert f"5 × {simulated_detections.detections_of(5)}" in result.stdout
    assert "Absent is not installed: pip install absent" in result.stdout
    assert tracker_accuracy.NOTE in result.stdout


@pytest.mark.usefixtures("one_toy")
def test_a_folder_without_detections_is_refused_before_anything_is_measured(sequence):
    (sequence / "det" / "det.txt").unlink()
    result = CliRunner().invoke(app, ["bench", "tracker", str(sequence)])
    assert result.exit_code == 2
    assert "det/det.txt" in result.output
    assert "measuring" not in result.output
