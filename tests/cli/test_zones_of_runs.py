"""`streamvis zones`: zones files are checked and drawn; zones of a run are listed and set."""

import json

import cv2
import numpy as np
import pytest
from controlled_runs import camera, private_home, under_way
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.config.zones import read_zones, zones_text
from streamvis.runtime.protocol import SetZones
from streamvis.zone_layout import Line, Zone, ZoneLayout

TRIANGLE = ((0.1, 0.1), (0.9, 0.1), (0.5, 0.9))
DOOR = ZoneLayout(
    zones=(Zone(name="door", polygon=TRIANGLE, crowd=5),),
    lines=(Line(name="gate", start=(0.1, 0.5), end=(0.9, 0.5)),),
)
DESK = ZoneLayout(zones=(Zone(name="desk", polygon=TRIANGLE),))
METRES = ZoneLayout(zones=(Zone(name="kerb", polygon=((-3, 6), (3, 6), (0, 9)), space="ground"),))


@pytest.fixture(autouse=True)
def home():
    with private_home():
        yield


def call(*arguments):
    return CliRunner().invoke(app, ["zones", *map(str, arguments)])


def refused(result, code, *words):
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("streamvis: ")
    assert all(word in line for word in words), line


def written(folder, layout, name="zones.yaml"):
    path = folder / name
    path.write_text(zones_text(layout))
    return path


def picture(path):
    return cv2.imread(str(path))[..., ::-1]


def test_check_counts_the_corner_that_a_closed_ring_repeats_once(tmp_path):
    path = tmp_path / "ring.yaml"
    path.write_text("zones: [{name: a, polygon: [[0, 0], [1, 0], [1, 1], [0, 0]]}]")
    assert "inside of 3 corners" in call("check", path).stdout


def test_a_file_without_zones_is_sound_and_said_to_count_nothing(tmp_path):
    path = tmp_path / "none.yaml"
    path.write_text("zones: []")
    result = call("check", path)
    assert result.exit_code == 0
    assert "no zones and no lines: nothing is counted" in result.stderr


def test_check_prints_zones_and_lines(tmp_path):
    path = written(tmp_path, DOOR)
    table = call("check", path)
    assert table.exit_code == 0, table.output
    for words in ("door", "inside of 3 corners", "crowd of 5 for 1 s", "line from 0.1,0.5 to"):
        assert words in table.stdout
    (found,) = json.loads(call("check", path, "--json").stdout)
    assert (found["source"], found["file"]) == (None, str(path))
    assert [zone["name"] for zone in found["zones"]] == ["door"]
    assert [line["name"] for line in found["lines"]] == ["gate"]


def test_check_draws_zones_on_grey_of_a_size_or_on_the_first_picture_of_a_source(tmp_path):
    path, png = written(tmp_path, DOOR), tmp_path / "out.png"
    drawn = call("check", path, "--picture", png, "--size", "320x200")
    assert drawn.exit_code == 0, drawn.output
    assert f"wrote {png}" in drawn.stderr
    image = picture(png)
    assert image.shape == (200, 320, 3)
    assert (image[150, 10] == image[190, 300]).all()
    assert (image[60, 160] != image[190, 300]).any()
    scene = "synthetic:walkers?people=0&seconds=1&size=160x120"
    assert call("check", path, "--picture", png, "--source", scene).exit_code == 0
    on_scene = picture(png)
    assert on_scene.shape == (120, 160, 3)
    written(tmp_path, ZoneLayout())
    assert call("check", path, "--picture", png, "--source", scene).exit_code == 0
    untouched = picture(png)
    np.testing.assert_array_equal(on_scene[110, 5], untouched[110, 5])
    assert (on_scene[40, 80] != untouched[40, 80]).any()


def test_check_draws_metres_on_a_source_with_a_ground_plane_only(tmp_path):
    path, png = written(tmp_path, METRES), tmp_path / "out.png"
    refused(call("check", path, "--picture", png), 2, "metres", "--source")
    assert not png.exists()
    scene = "synthetic:walkers?people=0&seconds=1&size=160x120"
    assert call("check", path, "--picture", png, "--source", scene).exit_code == 0
    assert png.exists()


def site(folder, *zones, masks=""):
    path = folder / "site.yaml"
    uri = "synthetic:walkers?people=0&seconds=1&size=160x120"
    entries = [
        f"  - {{id: s{i}, uri: '{uri}', zones: {one}{masks}}}" for i, one in enumerate(zones)
    ]
    path.write_text("sources:\n" + "\n".join(entries))
    return path


def test_check_reads_the_zones_of_a_sources_file(tmp_path):
    written(tmp_path, DOOR, "door.yaml")
    written(tmp_path, METRES, "metres.yaml")
    path, png = site(tmp_path, "door.yaml", "metres.yaml"), tmp_path / "out.png"
    found = json.loads(call("check", path, "--json").stdout)
    assert [(one["source"], one["file"]) for one in found] == [
        ("s0", str(tmp_path / "door.yaml")),
        ("s1", str(tmp_path / "metres.yaml")),
    ]
    refused(call("check", path, "--picture", png), 2, "s0, s1", "--source")
    assert call("check", path, "--picture", png, "--source", "s1").exit_code == 0
    refused(call("check", path, "--source", "s2"), 2, "no source 's2'", "Allowed: s0, s1")


def test_a_still_shows_nothing_below_privacy_masks(tmp_path):
    masks = ", privacy_masks: [[[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]]]"
    path, png = site(tmp_path, "{}", masks=masks), tmp_path / "out.png"
    assert call("check", path, "--picture", png).exit_code == 0
    image = picture(png)
    assert (image[:, 90:] == 128).all()
    assert (image[:, :70] != 128).any()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("no.yaml",), 2, ["no.yaml: No such file"]),
        (("zones.yaml", "--size", "0x9"), 2, ["--size 0x9", "WxH"]),
        (("zones.yaml", "--picture", "/proc/x/y.png"), 2, ["/proc/x/y.png cannot be written"]),
        (("zones.yaml", "--source", "no.mp4"), 3, ["no.mp4"]),
    ],
)
def test_what_cannot_be_checked_says_why(tmp_path, monkeypatch, arguments, code, words):
    written(tmp_path, DOOR)
    monkeypatch.chdir(tmp_path)
    refused(call("check", *arguments), code, *words)


def test_zones_of_a_run_are_listed_with_where_they_are_from(tmp_path):
    own = camera("own", zones=DOOR, zones_file="/etc/own.yaml")
    with under_way(own, camera("plain"), zones=DESK):
        table = call("list")
        found = json.loads(call("list", "--json").stdout)
    assert table.exit_code == 0, table.output
    assert "own, from /etc/own.yaml" in table.stdout
    assert "plain, from the pipeline" in table.stdout
    assert [(one["source"], one["from"]) for one in found] == [
        ("own", "/etc/own.yaml"),
        ("plain", "pipeline"),
    ]
    assert found[1]["zones"][0]["name"] == "desk"


def test_zones_of_a_run_are_set_and_kept_in_their_file(tmp_path):
    kept, new = written(tmp_path, DOOR, "own.yaml"), written(tmp_path, DESK, "new.yaml")
    own = camera("own", zones=DOOR, zones_file=str(kept))
    with under_way(own, camera("plain"), zones=DESK) as run:
        result = call("set", "own", new)
        assert (result.exit_code, result.stdout) == (0, ""), result.output
        assert result.stderr == f"source 'own' has 1 zone and 0 lines, kept in {kept}\n"
        assert run.facts == [SetZones("own", DESK, 1.0)]
        assert read_zones(kept) == DESK
        result = call("set", "plain", written(tmp_path, DOOR, "door.yaml"))
        assert "until the run ends" in result.stderr
        assert [one["from"] for one in json.loads(call("list", "--json").stdout)] == [
            str(kept),
            "set",
        ]


def test_wrong_zones_change_neither_the_run_nor_the_file(tmp_path):
    kept, bad = written(tmp_path, DOOR, "own.yaml"), tmp_path / "bad.yaml"
    before = kept.read_text()
    bad.write_text("zones: [{name: door, polygon: [[0, 0], [1, 1]]}]")
    locked = tmp_path / "none" / "own.yaml"
    specs = (
        camera("own", zones=DOOR, zones_file=str(kept)),
        camera("lost", zones=DOOR, zones_file=str(locked)),
    )
    with under_way(*specs, zones=DESK) as run:
        refused(call("set", "own", bad), 2, str(bad), "'door'", "three")
        refused(call("set", "onw", kept), 2, "no source 'onw'", "did you mean own?")
        refused(call("set", "own", written(tmp_path, METRES)), 2, "'kerb' is in metres")
        refused(call("set", "lost", written(tmp_path, DESK)), 2, str(locked), "cannot be written")
        seconds = tuple(1 + n / 7 for n in range(100))  # with many digits
        wide = tuple(
            Zone(name=f"zone-{'x' * 50}-{i}", polygon=TRIANGLE, dwell_s=seconds) for i in range(320)
        )
        many = written(tmp_path, ZoneLayout(zones=wide))
        refused(call("set", "own", many), 2, "bytes", "at most")
        assert run.facts == []
    assert kept.read_text() == before


def test_a_run_that_counts_nothing_says_so():
    with under_way(camera("gate")):
        refused(call("list"), 2, "kind `zones`")


def test_zones_of_a_sources_file_are_checked_with_the_pipeline(tmp_path):
    written(tmp_path, DOOR, "door.yaml")
    path = site(tmp_path, "door.yaml")
    checked = CliRunner().invoke(app, ["check", "zones", "--sources", str(path)])
    assert checked.exit_code == 0, checked.output
    for command in (["check", "people"], ["run", "people"]):
        refused(
            CliRunner().invoke(app, [*command, "--sources", str(path)]),
            *(2, "source 's0'", str(tmp_path / "door.yaml"), "kind `zones`"),
        )
