"""Text files in the encodings that people's editors leave, and names that they misspell."""

import codecs
import json
import math
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import msgspec
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from streamvis.calibration.inputs import provenance, read_points
from streamvis.config import (
    Jipda,
    Pipeline,
    default_pipeline,
    default_placement,
    load_pipeline,
    load_placement,
)
from streamvis.datasets import coco, motchallenge
from streamvis.datasets.clips import read_clips
from streamvis.datasets.keypoints import read_keypoints
from streamvis.errors import ConfigError, DataError, StreamvisError, UsageError
from streamvis.geometry import read_ground_plane
from streamvis.models.int8 import read_ranges
from streamvis.parsing import alternatives, convert, read_text, read_yaml, yaml_value
from streamvis.runners.settings import configure
from streamvis.runners.tracker_trials.report import read_scores
from streamvis.runners.tracker_trials.trials import Thinning
from streamvis.runtime import manifest, opened
from streamvis.sources import resolve
from streamvis.training.pose.lift_data import Trust, read_rows
from streamvis.training.recipes import read_recipe

PLANE = {"image_foot_to_world_m": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "points": [[1, 2, 3, 4]]}
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}],
    "annotations": [],
    "categories": [{"id": 1, "name": "person"}],
}


class Recipe(msgspec.Struct, forbid_unknown_fields=True):
    rate: float = 0.1


def sequence(folder: Path, text: str) -> Path:
    (folder / "img1").mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "img1" / "1.png"), np.zeros((9, 9, 3), np.uint8))
    return folder


def clips(path: Path) -> list[tuple[str, str]]:
    return [(clip.path.name, clip.label) for clip in read_clips(path)]


PIPELINE = yaml.safe_dump(msgspec.to_builtins(default_pipeline()))
PLACEMENT = yaml.safe_dump(msgspec.to_builtins(default_placement(default_pipeline())))
INI = "[Sequence]\nname=s\nframeRate=7\nimWidth=9\nimHeight=9\nseqLength=2\nimDir=img1\n"
READERS = {  # name of a file -> what is in it, what reads it
    "det.txt": (
        "1,-1,2,3,4,5,0.5\n2,-1,2,3,4,5,0.6\n",
        lambda path: motchallenge.read_detections(path).scores.tolist(),
    ),
    "gt.txt": (
        "1,1,2,3,4,5,1\n2,1,2,3,4,5,1\n",
        lambda path: motchallenge.read_truth(path, 2)[0].frames.tolist(),
    ),
    "seqinfo.ini": (INI, lambda path: motchallenge.read_info(path).fps),
    "seqinfo.ini ": (INI, lambda path: resolve([str(path.parent)])[0].fps),
    "p.yaml": (PIPELINE, load_pipeline),
    "w.yaml": (PLACEMENT, lambda path: load_placement(path, default_pipeline())),
    "r.yaml": ("rate: 0.5\n", lambda path: read_recipe(path, Recipe).rate),
    "points.csv": ("u,v,x,y\n1,2,3,4\n", lambda path: read_points(path).pixels.tolist()),
    "points.yaml": ("- [1, 2, 3, 4]\n", lambda path: read_points(path).pixels.tolist()),
    "ground_plane.json": (json.dumps(PLANE, indent=1), read_ground_plane),
    "made.json": (json.dumps(PLANE, indent=1), lambda path: provenance(path).points),
    "coco.json": (json.dumps(COCO, indent=1), lambda path: len(coco.read_coco(path))),
    "clips.csv": ("path,label,source\na.mp4,x,s\nb.mp4,y,t\n", clips),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_and_other_ends_of_lines_change_nothing(tmp_path, name, ends):
    text, read = READERS[name]
    path = sequence(tmp_path, name) / name.strip()
    path.write_text(text)
    expected = read(path)
    path.write_bytes(codecs.BOM_UTF8 + text.replace("\n", ends).encode())
    assert read(path) == expected


@pytest.mark.parametrize("name", [name for name in READERS if name != "made.json"])
def test_other_encodings_are_one_line(tmp_path, name):
    text, read = READERS[name]
    path = sequence(tmp_path, name) / name.strip()
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(StreamvisError, match=r"is UTF-16 text, expected UTF-8") as refused:
        read(path)
    assert "\n" not in str(refused.value)
    path.write_bytes(text.encode() + b"# caf\xe9\n")
    with pytest.raises(StreamvisError, match=r"is not UTF-8 text: .* at byte") as refused:
        read(path)
    path.unlink()
    with pytest.raises(StreamvisError):
        read(path)


@given(st.text().filter(lambda text: not text.startswith("\ufeff")))
def test_text_is_read_as_written(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "text"
    path.write_text(text, encoding="utf-8-sig", newline="")
    assert read_text(path, DataError) == text.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize("text", ["a: [1", "a: 2024-02-30", "[" * 5000])
def test_invalid_yaml_is_one_line(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match="is not YAML"):
        read_yaml(tmp_path / "a.yaml", ConfigError)


@pytest.mark.parametrize("secret", [False, True])
def test_an_error_in_yaml_says_what_and_where_in_a_few_words(secret):
    with pytest.raises(ValueError, match="expected") as error:
        yaml_value("zones:\n  - {name: door\n", secret=secret)
    assert str(error.value) == "expected ',' or '}', but got '<stream end>' at line 3, column 1"


# 2^20 values in twenty lines
DOUBLED = "a: &a [x, x]\n" + "".join(
    f"{one}: &{one} [*{before}, *{before}]\n" for before, one in pairwise("abcdefghijklmnopqrstu")
)


@pytest.mark.parametrize("secret", [False, True])
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\n---\nb: 2", "expected a single document in the stream, but found"),
        ("a:\n\t- b", "found a tab instead of spaces at line 2, column 1"),
        ("[" * 5000, "it is nested too deeply"),
        ("a: b\0", "it has a character that no text has, number 5"),
        ("a: &a [*a]", "an alias refers to what it is a part of"),
        (DOUBLED, "its aliases stand for more than 1000000 values"),
    ],
)
def test_what_is_wrong_is_said_also_where_words_are_secret(text, problem, secret):
    with pytest.raises(ValueError, match=problem):
        yaml_value(text, secret=secret)


def test_aliases_that_stand_for_little_are_read():
    assert yaml_value("a: &a [1, 2]\nb: [*a, *a]") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}
    assert yaml_value("") is None


@pytest.mark.parametrize("secret", [False, True])
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-6", 2e-6),
        ("-1.5E3", -1500.0),
        (".5e+1", 5.0),
        ("[1e18]", [1e18]),
        ("1e5.mp4", "1e5.mp4"),
        ("true", True),
        ("trueblue.mp4", "trueblue.mp4"),
        ("false alarms", "false alarms"),
    ],
)
def test_numbers_and_booleans_are_those_of_yaml_1_2_and_words_only_begin_like_them(
    text, value, secret
):
    found = yaml_value(text, secret=secret)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "1e999"])
def test_what_is_no_finite_number_is_refused_with_its_place(value):
    raw = yaml_value(f"stages: [{{name: track, run: {{kind: jipda, clutter: {value}}}}}]")
    with pytest.raises(ConfigError, match=r"\$\.stages\[0\]\.run\.clutter` \(of 'track'\)"):
        convert(raw, Pipeline, "p.yaml", ConfigError)
    with pytest.raises(ConfigError, match="Expected a finite number, got -inf - at"):
        convert((0.5, {"x": [-math.inf]}), Any, "here", ConfigError)


@given(st.text(alphabet="tfruealsonye01.-+ e:_x=~<,", max_size=12), st.booleans())
def test_whatever_is_no_yaml_is_a_value_error(text, secret):
    with suppress(ValueError):
        yaml_value(text, secret=secret)


def test_a_number_out_of_range_is_named():
    with pytest.raises(ConfigError, match=r"Expected `int` <= 3 - at `\$\[1\]`, found 7"):
        convert([2, 7], list[Annotated[int, msgspec.Meta(le=3)]], "here", ConfigError)


def test_a_key_that_is_there_twice_is_one_line_without_secrets():
    with pytest.raises(ValueError, match="key 'stages' is there twice") as error:
        yaml_value("stages: 1\nother: 2\nstages: 3")
    assert "line 3, column 1" in str(error.value)
    with pytest.raises(ValueError, match="is there twice at line 2, column 1") as error:
        yaml_value("hunter2: 1\nhunter2: 2", secret=True)
    assert "hunter" not in str(error.value)


def test_merged_keys_may_be_given_again():
    text = "base: &base {a: 1, b: 2}\none: {<<: *base, b: 3}\ntwo: {<<: [*base, {c: 4}], a: 5}"
    assert yaml_value(text) == yaml_value(text, secret=True) == yaml.safe_load(text)


def refused(raw: object, kind: type) -> str:
    with pytest.raises(ConfigError) as error:
        convert(raw, kind, "p.yaml", ConfigError)
    return str(error.value)


def stage(**run: object) -> dict[str, object]:
    return {"stages": [{"name": "look", "run": run}]}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            stage(kind="jipda", birth_scor=1),
            "unknown field `birth_scor` - at `$.stages[0].run` (of 'look'); "
            "did you mean birth_score? Allowed: kind, mode, camera, space, birth_score,",
        ),
        (
            stage(kind="mask_rcn"),
            "'mask_rcn' - at `$.stages[0].run.kind` (of 'look'); did you mean mask_rcnn? "
            "Allowed: mask_rcnn, yolox, appearance,",
        ),
        (stage(kind="off", scope="frames"), "did you mean frame? Allowed: both, frame, people"),
        (stage(kind="off", scope=True), "got `bool` - at `$.stages[0].run.scope` (of 'look'). "),
        (stage(kind="mask_rcnn", tiles="atuo"), "did you mean auto? Allowed: auto, 1 to 4"),
        (stage(kind="publish", attach=["x"]), "run.attach[0]` (of 'look'). Allowed: masks"),
        (stage(mode="auto"), "missing required field `kind` - at `$.stages[0].run` (of 'look'). A"),
        (
            stage(kind="forecast", zones=[{"name": "gate", "poligon": []}]),
            "(of 'gate'); did you mean polygon? Allowed: name, polygon,",
        ),
        (stage(kind="jipda", birth_score=2), "`float` <= 1.0 - at"),
        ({"stage": []}, "unknown field `stage`; did you mean stages? Allowed: stages"),
    ],
)
def test_a_misspelt_name_is_reported_with_the_allowed_ones(raw, message):
    assert message in refused(raw, Pipeline)


def test_values_inside_mappings_and_tuples_are_found():
    class Inner(msgspec.Struct, forbid_unknown_fields=True):
        mode: Literal["near", "far"] | None = None

    class Outer(msgspec.Struct):
        named: dict[str, Inner] = {}
        pair: tuple[int, Inner] | None = None

    assert "Allowed: far, near, null" in refused({"named": {"x": {"mode": "fat"}}}, Outer)
    assert "did you mean mode?" in refused({"pair": [1, {"moed": "far"}]}, Outer)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["stages", "name", "run", "kind", "zones", "x"]), inner),
))  # fmt: skip
def test_any_mistake_is_a_line(raw):
    with pytest.raises(ConfigError):
        convert({"stages": [raw]}, Pipeline, "p.yaml", ConfigError)


def test_settings_of_a_command_line_have_alternatives_too():
    with pytest.raises(UsageError, match=r"has no stage 'detct'; did you mean detect\? Allowed"):
        load_pipeline(None, {"detct.weights": "x"})
    with pytest.raises(ConfigError, match=r"`wieghts` .*\(of 'detect'\); did you mean weights\?"):
        load_pipeline(None, {"detect.wieghts": "x"})
    with pytest.raises(UsageError, match=r"jipda has no 'camra'; did you mean camera\?"):
        configure(Jipda, {}, ["camra=fixed"])
    with pytest.raises(UsageError, match="Allowed: auto, fixed, moving"):
        configure(Jipda, {}, ["camera=fix"])
    with pytest.raises(UsageError, match=r"`peple`; did you mean people\? Allowed: seed, people"):
        resolve(["synthetic:walkers?peple=3"])


def test_alternatives_of_nothing():
    assert alternatives("x", []) == ". Allowed: none"


def a_coco_folder(folder):
    return coco.read_coco(folder / "annotations.json")


def a_report(folder):
    return read_scores(folder / "annotations.json", Thinning())


def a_lifting_folder(folder):
    return read_rows([folder], None, Trust())


DEEP = {  # readers of a folder's file of this name
    "annotations.json": [read_keypoints, a_coco_folder, a_lifting_folder, a_report],
    "a.int8.json": [lambda folder: read_ranges(folder / "a.safetensors")],
    manifest.MANIFEST: [manifest.read],
    opened.OPENED: [opened.read],
    "plane.json": [lambda folder: read_ground_plane(folder / "plane.json")],
}


@pytest.mark.parametrize(
    ("name", "read"), [(name, read) for name, readers in DEEP.items() for read in readers]
)
def test_json_that_is_nested_too_deep_is_an_error_in_one_line(tmp_path, name, read):
    (tmp_path / name).write_text('{"images": ' + "[" * 100_000)
    with pytest.raises(StreamvisError) as caught:
        read(tmp_path)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)
