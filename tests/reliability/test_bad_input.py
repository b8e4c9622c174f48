"""Files that are given to a run: whatever is in them, they load or one line says what is wrong."""

import copy
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
import yaml
from commands import CAMERA, streamvis
from hypothesis import given, settings
from hypothesis import strategies as st

from streamvis import config
from streamvis.errors import StreamvisError
from streamvis.geometry import read_ground_plane

ROOT = Path(__file__).parents[2]
PIPELINES = sorted((ROOT / "pipelines").glob("*.yaml"))
PLACED = {  # placement -> the pipeline that it is for
    "one-gpu": "people",
    "two-cores": "people",
    "actions": "actions",
    "forecast": "forecast",
    "full": "full",
}
HOSTILE = [
    *(None, True, False, 0, -1, 1, 3.5, 1e300, -1e300, 10**30, 2**63, math.nan, math.inf),
    *("", "x", "x" * 10_000, "\0", "\ud800", "../../etc/passwd", "/dev/zero", "-1", "nan", "off"),
    *([], [[]], [None], {}, {"": {}}, {"kind": "jipda"}, [1, "x"], {1: 2}, b"\xff"),
]
hostile = st.sampled_from(HOSTILE).map(copy.deepcopy)


def places(tree, here=()):
    """The paths to everything in a tree of mappings and lists."""
    yield here
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield from places(tree[key], (*here, key))


@st.composite
def spoiled(draw, trees):
    """One of the trees with some values replaced, removed or added."""
    tree = copy.deepcopy(draw(st.sampled_from(trees)))
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from([place for place in places(tree) if place]))
        holder = tree
        for key in above:
            holder = holder[key]
        change = draw(st.sampled_from(["replace", "remove", "add", "repeat"]))
        if change == "remove" and len(holder) > 1:
            del holder[last]
        elif change == "repeat" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        elif change == "add" and isinstance(holder, dict):
            holder[draw(st.sampled_from(["x", "", "run", "after", "slots", "1"]))] = draw(hostile)
        else:
            holder[last] = draw(hostile)
    return tree


def one_line(error):
    text = str(error)
    assert text
    assert "\n" not in text
    assert len(text) < 20_000


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("given") / "given.yaml"


def written(file, tree):
    """Write the tree as YAML; characters that UTF-8 does not have are written as they come."""
    file.write_bytes(yaml.dump(tree, allow_unicode=True).encode(errors="surrogatepass"))
    return file


@settings(max_examples=150)
@given(tree=spoiled([yaml.safe_load(path.read_text()) for path in PIPELINES]))
def test_a_pipeline_loads_or_is_refused(file, tree):
    try:
        pipeline = config.load_pipeline(written(file, tree))
    except StreamvisError as error:
        one_line(error)
    else:
        config.default_placement(pipeline)
        assert config.to_text(pipeline)


@settings(max_examples=150)
@given(tree=spoiled([yaml.safe_load((ROOT / "configs/site.yaml").read_text())]))
def test_a_sources_file_loads_or_is_refused(file, tree):
    try:
        config.load_site(written(file, tree), {"GATE_PASSWORD": "sesame"})
    except StreamvisError as error:
        one_line(str(error).replace("sesame", "\n"))  # the password is in no error


@settings(max_examples=100)
@given(
    tree=spoiled([yaml.safe_load((ROOT / f"configs/{name}.yaml").read_text()) for name in PLACED])
)
def test_a_placement_loads_or_is_refused(file, tree):
    for name in {*PLACED.values()}:
        pipeline = config.load_pipeline(ROOT / f"pipelines/{name}.yaml")
        try:
            config.load_placement(written(file, tree), pipeline)
        except StreamvisError as error:
            one_line(error)


@settings(max_examples=150)
@given(
    key=st.sampled_from(["detect.weights", "detect.every_s", "track", "track.", ".", "", "x.y"]),
    value=st.one_of(
        st.text(st.characters(exclude_categories=["C"]), max_size=20),
        st.sampled_from(["2024-99-99", "[" * 1200, "*a", "!!x 1"]),
    ),
    tree=spoiled([{"stages": [{"name": "detect", "run": {"kind": "mask_rcnn"}}]}]),
)
def test_a_setting_of_the_command_line_applies_or_is_refused(file, key, value, tree):
    try:
        config.load_pipeline(written(file, tree), {key: value})
    except StreamvisError as error:
        one_line(error)


@settings(max_examples=150)
@given(
    tree=spoiled([{"image_foot_to_world_m": np.eye(3).tolist(), "image_size_px": [640, 480]}]),
    cut=st.integers(0, 400),
)
def test_a_ground_plane_is_nine_numbers_or_is_refused(tmp_path_factory, tree, cut):
    path = tmp_path_factory.getbasetemp() / "plane.json"
    try:
        path.write_bytes(msgspec.json.encode(tree)[:cut])
    except (msgspec.EncodeError, UnicodeEncodeError, TypeError):  # no JSON at all
        return
    try:
        plane = read_ground_plane(path)
    except StreamvisError as error:
        one_line(error)
    else:
        assert np.isfinite(plane).all()
        assert np.size(plane) == 9


MOT = "1,-1,10,20,30,60,0.9\n2,-1,11,20,30,60,0.8\n3,-1,12,20,30,60,0.9\n"
BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("command", "content", "code", "message"),
    [
        ("graph FILE", BOMB + "stages: *a11\n", 2, "aliases stand for more than 1000000 values"),
        ("graph FILE", "stages: &a [*a]\n", 2, "an alias refers to what it is a part of"),
        ("graph FILE", "&a {stages: *a}\n", 2, "an alias refers to what it is a part of"),
        ("graph FILE", "stages: " + "[" * 5000, 2, "is not YAML"),
        ("graph FILE", "!!python/object/apply:os.system ['touch pwned']\n", 2, "is not YAML"),
        ("check people --on FILE", "workers: [{stages: [detect, detct]}]", 2, "'detct'"),
        (
            "check people --on FILE",
            "workers: [{stages: [detect], device: tpu}]",
            2,
            "workers[0].device",
        ),
        ("track FILE --out OUT", MOT + "4,-1,nan,20,30,60,0.9\n", 2, ":4"),
        ("track FILE --out OUT", MOT + "4,-1,1,20,30,60\n1e9,", 2, "given"),
        ("track FILE --out OUT --fps 25", MOT + "999999999,-1,1,2,3,4,1\n", 2, ":4"),
        ("run camera.yaml --source FILE --out OUT", "no video", 3, "is not a video"),
        ("run camera.yaml --source FILE --out OUT", "", 3, "is empty"),
    ],
)
def test_what_is_wrong_is_one_line_and_its_exit_code(tmp_path, command, content, code, message):
    (tmp_path / "camera.yaml").write_text(CAMERA)
    given = tmp_path / "given"
    given.write_text(content)
    words = {"FILE": str(given), "OUT": str(tmp_path / "out")}
    done = streamvis(*(words.get(word, word) for word in command.split()), cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()[:1]
    assert line.startswith("streamvis: ")
    assert message in line
    left = {path.name for path in tmp_path.iterdir()} - {"camera.yaml", "given"}
    assert left <= ({"out"} if command.startswith("run") else set())
