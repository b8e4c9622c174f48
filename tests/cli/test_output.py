"""Results are written where they can be, and this is known before the work."""

import json

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from streamvis.cli.output import check_writable, command, put_result, write_png
from streamvis.errors import UsageError
from streamvis.runners.tables import Table


def test_paths_that_cannot_be_written_are_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "new/folder/plot.png")
    for path in (tmp_path, tmp_path / "file/plot.png"):
        with pytest.raises(UsageError, match="cannot be written"):
            check_writable(path)


def test_png_files_are_rgb(tmp_path, capsys):
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 0] = 200  # red
    write_png(tmp_path / "a.png", image)
    assert (cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_COLOR_RGB) == image).all()
    assert capsys.readouterr().err == f"wrote {tmp_path / 'a.png'}\n"


@pytest.mark.parametrize("options", [["--every=inf"], ["--every=1", "--at-s=2", "--at-s=nan"]])
def test_an_infinite_number_is_refused_by_the_name_of_its_option(options):
    app = typer.Typer()

    @command(app)
    def look(every: float = 1.0, at_s: list[float] | None = None) -> None:
        raise AssertionError((every, at_s))

    found = CliRunner().invoke(app, options)
    name, value = options[-1].split("=")
    assert found.exit_code == 2
    assert found.stderr == f"streamvis: {name} {value}: expected a finite number\n"


def test_a_result_is_json_or_tables_and_lines(capsys):
    """Shares have three decimals, larger numbers one; a value that does not exist is a dash."""
    text = [Table("two", ("name", "a", "b"), [("x", 0, 0.25), ("y", None, 12.345)]), "a line"]
    put_result({"x": None}, text, json=True)
    assert json.loads(capsys.readouterr().out) == {"x": None}
    put_result({"x": None}, text, json=False)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    for row in (["two"], ["name", "a", "b"], ["x", "0", "0.250"], ["y", "-", "12.3"]):
        assert row in rows
    assert rows[-1] == ["a", "line"]
