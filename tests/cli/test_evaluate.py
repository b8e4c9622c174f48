"""Scores of the shipped detector and tracker on made-up people, from files as a user has them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.sources.sequence import write_sequence
from streamvis.sources.synthetic import Scene


@pytest.fixture(scope="module")
def sequence(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sequences") / "made-up"
    write_sequence(folder, Scene(seed=3, people=3, size=(320, 240), fps=8, seconds=4))
    return folder


def scores(*arguments: object):
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_eval_detect_scores_and_plots(sequence, tmp_path):
    plot = tmp_path / "pr.png"
    (found,) = scores("eval", "detect", sequence, "--short-side", 320, "--plot", plot).values()
    assert found["pictures"] == 32
    assert found["ap50"] > 0.6
    assert plot.stat().st_size > 1000


def test_eval_detect_compares_on_the_same_pictures(tmp_path):
    sequence = tmp_path / "moment"
    write_sequence(sequence, Scene(seed=3, people=3, size=(320, 240), fps=8, seconds=1))
    sheet, plot = tmp_path / "sheet.png", tmp_path / "pr.png"
    settings = ("--set", "short_side=240", "--set", "min_score=0.3")
    files = ("--sheet", sheet, "--plot", plot)
    (found,) = scores(
        "eval", "detect", sequence, "--compare", "person-lite", *settings, *files
    ).values()
    assert found["other"]["name"] == "person-lite"
    assert found["detections"] < found["other"]["detections"]  # ours was set to report fewer
    assert found["difference"]["ap"] == pytest.approx(found["ap"] - found["other"]["ap"])
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert plot.stat().st_size > 1000


def test_eval_detect_tells_a_setting_that_it_does_not_know(sequence):
    result = CliRunner().invoke(app, ["eval", "detect", str(sequence), "--set", "size=3"])
    assert result.exit_code == 2
    assert "short_side" in result.stderr


@pytest.mark.parametrize("space", ["image", "ground"])
def test_eval_mot_scores_our_own_detections(sequence, space, tmp_path):
    out = tmp_path / "results"
    one, both = scores("eval", "mot", sequence, "--space", space, "--out", out)
    assert both["name"] == "COMBINED"
    assert one["mota"] > 0.5
    (written,) = out.iterdir()
    assert len(written.read_text().splitlines()) > 30


def test_eval_mot_scores_public_detections(sequence):
    truth = [row.split(",") for row in (sequence / "gt/gt.txt").read_text().splitlines()]
    (sequence / "det").mkdir(exist_ok=True)
    rows = [",".join([row[0], "-1", *row[2:6], "0.9", "-1", "-1", "-1"]) for row in truth]
    (sequence / "det/det.txt").write_text("\n".join(rows) + "\n")
    one, _ = scores("eval", "mot", sequence, "--detections", "public")
    assert one["mota"] > 0.7
    assert one["idf1"] > 0.7
