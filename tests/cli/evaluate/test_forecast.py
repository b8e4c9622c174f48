"""The command that scores forecasts, on made-up drives."""

import json
from pathlib import Path

import cv2
import pytest
from labelled_drives import FPS, FRAMES, untrained_weights, write_drive, write_textured
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.runners.forecasts import (
    COPY,
    COPY_TRUTH,
    ORACLE,
)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    return write_drive(tmp_path_factory.mktemp("videos") / "labelled")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> list[Path]:
    return untrained_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def moving(tmp_path_factory) -> Path:
    return write_textured(tmp_path_factory.mktemp("videos") / "moving")


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["eval", "forecast", *map(str, arguments)])


def test_a_film_too_short_for_every_horizon_is_an_error(weights, tmp_path):
    write_drive(tmp_path / "short", frames=4)
    segmenter, near, _ = weights
    given = ("--segmenter", segmenter, "--weights", near)
    result = invoke(tmp_path / "short", "--fps", FPS, *given, "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "short: too short for any forecast; expected more than 0.2 s" in result.stderr


def test_an_untrained_forecaster_copies(labelled, weights, tmp_path):
    segmenter, near, _ = weights
    given = (labelled, "--fps", FPS, "--segmenter", segmenter, "--weights", near)
    exact = ("--set", "engine=torch", "--set", "precision=fp32")
    horizons, sheet = ("--horizon", 0.2, "--horizon", 0.4), ("--sheet", tmp_path / "strips.png")
    result = invoke(*given, *exact, *horizons, *sheet, "--json")
    assert result.exit_code == 0, result.stderr
    (found,) = json.loads(result.stdout)["films"]
    assert [one["seconds"] for one in found["horizons"]] == [0.2, 0.4]
    for horizon, told in zip(found["horizons"], ("near", "near, 2 times"), strict=True):
        methods = horizon["against"]["labels"]["methods"]
        for measured in ("miou", "movable_miou", "accuracy"):
            assert methods[told][measured] == pytest.approx(methods[COPY][measured])
    assert found["forecast_ms"]["near"] > 0
    assert found["segmenter"] == "seg"
    assert cv2.imread(str(tmp_path / "strips.png")).shape[1] > 1000


def test_several_films_are_scored_by_one_command(labelled, moving, weights):
    segmenter, near, _ = weights
    given = ("--fps", FPS, "--segmenter", segmenter, "--weights", near, "--json")
    result = invoke(moving, labelled, *given)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert [one["film"] for one in found["films"]] == ["moving", "labelled"]
    assert {one["films"] for one in found["mean"] if one["against"] == "labels"} == {2}


@pytest.mark.parametrize(
    ("forecaster", "fps", "code", "message"),
    [
        (2, ("--fps", FPS), 4, "trained on the features of another segmenter than"),
        (0, ("--fps", FPS), 4, "expected a forecaster"),
        (1, (), 2, "give their rate: --fps"),
    ],
)
def test_what_does_not_go_together_is_told(labelled, weights, forecaster, fps, code, message):
    given = ("--segmenter", weights[0], "--weights", weights[forecaster])
    result = invoke(labelled, *given, *fps)
    assert result.exit_code == code
    assert message in result.stderr


def test_shipped_forecasters_are_compared_by_name(moving, tmp_path):
    names = ("street-forecast-0.2", "street-forecast-0.6")
    given = ("--segmenter", "street-seg", "--weights", names[0], "--weights", names[1])
    small = ("--set", "lines=96", "--set", "engine=torch", "--set", "precision=fp32")
    sheet = ("--sheet", tmp_path / "strips.png")
    result = invoke(moving, "--fps", FPS, *given, *small, *sheet, "--json")
    assert result.exit_code == 0, result.stderr
    (found,) = json.loads(result.stdout)["films"]
    near, far = (one["against"]["labels"] for one in found["horizons"])
    assert [one["seconds"] for one in found["horizons"]] == [0.2, 0.6]
    assert list(near["methods"]) == [ORACLE, names[0], COPY, COPY_TRUTH]
    again = f"{names[0]}, 3 times"
    assert list(far["methods"]) == [ORACLE, names[1], COPY, COPY_TRUTH]
    assert found["horizons"][1]["same_by_construction"] == {again: names[1]}
    assert (near["targets"], far["targets"]) == (FRAMES - 6, FRAMES - 12)
    assert all(found["forecast_ms"][name] > 0 for name in names)
    assert found["segmenter"] == "street-seg"
    assert cv2.imread(str(tmp_path / "strips.png")).shape[1] > 1000
