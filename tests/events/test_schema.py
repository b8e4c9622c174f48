"""The JSON Schema of events, checked by a validator that is not of this project."""

import json

import pytest
from events.schemas import FIRST, bare, definition, members_of, mismatch, validator
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec import defstruct
from typer.testing import CliRunner

from streamvis.cli.main import app
from streamvis.errors import UsageError
from streamvis.events.codec import tag_of
from streamvis.events.envelope import Event
from streamvis.events.schema import ID, json_schema, meanings_of, split_unit, structs_of
from streamvis.stages import event_codec

CODEC = event_codec()
SCHEMA = json.loads(json.dumps(CODEC.json_schema()))
OLD, NEW = members_of(FIRST), members_of(bare(SCHEMA))


def printed(*words):
    return CliRunner().invoke(app, ["events", "schema", *words])


def test_it_is_a_json_schema_of_2020():
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"] == ID == "urn:streamvis:event:1.0"


def test_the_command_prints_it():
    assert json.loads(printed().stdout) == SCHEMA


@pytest.mark.parametrize("kind", CODEC.types, ids=tag_of)
def test_the_schema_of_a_type_accepts_that_type_alone(kind, fixtures):
    name = tag_of(kind)
    check = validator(json.loads(printed("--type", name).stdout))
    for other, value in fixtures.items():
        assert check.is_valid(value) == (other == name)


def test_the_schema_of_a_family_accepts_its_types(fixtures):
    check = validator(json.loads(printed("--type", "unknown", "--type", "hb").stdout))
    accepted = {name for name, value in fixtures.items() if check.is_valid(value)}
    assert accepted == {"unknown.begin", "unknown.end", "hb"}


def test_an_unknown_type_is_refused_with_its_neighbours():
    with pytest.raises(UsageError, match=r"--type track\.ends: no such .* mean track\.end"):
        CODEC.json_schema("track.ends")
    assert printed("--type", "nothing").exit_code == 2


def test_every_type_and_member_is_described():
    for kind in structs_of((Event, *CODEC.types)):
        part = SCHEMA["$defs"][kind.cls.__name__]
        members = {name: rule for name, rule in part["properties"].items() if name != "type"}
        assert part["description"]
        assert [name for name, rule in members.items() if "description" not in rule] == []


def test_a_member_states_its_unit():
    track = SCHEMA["$defs"]["Track"]["properties"]
    assert track["vel_px_s"]["description"] == "velocity of the foot point; unit: px/s"
    assert SCHEMA["$defs"]["FrameRef"]["properties"]["w"]["description"] == "width; unit: px"


@pytest.mark.parametrize(
    ("name", "comment", "expected"),
    [
        ("since_us", "media time", ("µs", "media time")),
        ("speed_m_s", "", ("m/s", "")),
        ("w", "px; width", ("px", "width")),
        ("w", "px", ("px", "")),
        ("label", "pxx; what", ("", "pxx; what")),
    ],
)
def test_units(name, comment, expected):
    assert split_unit(name, comment) == expected


def test_a_type_without_its_source_has_no_meanings():
    assert meanings_of(type("Made", (), {})) == {}


def test_structs_of_one_name_are_both_described():
    """A package may call a struct of its events like one of streamvis."""
    inner = defstruct("Track", [("age_s", float)], module="other")
    body = defstruct("Seen", [("seen", inner)], module="other", tag_field="type", tag="seen.now")
    parts = json_schema([*CODEC.types, body])["$defs"]
    assert parts["other.Track"]["properties"]["age_s"]["description"] == "unit: s"
    own = parts["streamvis.stages.track.events.Track"]["properties"]["age_s"]["description"]
    assert own == "time since `first_seen_us`; unit: s"


def test_the_schema_of_nothing_is_that_of_the_envelope_alone():
    assert set(json_schema([])["$defs"]) == {
        *("Event", "FrameRef", "Provenance", "StageRun", "Time")
    }


# What a client of the first release relies on


@pytest.mark.parametrize("name", sorted(name for name in OLD if "/" not in name))
def test_members_of_the_first_release_are_still_there_with_their_types(name):
    mine = [one for one in OLD if one == name or one.startswith(f"{name}/")]
    assert len(mine) > 10
    found = {one: mismatch(OLD[one], NEW.get(one)) for one in mine}
    assert {one: fault for one, fault in found.items() if fault} == {}


@given(st.sampled_from(sorted(name for name in OLD if "/" in name)))
def test_a_member_that_is_removed_or_has_another_type_is_noticed(name):
    old, new = OLD[name], NEW[name]
    assert mismatch(old, None)
    assert mismatch(old, {**new, "types": {"fraction"}})
    assert mismatch({**old, "required": True}, {**new, "required": False})


def test_the_schema_of_the_first_release_accepts_new_events(fixtures):
    types = {name.partition("/")[0] for name in OLD}
    known, envelope = validator(FIRST), validator(definition(FIRST, "Event"))
    for name, value in fixtures.items():
        (known if name in types else envelope).validate(value)
    assert len(types) > 20
