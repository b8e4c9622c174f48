"""Zones of a run that are asked for and changed: what each request brings about, and files."""

import stat

import msgspec
import pytest
from controlled_runs import camera, ids, movie, private_home, view_of

from streamvis.config import Pipeline, StageSpec
from streamvis.config.site import Site
from streamvis.config.zones import given_zones, read_zones, zones_text
from streamvis.runtime import control, control_socket
from streamvis.runtime.control import Add, Changed, Refusal, apply_file, handle
from streamvis.runtime.control_socket import ControlSettings, controlled
from streamvis.runtime.control_zones import (
    ChangeZones,
    KeptZones,
    ListZones,
    ZonesChanged,
    keep,
    revision_of,
)
from streamvis.runtime.protocol import RestartSource, SetZones
from streamvis.sources.spec import SourceSpec
from streamvis.stages.zones import ZoneCounter
from streamvis.synthetic.render import SyntheticScene
from streamvis.zone_layout import Line, Zone, ZoneLayout

TRIANGLE = ((0.1, 0.1), (0.9, 0.1), (0.5, 0.9))
DOOR = ZoneLayout(zones=(Zone(name="door", polygon=TRIANGLE),))
DESK = ZoneLayout(
    zones=(Zone(name="desk", polygon=TRIANGLE),), lines=(Line(name="l", start=(0, 0), end=(1, 1)),)
)
METRES = ZoneLayout(lines=(Line(name="kerb", start=(0, 4), end=(6, 4), space="ground"),))
PLANE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
OWN = camera("own", zones=DOOR, zones_file="/etc/own.yaml")
ONE, TWO = (camera(name, zones=DOOR, zones_file="/etc/both.yaml") for name in ("one", "two"))
INLINE = camera("inline", zones=DOOR)
PLAIN = camera("plain")
RUN = view_of(
    *(OWN, ONE, TWO, INLINE, PLAIN, camera("gone"), camera("leaver")),
    zones=DESK,
    ended={"gone": "failed"},
    leaving={"leaver"},
)


def replaced(spec, **fields):
    return msgspec.structs.replace(spec, **fields)


def test_zones_of_a_source_are_set_and_kept_in_the_file_that_is_its_own():
    decision = handle(ChangeZones("own", DESK), RUN)
    assert decision.facts == [SetZones("own", DESK, 12.5)]
    assert decision.specs == {"own": replaced(OWN, zones=DESK)}
    assert decision.keep == KeptZones("/etc/own.yaml", DESK)
    assert decision.reply == ZonesChanged(
        source="own", zones=1, lines=1, file="/etc/own.yaml", revision=revision_of(DESK)
    )
    assert str(decision.reply) == "source 'own' has 1 zone and 1 line, kept in /etc/own.yaml"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("one", "/etc/both.yaml is of two too"),
        ("inline", "no zones file, its own zones are in the sources file"),
        ("plain", "no zones file, its own zones are the pipeline's"),
    ],
)
def test_zones_that_no_file_can_keep_are_set_and_the_reply_says_why(name, why):
    decision = handle(ChangeZones(name, ZoneLayout()), RUN)
    assert decision.facts == [SetZones(name, ZoneLayout(), 12.5)]
    assert decision.keep is None
    assert f"0 zones and 0 lines, until the run ends: {why}" in str(decision.reply).replace(
        "it has ", ""
    )


@pytest.mark.parametrize(
    ("name", "layout", "words"),
    [
        ("onw", DOOR, ["no source 'onw'", "did you mean own"]),
        ("gone", DOOR, ["'gone' has ended already"]),
        ("leaver", DOOR, ["'leaver' is being removed"]),
        ("plain", METRES, ["'plain'", "line 'kerb' is in metres", "streamvis calibrate"]),
    ],
)
def test_zones_that_cannot_be_set_change_nothing(name, layout, words):
    decision = handle(ChangeZones(name, layout), RUN)
    assert isinstance(decision.reply, Refusal)
    assert all(word in decision.reply.message for word in words), decision.reply.message
    assert (decision.facts, decision.specs, decision.keep) == ([], {}, None)


def test_a_run_without_a_stage_that_counts_has_no_zones():
    run = view_of(PLAIN)
    for request in (ChangeZones("plain", DOOR), ListZones(), Add(INLINE)):
        decision = handle(request, run)
        assert isinstance(decision.reply, Refusal)
        assert "kind `zones`" in decision.reply.message
        assert not decision.facts


def test_an_added_source_has_its_zones_or_those_of_the_pipeline():
    for spec, zones in [(replaced(INLINE, id="new"), DOOR), (camera("new"), DESK)]:
        (fact,) = handle(Add(spec), RUN).facts
        assert fact.zones == zones
    refused = handle(Add(camera("new", zones=METRES)), RUN)
    assert "'kerb' is in metres" in refused.reply.message


def test_the_list_has_the_zones_of_each_source_and_where_they_are_from():
    specs = (OWN, INLINE, PLAIN, camera("gone"))
    run = view_of(*specs, zones=DESK, ended={"gone": "eof"}, unkept={"inline"})
    listed = handle(ListZones(), run).reply.sources
    assert [(one.id, one.origin, one.layout) for one in listed] == [
        ("own", "/etc/own.yaml", DOOR),
        ("inline", "set", DOOR),
        ("plain", "pipeline", DESK),
    ]
    assert [one.revision for one in listed] == [revision_of(one.layout) for one in listed]
    assert [bool(one.lost) for one in listed] == [False, True, True]


def test_the_list_has_the_ground_planes_that_are_known():
    scene = SourceSpec(id="scene", uri="synthetic:walkers?size=320x240", kind="synthetic")
    wrong = replaced(scene, id="wrong", uri="synthetic:walkers?size=0")
    run = view_of(replaced(PLAIN, ground_plane=PLANE), OWN, scene, wrong, zones=DESK)
    plain, own, made, without = (one.ground_plane for one in handle(ListZones(), run).reply.sources)
    assert (plain, own, without) == (PLANE, None, None)
    assert made == SyntheticScene(size=(320, 240)).homography


def test_zones_replace_only_those_that_are_expected():
    expected = revision_of(DOOR)
    assert revision_of(ZoneLayout(zones=DOOR.zones)) == expected != revision_of(DESK)
    changed = handle(ChangeZones("own", DESK, expected), RUN)
    assert changed.keep == KeptZones("/etc/own.yaml", DESK, DOOR)
    refused = handle(ChangeZones("own", ZoneLayout(), revision_of(DESK)), RUN)
    assert refused.reply.newer
    assert "it has 1 zone and 0 lines now" in refused.reply.message
    assert not refused.facts
    assert handle(ChangeZones("plain", DOOR, revision_of(DESK)), RUN).facts  # the pipeline's
    assert handle(ChangeZones("own", DOOR, revision_of(DESK)), RUN).facts  # they are in force


def test_a_zones_file_that_was_edited_is_not_replaced(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(edited := "zones: []  # mine")
    assert "was edited since" in keep(KeptZones(str(path), DESK, DOOR))
    assert path.read_text() == edited
    path.write_text(broken := "zones: [")
    assert "has an error" in keep(KeptZones(str(path), DESK, DOOR))
    assert path.read_text() == broken
    assert keep(KeptZones(str(path), DESK)) == ""
    assert keep(KeptZones(str(path), DOOR, DESK)) == ""
    path.unlink()
    assert keep(KeptZones(str(path), DESK, DOOR)) == ""
    assert read_zones(path) == DESK


def test_other_zones_in_the_sources_file_restart_no_source():
    film = movie("film")
    before = ids(OWN, INLINE, PLAIN, film)
    now = ids(
        replaced(OWN, zones=DESK),
        replaced(INLINE, zones=None),
        PLAIN,
        replaced(film, zones=DOOR, zones_file="/f"),
    )
    decision = apply_file(before, now, view_of(*before.values(), zones=DESK))
    assert decision.facts == [
        SetZones("own", DESK, 12.5),
        SetZones("inline", DESK, 12.5),  # those of the pipeline
        SetZones("film", DOOR, 12.5),
    ]
    assert decision.specs == {name: now[name] for name in ("own", "inline", "film")}
    assert decision.reply == Changed(zones=["own", "inline", "film"])
    assert str(decision.reply) == "other zones for own, inline, film"


def test_a_source_with_other_zones_and_other_settings_is_restarted_with_them():
    now = replaced(OWN, zones=DESK, read_s=9.0)
    decision = apply_file(ids(OWN), ids(now), view_of(OWN, zones=DESK))
    assert [type(fact) for fact in decision.facts] == [RestartSource, SetZones]
    assert decision.reply == Changed(restarted=["own"])


def test_zones_that_moved_to_another_file_are_no_change():
    now = replaced(OWN, zones_file="/etc/new.yaml")
    decision = apply_file(ids(OWN), ids(now), view_of(OWN, zones=DESK))
    assert (decision.facts, decision.reply) == ([], Changed())
    assert decision.specs == {"own": now}


def test_requests_and_replies_survive_the_wire():
    for request in (ListZones(), ChangeZones("own", DESK)):
        assert control.decode_request([control.encode_request(request)]) == request
    for reply in (handle(ListZones(), RUN).reply, handle(ChangeZones("own", DESK), RUN).reply):
        assert control.decode_reply(control.encode_reply(reply)) == reply


def test_wrong_zones_on_the_wire_are_refused_in_one_line():
    crossed = [[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.8]]
    request = {"type": "set_zones", "source": "own", "layout": {"zones": [{"name": "a"}]}}
    request["layout"]["zones"][0]["polygon"] = crossed
    message = msgspec.json.encode({"version": 1, "request": request})
    refusal = control.decode_request([message])
    assert isinstance(refusal, Refusal)
    assert "zone 'a' crosses" in refusal.message
    assert "\n" not in refusal.message


def test_a_zones_file_is_replaced_as_a_whole_and_keeps_its_mode_and_its_link(tmp_path):
    real, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    real.write_text("# mine\n" + zones_text(DOOR))
    real.chmod(0o640)
    link.symlink_to(real)
    keep(KeptZones(str(link), DESK))
    assert read_zones(real) == DESK
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.yaml", "real.yaml"]


def test_a_file_that_has_the_zones_already_keeps_its_comments(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(text := "# mine\n" + zones_text(DOOR))
    keep(KeptZones(str(path), DOOR))
    assert path.read_text() == text


def test_a_file_that_cannot_be_written_stays_and_is_named(tmp_path):
    (tmp_path / "dir").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        keep(KeptZones(str(tmp_path / "dir"), DOOR))
    with pytest.raises(FileNotFoundError):
        keep(KeptZones(str(tmp_path / "no" / "own.yaml"), DOOR))
    assert [path.name for path in tmp_path.iterdir()] == ["dir"]


def test_zones_of_the_command_line_count_also_when_the_sources_file_is_read_again(
    tmp_path, monkeypatch
):
    """One for a source that is not in the file counts for none of it."""
    own, all_ = tmp_path / "own.yaml", tmp_path / "all.yaml"
    own.write_text(zones_text(DESK))
    all_.write_text(zones_text(DOOR))
    site = Site(tmp_path / "site.yaml", (camera("own"), camera("plain")))
    monkeypatch.setattr(control_socket, "load_site", lambda path: site)
    counting = Pipeline((StageSpec(name="zones", run=ZoneCounter()),))
    given = given_zones([f"own={own}", f"film={own}", str(all_)])
    settings = ControlSettings(site=site, zones=tuple(given))
    before = ids(camera("own"), camera("plain"))
    with private_home(), controlled(settings, None, counting) as opened:
        for metres in (False, True):
            if metres:
                all_.write_text(zones_text(METRES))
            opened.ask_reload()
            (decision,) = opened.decisions(lambda: view_of(*before.values(), zones=ZoneLayout()))
            if metres:
                assert "'plain': line 'kerb' is in metres" in decision.reply.message
            else:
                assert decision.facts == [
                    SetZones("own", DESK, 12.5),
                    SetZones("plain", DOOR, 12.5),
                ]
                assert decision.specs["plain"].zones_file == str(all_)
