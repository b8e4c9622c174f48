"""`streamvis weights` on good files and bad ones."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from streamvis.cli.main import app
from streamvis.models.weights import shipped


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["weights", *(str(a) for a in arguments)])


class Evil:
    def __reduce__(self):
        return (open, ("owned", "w"))


def code(folder: Path) -> Path:
    torch.save({"x": Evil()}, folder / "bad.pth")
    return folder / "bad.pth"


def bomb(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "bad.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bad/data.pkl", bytes(10_000_000))
    return folder / "bad.pth"


def truncated(folder: Path) -> Path:
    path = folder / "bad.safetensors"
    path.write_bytes(shipped()["person-lite"].read_bytes()[:1_000_000])
    return path


def markup(folder: Path) -> Path:
    save_file({"[/bold]\n[red]": torch.zeros(1)}, folder / "bad.safetensors")
    return folder / "bad.safetensors"


def absurd(folder: Path) -> Path:
    about = {"architecture": '{"name": "a", "body": "resnet50", "channels": 1000000000}'}
    save_file({"x": torch.zeros(1)}, folder / "bad.safetensors", about)
    return folder / "bad.safetensors"


@pytest.mark.parametrize("make", [code, bomb, truncated, markup, absurd])
@pytest.mark.parametrize("command", ["show", "verify", "import", "diff"])
def test_a_bad_file_is_told_in_one_line_with_code_4(command, make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = ("--out", "out.safetensors") if command == "import" else ()
    result = call(command, make(tmp_path), *out)
    assert result.exit_code == 4
    assert result.stderr.count("\n") == 1
    assert "bad." in result.stderr
    assert result.stdout == ""
    assert {path.name for path in tmp_path.iterdir()} <= {"bad.pth", "bad.safetensors"}


def test_diff_tells_every_fault_of_a_file(tmp_path):
    path = tmp_path / "a.safetensors"
    with_faults = {
        "backbone.body.layer4.2.conv3.weight": torch.zeros(2, 3),
        "[/bold]\n": torch.zeros(1),
    }
    save_file(with_faults, path)
    lines = call("diff", path).stdout.splitlines()
    assert "shape       backbone.body.layer4.2.conv3.weight (2, 3), not (2048, 512, 1, 1)" in lines
    assert "unexpected  '[/bold]\\n'…" in lines
    assert sum(line.startswith("missing     ") for line in lines) == 306
    found = json.loads(call("diff", path, "--json").stdout)
    assert found["other"] == "maskrcnn_resnet50_fpn"
    assert found["unexpected"] == ["[/bold]\n"]


def test_diff_of_two_files_tells_the_largest_differences_first(tmp_path):
    names = [f"t{index}" for index in range(30)]
    save_file({name: torch.zeros(2) for name in names}, tmp_path / "a.safetensors")
    numbers = {name: torch.tensor([0.0, -0.5 * i]) for i, name in enumerate(names)}
    save_file({**numbers, "t1": torch.full((2,), torch.nan)}, tmp_path / "b.safetensors")
    files = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    lines = call("diff", *files).stdout.splitlines()
    assert [line.split() for line in lines[:3]] == [["nan", "t1"], ["14.5", "t29"], ["14", "t28"]]
    assert lines[-1] == "and 9 more tensors with smaller differences"
    assert "are alike" in call("diff", files[0], files[0]).stdout
    assert call("diff", "person-lite").stdout.endswith("person-lite are alike\n")
