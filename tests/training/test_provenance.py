"""Which command may go on in a training's directory, and what one that may not is told."""

import json
from pathlib import Path

import msgspec
import pytest

from streamvis.errors import DataError
from streamvis.training.provenance import begin, fingerprint


class Recipe(msgspec.Struct, kw_only=True):
    steps: int = 3
    rates: dict[str, float] = msgspec.field(default_factory=lambda: {"body": 0.5})
    start: str = "imagenet"


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "images/a.png").write_bytes(b"pixels")
    (folder / "annotations.json").write_text("[1]")
    return folder


def start(out: Path, data: Path, recipe: Recipe | None = None, kind="detector", **more) -> None:
    recipe = recipe or Recipe()
    weights = {"start": [recipe.start]}
    begin(out, kind, recipe, data={"--data": [data]}, weights=weights, **more)


def trained(out: Path, data: Path) -> Path:
    start(out, data)
    (out / "people").mkdir()
    for name in ("last.pt", "log.jsonl", "people/crops.npy", "a.safetensors", "notes.txt"):
        (out / name).write_text("kept")
    return out


def test_the_same_command_goes_on_wherever_the_data_lies(data, tmp_path):
    out = trained(tmp_path / "out", data)
    start(out, data.rename(tmp_path / "moved"))
    assert (out / "last.pt").exists()


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (Recipe(steps=4), "steps was 3, is now 4"),
        (Recipe(rates={"body": 0.5, "heads": 1}), r"rates\.heads was absent, is now 1"),
        (Recipe(start="eyes"), r'start was "imagenet", is now "eyes"\. Choose'),
    ],
)
def test_another_recipe_is_refused_by_the_names_of_what_differs(data, tmp_path, recipe, words):
    out = trained(tmp_path / "out", data)
    with pytest.raises(DataError, match=f"{out} holds another training: {words}.*--overwrite"):
        start(out, data, recipe)
    assert (out / "last.pt").read_text() == "kept"


def test_other_data_and_another_kind_are_refused(data, tmp_path):
    out = trained(tmp_path / "out", data)
    with pytest.raises(DataError, match="kind was detector, is now segmenter"):
        start(out, data, kind="segmenter")
    before = fingerprint(data)[:12]
    (data / "annotations.json").write_text("[2]")  # as long as before
    now = fingerprint(data)[:12]
    with pytest.raises(DataError, match=rf"--data was .*\({before}\), is now .*\({now}\)"):
        start(out, data)


def test_weights_that_were_started_from_count_by_their_content(data, tmp_path):
    path, out = tmp_path / "w.safetensors", tmp_path / "out"
    path.write_text("one")
    start(out, data, Recipe(start=str(path)))
    (out / "last.pt").write_text("")
    path.write_text("two")
    with pytest.raises(DataError, match=r"start was .*w\.safetensors \(.*\), is now .*w\.safet"):
        start(out, data, Recipe(start=str(path)))


def test_a_training_of_an_older_version_is_refused_in_one_line(data, tmp_path):
    (tmp_path / "last.pt").write_text("")
    with pytest.raises(DataError, match=r"a training without training\.json, as older versions"):
        start(tmp_path, data)


def test_overwriting_removes_what_was_trained_and_what_no_longer_fits(data, tmp_path):
    out = trained(tmp_path / "out", data)
    start(out, data, Recipe(steps=5), overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == [
        "notes.txt",
        "people",  # of the same data
        "training.json",
    ]
    (data / "images/b.png").write_text("more")
    start(out, data, Recipe(steps=5), overwrite=True)
    assert not (out / "people/crops.npy").exists()


def test_nothing_is_lost_where_nothing_was_trained(data, tmp_path):
    out = tmp_path / "out"
    start(out, data)
    (out / "log.jsonl").write_text("steps before the first checkpoint")
    start(out, data, Recipe(steps=9))
    assert not (out / "log.jsonl").exists()
    other = tmp_path / "mine"
    (other / "clips").mkdir(parents=True)
    (other / "clips/mine.npy").write_text("")
    start(other, data, overwrite=True)
    assert (other / "clips/mine.npy").exists()  # a directory that never was a training's


def test_a_field_that_an_older_version_did_not_know_has_its_default(data, tmp_path):
    out = trained(tmp_path / "out", data)
    told = json.loads((out / "training.json").read_text())
    del told["recipe"]["rates"]
    (out / "training.json").write_text(json.dumps(told))
    start(out, data)


def test_data_is_what_is_learnt_from(data, tmp_path):
    before = fingerprint(data, data / "out")
    trained(data / "out", data)
    (data / "runs").mkdir()
    trained(data / "runs/other", data)
    (data / "worst.png").write_text("a sheet of mistakes")
    (data / "images/.hidden.png").write_text("")
    (data / "images/loop").symlink_to(data / "images")
    assert fingerprint(data, data / "out") == before
    (data / "images/\udcff ü.png").write_text("a name that is not UTF-8")
    assert fingerprint(data, data / "out") != before


def test_an_out_that_is_a_file_is_told(data, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="out is a file; --out is a directory"):
        start(tmp_path / "out", data)
