"""Requests to a run: what each brings about, and that nothing else does."""

import json

import msgspec
import pytest
from controlled_runs import NEW, RUN, camera, ids, movie, view_of
from hypothesis import example, given
from hypothesis import strategies as st

from streamvis.errors import RunError
from streamvis.geometry import Homography
from streamvis.runtime import control
from streamvis.runtime.control import (
    Add,
    Changed,
    Decision,
    GetPicture,
    GetStatus,
    ListSources,
    Refusal,
    Reload,
    Remove,
    Restart,
    apply_file,
    handle,
    late,
)
from streamvis.runtime.protocol import AddSource, RemoveSource, RestartSource
from streamvis.runtime.reconnect import reconnect_of
from streamvis.sources.shard import Shard, shard_of
from streamvis.sources.spec import SourceSpec

FOREVER = reconnect_of(camera("any"))


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            Add(NEW),
            Decision(
                Changed(added=["dock"]),
                [AddSource("dock", reconnect_of(NEW), 12.5, NEW.label)],
                {"dock": NEW},
            ),
        ),
        (
            Add(movie("new")),
            Decision(
                Changed(added=["new"]),
                [AddSource("new", None, 12.5, "new.mp4")],
                {"new": movie("new")},
            ),
        ),
        (  # the id of one that has ended may be used again, also for another address
            Add(camera("yard", "10.0.0.9")),
            Decision(
                Changed(added=["yard"]),
                [AddSource("yard", FOREVER, 12.5, "rtsp://10.0.0.9/yard")],
                {"yard": camera("yard", "10.0.0.9")},
            ),
        ),
        (Remove("gate"), Decision(Changed(removed=["gate"]), [RemoveSource("gate", 12.5)])),
        (Restart("gate"), Decision(Changed(restarted=["gate"]), [RestartSource("gate", 12.5)])),
        (
            Restart("yard"),
            Decision(
                Changed(restarted=["yard"]),
                [AddSource("yard", FOREVER, 12.5, "rtsp://10.0.0.2/yard")],
            ),
        ),
    ],
)
def test_a_request_that_can_be_met_changes_what_it_names(request_, expected):
    assert handle(request_, RUN) == expected


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Add(camera("gate")), ["'gate' already", "rtsp://10.0.0.2/gate", "remove it first"]),
        (Add(camera("../../etc")), ["'../../etc'", "a-z"]),
        (Add(camera("a\nb")), ["'a?b'"]),
        (Add(camera("dock", read_s=0.0)), ["read_s is 0.0", "above 0"]),
        (Add(camera("dock", open_s=-1.0)), ["open_s is -1.0"]),
        (Add(camera("dock", retry_s=-5.0)), ["retry_s is -5.0", "0 or more"]),
        (Add(SourceSpec(id="dock", uri="", kind="url")), ["no uri"]),
        (Remove("gaet"), ["no source 'gaet'", "did you mean gate?", "yard"]),
        (Restart("dock"), ["no source 'dock'", "Allowed: gate, yard, leaver, film, old"]),
        (Remove("yard"), ["'yard' has ended already"]),
        (Restart("film"), ["'film' is a recording", "remove and add it"]),
        (Remove("leaver"), ["'leaver' is being removed"]),
        (Restart("leaver"), ["'leaver' is being removed"]),
        (Reload(), ["no sources file", "--sources"]),
        (GetPicture("gaet"), ["no source 'gaet'", "did you mean gate?"]),
        (GetPicture("yard"), ["'yard' has no picture now"]),
    ],
)
def test_a_request_that_cannot_be_met_changes_nothing_and_says_why(request_, words):
    decision = handle(request_, RUN)
    assert decision == Decision(decision.reply)
    assert all(word in decision.reply.message for word in words), decision.reply.message
    assert "s3cret" not in decision.reply.message
    assert "\n" not in decision.reply.message


def test_a_picture_of_a_source_that_is_online_is_asked_for_and_answered_later():
    view = msgspec.structs.replace(RUN, online={"gate"})
    assert handle(GetPicture("gate"), view) == Decision(None, picture_of="gate")


@pytest.mark.parametrize("request_", [Add(NEW), Restart("gate"), Restart("yard")])
def test_no_source_joins_a_run_that_is_about_to_end(request_):
    decision = handle(request_, msgspec.structs.replace(RUN, draining=True))
    assert decision == Decision(Refusal(decision.reply.message))
    assert "about to end" in decision.reply.message


def test_a_run_that_gives_up_gives_up_on_added_sources_too():
    (fact,) = handle(Add(NEW), msgspec.structs.replace(RUN, give_up_s=60.0)).facts
    assert fact.reconnect.give_up_s == 60.0


def test_the_status_and_the_list_name_sources_that_were_never_open_without_passwords():
    status = handle(GetStatus(), RUN).reply.status
    labels = [spec.label for spec in RUN.specs.values()]
    assert [s.label for s in status.sources] == labels
    assert labels[0] == "rtsp://10.0.0.2/gate"
    origins = {"gate": "file", "yard": "added"}
    listed = handle(ListSources(), msgspec.structs.replace(RUN, origins=origins)).reply.sources
    assert [(s.id, s.kind, s.origin) for s in listed[:2] + listed[-1:]] == [
        ("gate", "url", "file"),
        ("yard", "url", "added"),
        ("old", "file", "start"),
    ]


# The sources file


def test_the_difference_between_two_files_is_applied():
    gate, moved, gone, kept = camera("gate"), camera("yard", "10.0.0.9"), camera("x"), movie("film")
    view = view_of(gate, camera("yard"), gone, kept, camera("by-hand"))
    before = ids(gate, camera("yard"), gone, kept)
    decision = apply_file(before, ids(gate, moved, kept, NEW), view)
    assert decision.reply == Changed(added=["dock"], removed=["x"], restarted=["yard"])
    assert decision.facts == [
        RestartSource("yard", 12.5, FOREVER, "rtsp://10.0.0.9/yard"),
        AddSource("dock", reconnect_of(NEW), 12.5, NEW.label),
        RemoveSource("x", 12.5),
    ]
    assert decision.specs == ids(moved, NEW)


def test_a_source_of_the_file_that_was_removed_or_has_failed_comes_back():
    gate, yard, film = camera("gate"), camera("yard"), movie("film")
    view = view_of(gate, yard, film, ended={"gate": "drained", "yard": "failed", "film": "eof"})
    file = ids(gate, yard, film)
    assert apply_file(file, file, view).reply == Changed(added=["gate", "yard"])
    other = movie("film").__class__(id="film", uri="other.mp4", kind="file")
    assert apply_file(file, ids(gate, yard, other), view).reply.added == ["gate", "yard", "film"]


def test_a_source_whose_id_is_still_in_use_is_added_later():
    """One that is being removed, and one that becomes something else than a connection."""
    film = SourceSpec(id="yard", uri="yard.mp4", kind="file")
    view = view_of(camera("gate"), camera("yard"), leaving={"gate"})
    file = ids(camera("gate"), camera("yard"))
    assert handle(Add(camera("gate")), view).later == ids(camera("gate"))
    decision = apply_file(file, ids(camera("gate"), film), view)
    assert decision.reply == Changed(added=["gate"], restarted=["yard"])
    assert decision.facts == [RemoveSource("yard", 12.5)]
    assert decision.later == ids(camera("gate"), film)
    assert late(decision.later, view) == Decision(Changed())
    over = msgspec.structs.replace(view, ended={"gate": "drained"}, leaving={"yard"})
    begun = late(decision.later, over)
    assert [type(fact) for fact in begun.facts] == [AddSource]
    assert begun.specs == ids(camera("gate"))


SPECS = st.sampled_from([camera("x"), camera("x", "10.0.0.3"), movie("x")])
FILES = st.dictionaries(st.sampled_from("abcde"), SPECS).map(
    lambda specs: {n: msgspec.structs.replace(spec, id=n) for n, spec in specs.items()}
)


@given(FILES, FILES, st.data())
def test_after_the_difference_the_run_has_what_the_file_lists(before, now, data):
    """Applied to a model of the run: every listed source runs with its settings, no removed one."""
    by_hand = camera("by-hand")
    states = st.sampled_from(["running", "leaving", "drained", "failed", "eof"])
    state = {name: data.draw(states) for name in before}
    ended = {name: how for name, how in state.items() if how in ("drained", "failed", "eof")}
    leaving = {name for name, how in state.items() if how == "leaving"}
    view = view_of(*before.values(), by_hand, ended=ended, leaving=leaving)
    decision = apply_file(before, now, view)
    running = {n: spec for n, spec in view.specs.items() if n not in ended}
    for fact in decision.facts:
        match fact:
            case RemoveSource(name):
                assert name not in leaving
                del running[name]
            case AddSource(name) | RestartSource(name):
                assert (name in running) == isinstance(fact, RestartSource)
                running[name] = decision.specs[name]
    for name in leaving:
        del running[name]
    assert not running.keys() & decision.later.keys()
    running |= decision.later
    played = {n for n, spec in now.items() if ended.get(n) == "eof" and spec == before[n]}
    assert running == {n: spec for n, spec in now.items() if n not in played} | ids(by_hand)


# Messages


def read(text):
    return control.decode_request([text if isinstance(text, bytes) else json.dumps(text).encode()])


@pytest.mark.parametrize(
    "request_",
    [GetStatus(), ListSources(), Remove("a"), Restart("b"), Reload(), Add(NEW), GetPicture("a")],
)
def test_requests_survive_the_wire(request_):
    assert control.decode_request([control.encode_request(request_)]) == request_


def test_all_settings_of_a_source_survive_the_wire():
    plane: Homography = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    spec = SourceSpec(
        id="gate",
        uri="rtsp://host/ä",
        kind="url",
        fps=12.5,
        options={"rtsp_transport": "tcp"},
        start="container",
        ground_plane=plane,
    )
    (back,) = [control.decode_request([control.encode_request(Add(spec))]).source]
    assert msgspec.structs.replace(back, ground_plane=None) == msgspec.structs.replace(
        spec, ground_plane=None
    )
    assert list(back.ground_plane) == list(plane)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"", "cannot be read"),
        (b"\xff" * 1000, "cannot be read"),
        (b"[" * 500_000, "cannot be read"),
        (b"x" * 600_000, "600000 bytes"),
        ({"version": 2, "request": {"type": "new"}}, "version 2"),
        ({"version": 1, "request": {"type": "explode"}}, "explode"),
        ({"version": 1, "request": {"type": "remove", "source": 7}}, "Expected `str`"),
        ({"version": 1, "request": {"type": "remove", "source": "a", "force": True}}, "force"),
        ({"request": {"type": "status"}}, "version"),
        ({"version": 1, "request": {"type": "add", "source": {"id": "a", "uri": "b"}}}, "kind"),
    ],
)
def test_what_is_no_request_is_refused_with_a_reason(message, words):
    refusal = read(message)
    assert isinstance(refusal, Refusal)
    assert words in refusal.message


def test_a_message_of_several_parts_is_refused():
    assert "3 parts" in control.decode_request([b"{}"] * 3).message
    assert isinstance(control.decode_request([]), Refusal)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
requests = st.fixed_dictionaries(
    {
        "version": st.just(1) | json_values,
        "request": st.fixed_dictionaries(
            {
                "type": st.sampled_from(
                    ["status", "sources", "add", "remove", "restart", "reload", "picture"]
                )
            },
            optional={"source": json_values},
        )
        | json_values,
    }
)


@given(st.binary() | requests.map(lambda value: json.dumps(value).encode()))
@example(b'{"version":1,"request":{"type":"\xff"}}')  # no UTF-8 in a string
def test_no_message_crashes_and_only_known_sources_are_changed(message):
    request = control.decode_request([message])
    if not isinstance(request, Refusal):
        decision = handle(request, RUN)
        assert control.decode_reply(control.encode_reply(decision.reply)) == decision.reply
        touched = {fact.source for fact in decision.facts}
        assert touched <= {"gate", "yard", "old"}
        assert not decision.specs


def test_a_reply_that_cannot_be_read_is_a_fault_of_the_run():
    with pytest.raises(RunError, match="answer"):
        control.decode_reply(b"{}")


def test_a_source_of_another_shard_is_refused_and_the_right_one_named():
    right = shard_of("dock", 3)
    wrong = right % 3 + 1
    refusal = control.handle(control.Add(NEW), view_of(shard=Shard(wrong, 3)))
    assert not refusal.facts
    assert refusal.reply.message == (
        f"source 'dock' is of shard {right}/3, and this run has shard {wrong}/3; add it to the run "
        f"with --shard {right}/3"
    )
    view = view_of(shard=Shard(right, 3))
    assert control.handle(control.Add(NEW), view).reply == control.Changed(added=["dock"])
