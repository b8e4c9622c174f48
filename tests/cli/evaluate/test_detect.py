"""The command that scores detectors, on made-up people."""

import json

import pytest
from factories import oracle_detector, whole_picture_detector
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.cli.output import put_text
from streamvis.runners import detection
from streamvis.synthetic.render import SyntheticScene
from streamvis.synthetic.sequence import write_sequence


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
    write_sequence(sequence, SyntheticScene(seed=3, people=3, size=(320, 240), fps=8, seconds=1))
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


def test_tables_hold_both_and_the_difference(sequence, capsys):
    (street,) = detection.read_datasets([sequence], None)
    detectors = {"knows": oracle_detector(street), "blind": whole_picture_detector}
    put_text(detection.tables([detection.score(street, detectors)]))
    lines = capsys.readouterr().out.splitlines()
    ours = next(line.split() for line in lines if "knows" in line)
    other = next(line.split() for line in lines if "blind" in line)
    apart = next(line.split() for line in lines if "difference" in line)
    assert ours[:3] == ["made-up", "knows", "1.000"]
    assert other[:3] == ["made-up", "blind", "0.000"]
    assert apart[:2] == ["difference", "+1.000"]
