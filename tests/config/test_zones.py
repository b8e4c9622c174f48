"""Zones files: what is wrong in them is one line with file and place, what is right arrives."""

from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from streamvis import config
from streamvis.config.pipeline import Pipeline, StageSpec
from streamvis.config.zones import (
    GivenZones,
    check_zones,
    given_zones,
    pipeline_zones,
    read_zones,
    with_zones,
    zones_of,
    zones_text,
)
from streamvis.errors import ConfigError, StreamvisError, UsageError
from streamvis.parsing import yaml_value
from streamvis.sources.identity import settings_of
from streamvis.sources.spec import SourceSpec
from streamvis.stages.zones import ZoneCounter
from streamvis.zone_layout import Line, Zone, ZoneLayout

TRIANGLE = ((0.1, 0.1), (0.9, 0.1), (0.5, 0.9))
DOOR = Zone(name="door", polygon=TRIANGLE)
GATE = Line(name="gate", start=(0.1, 0.5), end=(0.9, 0.5))
LAYOUT = ZoneLayout(zones=(DOOR,), lines=(GATE,))
METRES = ZoneLayout(lines=(Line(name="kerb", start=(0, 4), end=(6, 4), space="ground"),))
A, B = (SourceSpec(id=name, uri=f"{name}.mp4", kind="file") for name in "ab")


def counting(*zones: Zone) -> Pipeline:
    return Pipeline((StageSpec(name="zones", run=ZoneCounter(zones=zones)),))


def written(folder: Path, text: str) -> Path:
    path = folder / "a.zones.yaml"
    path.write_text(text)
    return path


def zone(settings: str) -> str:
    return f"zones: [{{name: door, {settings}}}]"


ALL = "polygon: [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("zones: [{name: door", ["is not YAML", "line 1"]),
        ("zones: []\nlines: []\nzones: []", ["is not YAML", "'zones' is there twice", "line 3"]),
        (zone(f"{ALL}, crowd: 2, crowd: 3"), ["'crowd' is there twice", "line 1"]),
        ("- door", ["expected a mapping at the top, found list"]),
        ("zone: []", ["unknown field `zone`", "did you mean zones? Allowed: zones, lines"]),
        (zone("poligon: []"), ["`poligon`", "$.zones[0]", "'door'", "did you mean polygon?"]),
        (zone("polygon: [[0.1, 0.1], [0.9, 0.1]]"), ["'door'", "2 different corners", "three"]),
        (
            zone("polygon: [[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]"),
            ["'door'", "crosses", "list the corners of `polygon` in order"],
        ),
        (
            zone("polygon: [[64, 48], [400, 48], [200, 300]]"),
            ["'door'", "outside of the picture", "divide pixels"],
        ),
        (zone("polygon: [[0.1, 0.1], [0.9, .nan], [0.5, 0.9]]"), ["'door'", "nan", "0 to 1"]),
        (f"zones: [{{{ALL}}}]", ["missing required field `name`", "$.zones[0]"]),
        (zone(ALL.replace("[0.5, 0.9]", "[0.5]")), ["length 2", "$.zones[0].polygon[2]", "'door'"]),
        (f"zones: [{{name: door, {ALL}}}, {{name: door, {ALL}}}]", ["two zones", "'door'"]),
        (zone(f"{ALL}, anchor: feet"), ["'feet'", "$.zones[0].anchor", "Allowed: centre, foot"]),
        (zone(f"{ALL}, classes: [car]"), ["'door'", "'car'", "expected person"]),
        (zone(f"{ALL}, dwell_s: [60, 10]"), ["'door'", "[60.0, 10.0]", "ascending"]),
        ("lines: [{name: gate, start: [0.1, 0.5], end: [0.1, 0.5]}]", ["'gate'", "ends"]),
        ("lines: [{name: gate, start: [0.1, 0.5]}]", ["missing required field `end`", "'gate'"]),
        (zone(f"{ALL}, crowd: {10**20}"), ["<= 1000000", "$.zones[0].crowd"]),
        (zone(f"{ALL}, min_p_exist: 2"), ["<= 1", "$.zones[0].min_p_exist", "'door'"]),
    ],
)
def test_what_is_wrong_in_a_zones_file_is_one_line_with_file_and_place(tmp_path, text, words):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        read_zones(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_a_file_that_is_not_there_or_is_none_is_named(tmp_path):
    for path, words in [(tmp_path / "no.yaml", "No such file"), (tmp_path, "is no file")]:
        with pytest.raises(ConfigError, match=words) as error:
            read_zones(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["c={file}"], ["no source 'c'", "Allowed: a, b"]),
        (["a={file}", "a={file}"], ["two files for source 'a'"]),
        (["{file}", "{file}"], ["two files for every source"]),
        (["A B={file}"], ["'A B'", "[ID=]FILE"]),
        (["a="], ["--zones a=: no file is named", "[ID=]FILE"]),
    ],
)
def test_zones_of_the_command_line_name_sources_of_the_run(tmp_path, given, words):
    path = written(tmp_path, zones_text(LAYOUT))
    with pytest.raises(UsageError) as error:
        with_zones([A, B], given_zones([one.format(file=path) for one in given]))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_names_that_look_like_numbers_are_read_as_they_were_written(tmp_path):
    named = ZoneLayout(zones=tuple(Zone(name=one, polygon=TRIANGLE) for one in ("1e5", "12", "on")))
    assert read_zones(written(tmp_path, zones_text(named))) == named


def test_the_file_of_a_source_counts_before_the_file_of_all(tmp_path):
    own, all_ = tmp_path / "own.yaml", tmp_path / "all.yaml"
    own.write_text(zones_text(LAYOUT))
    all_.write_text(zones_text(METRES))
    a, b = with_zones([A, B], given_zones([f"a={own}", str(all_)]))
    assert (a.zones, a.zones_file) == (LAYOUT, str(own))
    assert (b.zones, b.zones_file) == (METRES, str(all_))
    assert with_zones([A, B], []) == [A, B]


def test_a_path_with_an_equals_sign_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("day=1.yaml").write_text(zones_text(LAYOUT))
    assert given_zones(["day=1.yaml", "./a=b.yaml"]) == [
        GivenZones(None, Path("day=1.yaml")),
        GivenZones(None, Path("./a=b.yaml")),
    ]


def replaced(spec: SourceSpec, **fields: object) -> SourceSpec:
    return msgspec.structs.replace(spec, **fields)


def test_zones_need_a_stage_that_counts_and_metres_a_ground_plane():
    with pytest.raises(ConfigError, match=r"source 'a' has `zones`, but no stage .* kind `zones`"):
        check_zones(Pipeline(()), [replaced(A, zones=LAYOUT)])
    with pytest.raises(ConfigError, match=r"the zones file /z\.yaml"):
        check_zones(Pipeline(()), [replaced(A, zones=LAYOUT, zones_file="/z.yaml")])
    with pytest.raises(
        ConfigError, match=r"'a': line 'kerb' is in metres .* `streamvis calibrate`"
    ):
        check_zones(counting(), [replaced(A, zones=METRES)])
    with pytest.raises(ConfigError, match=r"source 'b': zone 'door' is in metres"):
        check_zones(counting(msgspec.structs.replace(DOOR, space="ground")), [B])
    flat = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    check_zones(counting(), [replaced(A, zones=METRES, ground_plane=flat), B])
    check_zones(Pipeline(()), [A, B])


def test_a_source_without_zones_has_those_of_the_pipeline():
    own = replaced(A, zones=METRES)
    assert zones_of(counting(DOOR), [own, B]) == {"a": METRES, "b": ZoneLayout(zones=(DOOR,))}
    assert zones_of(Pipeline(()), [own, B]) == {"a": None, "b": None}
    assert pipeline_zones(config.load_pipeline(None)) is None


def test_sources_in_which_nothing_is_counted_are_found():
    bare = [replaced(A, zones=METRES), B, replaced(B, id="c", zones=ZoneLayout())]
    assert config.without_zones(counting(), bare) == ["b", "c"]
    assert config.without_zones(counting(DOOR), bare) == ["c"]  # b has those of the pipeline
    assert config.without_zones(Pipeline(()), bare) == []  # nothing is meant to be counted


def test_results_depend_on_zones_and_not_on_their_file():
    settings = settings_of(replaced(A, zones=LAYOUT, zones_file="/x.yaml"))
    assert settings.keys() == {"zones"}
    assert settings != settings_of(replaced(A, zones=METRES))


def shares(low: float = 0, high: float = 1) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


names = st.from_regex("[a-z0-9_-]{1,8}", fullmatch=True)
zones = st.builds(
    Zone,
    name=names,
    polygon=st.builds(
        lambda x, y: ((x, y), (x + 0.4, y), (x + 0.2, y + 0.3)), shares(0, 0.5), shares(0, 0.5)
    ),
    outside=st.booleans(),
    enter_s=shares(0, 60),
    dwell_s=st.sampled_from([(), (10.0, 60.0), (0.5,)]),
    crowd=st.none() | st.integers(1, 99),
    anchor=st.sampled_from(["foot", "centre"]),
)
lines = st.builds(
    Line,
    name=names,
    start=st.tuples(shares(0, 0.4), shares()),
    end=st.tuples(shares(0.6, 1), shares()),
    band=shares(),
)
layouts = st.builds(
    ZoneLayout,
    zones=st.lists(zones, max_size=3, unique_by=lambda one: one.name).map(tuple),
    lines=st.lists(lines, max_size=3, unique_by=lambda one: one.name).map(tuple),
)


atoms = (
    st.none() | st.booleans() | st.floats() | st.integers() | st.text("ab<>&*\ud800", max_size=3)
)
keys = st.sampled_from(["zones", "lines", *Zone.__struct_fields__, *Line.__struct_fields__, "x"])
anything = st.recursive(
    atoms,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)
mistaken = zones.map(lambda one: zones_text(ZoneLayout(zones=(one,)))).flatmap(
    lambda text: st.builds(
        lambda at, length, junk: text[:at] + junk + text[at + length :],
        st.integers(0, len(text)),
        st.integers(0, 9),
        st.text("[]{}:,-. ae0&*!|>\n#'", max_size=4),
    )
)


@given(mistaken | anything.map(lambda raw: yaml.safe_dump({"zones": raw, "lines": [raw]})))
def test_whatever_a_zones_file_holds_it_is_read_or_refused_in_one_line(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.zones.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    said = str(path)
    try:
        msgspec.msgpack.encode(read_zones(path))  # it is sent to other processes
    except ConfigError as error:
        said = str(error)
    assert str(path) in said
    assert "\n" not in said


@given(layouts)
def test_what_is_written_is_read_again(layout):
    text = zones_text(layout)
    assert msgspec.convert(yaml_value(text), ZoneLayout) == layout
    assert yaml.safe_load(text) is not None


def test_a_written_file_has_a_line_for_each_zone_without_defaults():
    assert zones_text(LAYOUT).splitlines() == [
        "zones:",
        "  - {name: door, polygon: [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]}",
        "lines:",
        "  - {name: gate, start: [0.1, 0.5], end: [0.9, 0.5]}",
    ]


def site(folder: Path, zones: str, **files: str) -> list[SourceSpec]:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    path = folder / "site.yaml"
    path.write_text(f"sources: [{{id: gate, uri: 'synthetic:walkers', zones: {zones}}}]")
    return config.load_site(path).specs()


def test_a_source_of_a_sources_file_has_a_zones_file_or_zones(tmp_path):
    (spec,) = site(tmp_path, "door.yaml", door=zones_text(LAYOUT))
    assert (spec.zones, spec.zones_file) == (LAYOUT, str(tmp_path / "door.yaml"))
    (spec,) = site(tmp_path, "{lines: [{name: gate, start: [0.1, 0.5], end: [0.9, 0.5]}]}")
    assert (spec.zones, spec.zones_file) == (ZoneLayout(lines=(GATE,)), "")


@pytest.mark.parametrize(
    ("zones", "words"),
    [
        ("no.yaml", ["sources[0] (of 'gate')", "no.yaml: No such file"]),
        ("door.yaml", ["sources[0] (of 'gate')", "door.yaml: ", "crosses or touches itself"]),
        ("{zones: [{name: door}]}", ["site.yaml", "$.sources[0].zones.zones[0]", "`polygon`"]),
        ("[]", ["site.yaml", "$.sources[0].zones"]),
    ],
)
def test_what_is_wrong_with_zones_of_a_sources_file_is_named(tmp_path, zones, words):
    bad = zone("polygon: [[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.8]]")
    with pytest.raises(StreamvisError) as error:
        site(tmp_path, zones, door=bad)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_metres_of_a_camera_without_a_ground_plane_are_refused_with_their_place(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(
        "sources: [{id: gate, uri: 'rtsp://192.0.2.10/main', zones: {lines: "
        "[{name: kerb, start: [0, 4], end: [6, 4], space: ground}]}}]"
    )
    with pytest.raises(ConfigError, match=r"sources\[0\] \(of 'gate'\): line 'kerb' is in metres"):
        config.load_site(path)
