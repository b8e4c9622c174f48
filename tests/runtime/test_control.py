"""Requests to a run: what each brings about, and that nothing else does."""

import json
import threading
from contextlib import closing, contextmanager

import msgspec
import pytest
import zmq
from controlled_runs import camera, report
from hypothesis import given
from hypothesis import strategies as st

from streamvis.errors import ConfigError, RunError
from streamvis.geometry import Homography
from streamvis.runtime import control
from streamvis.runtime.control import (
    Add,
    Changed,
    Decision,
    GetStatus,
    ListSources,
    Refusal,
    Reload,
    Remove,
    Restart,
    View,
    apply_file,
    handle,
)
from streamvis.runtime.metrics import Status
from streamvis.runtime.protocol import AddSource, RemoveSource, RestartSource
from streamvis.runtime.reconnect import Reconnect
from streamvis.sources.spec import SourceSpec
from streamvis.transport.sockets import private_directory


def movie(name):
    return SourceSpec(id=name, uri=f"{name}.mp4", kind="file")


def view_of(*specs, ended=None, **fields):
    status = Status(wall_s=7.0, sources=[report(spec.id) for spec in specs], stages=[])
    given = {"at": 12.5, "status": status, "specs": {spec.id: spec for spec in specs}}
    return View(**{**given, "ended": ended or {}, **fields})


FOREVER = Reconnect()
RUN = view_of(camera("gate"), camera("yard"), movie("old"), ended={"yard": "failed", "old": "eof"})
NEW = camera("dock", retry_s=8.0, open_s=3.0)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            Add(NEW),
            Decision(
                Changed(added=["dock"]),
                [AddSource("dock", Reconnect(longest_s=8.0, open_s=3.0), 12.5, NEW.label)],
                {"dock": NEW},
            ),
        ),
        (
            Add(movie("film")),
            Decision(
                Changed(added=["film"]),
                [AddSource("film", None, 12.5, movie("film").label)],
                {"film": movie("film")},
            ),
        ),
        (  # the id of one that has ended may be used again, also for another address
            Add(camera("yard", "10.0.0.9")),
            Decision(
                Changed(added=["yard"]),
                [AddSource("yard", FOREVER, 12.5, camera("yard", "10.0.0.9").label)],
                {"yard": camera("yard", "10.0.0.9")},
            ),
        ),
        (Remove("gate"), Decision(Changed(removed=["gate"]), [RemoveSource("gate", 12.5)])),
        (Restart("gate"), Decision(Changed(restarted=["gate"]), [RestartSource("gate", 12.5)])),
        (
            Restart("yard"),
            Decision(
                Changed(restarted=["yard"]),
                [AddSource("yard", FOREVER, 12.5, RUN.specs["yard"].label)],
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
        (Restart("dock"), ["no source 'dock'", "Allowed: gate, yard, old"]),
        (Remove("yard"), ["'yard' has ended already"]),
        (Reload(), ["no sources file", "--sources"]),
    ],
)
def test_a_request_that_cannot_be_met_changes_nothing_and_says_why(request_, words):
    decision = handle(request_, RUN)
    assert decision == Decision(decision.reply)
    assert all(word in decision.reply.message for word in words), decision.reply.message
    assert "s3cret" not in decision.reply.message
    assert "\n" not in decision.reply.message


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
    assert [s.label for s in status.sources] == [
        "rtsp://10.0.0.2/gate",
        "rtsp://10.0.0.2/yard",
        "old.mp4",
    ]
    origins = {"gate": "file"}
    listed = handle(ListSources(), msgspec.structs.replace(RUN, origins=origins)).reply.sources
    assert [(s.id, s.kind, s.origin) for s in listed] == [
        ("gate", "url", "file"),
        ("yard", "url", "start"),
        ("old", "file", "start"),
    ]


# The sources file


def ids(*specs):
    return {spec.id: spec for spec in specs}


def test_the_difference_between_two_files_is_applied():
    gate, moved, gone, kept = camera("gate"), camera("yard", "10.0.0.9"), camera("x"), movie("film")
    view = view_of(gate, camera("yard"), gone, kept, camera("by-hand"))
    before = ids(gate, camera("yard"), gone, kept)
    decision = apply_file(before, ids(gate, moved, kept, NEW), view)
    assert decision.reply == Changed(added=["dock"], removed=["x"], restarted=["yard"])
    assert decision.facts == [
        RestartSource("yard", 12.5),
        AddSource("dock", Reconnect(longest_s=8.0, open_s=3.0), 12.5, NEW.label),
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


@given(st.sets(st.sampled_from("abcde")), st.sets(st.sampled_from("abcde")), st.data())
def test_after_the_difference_the_run_has_what_the_file_lists(before, now, data):
    """Applied to a model of the run: every listed source runs with its settings, no removed one."""
    hosts = st.sampled_from(["10.0.0.2", "10.0.0.3"])
    old = ids(*(camera(name, data.draw(hosts)) for name in sorted(before)))
    new = ids(*(camera(name, data.draw(hosts)) for name in sorted(now)))
    by_hand = camera("by-hand")
    ended = data.draw(st.sets(st.sampled_from(sorted(before)))) if before else set()
    view = view_of(*old.values(), by_hand, ended=dict.fromkeys(ended, "drained"))
    decision = apply_file(old, new, view)
    running = {name: spec for name, spec in view.specs.items() if name not in ended}
    for fact in decision.facts:
        if isinstance(fact, RemoveSource):
            del running[fact.source]
        else:
            assert (fact.source in running) == isinstance(fact, RestartSource)
            running[fact.source] = decision.specs[fact.source]
    assert running == {**new, "by-hand": by_hand}


# Messages


def read(text):
    return control.decode_request([text if isinstance(text, bytes) else json.dumps(text).encode()])


@pytest.mark.parametrize(
    "request_", [GetStatus(), ListSources(), Remove("a"), Restart("b"), Reload(), Add(NEW)]
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
        (b"[" * 60_000, "cannot be read"),
        (b"x" * 70_000, "70000 bytes"),
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
            {"type": st.sampled_from(["status", "sources", "add", "remove", "restart", "reload"])},
            optional={"source": json_values},
        )
        | json_values,
    }
)


@given(st.binary() | requests.map(lambda value: json.dumps(value).encode()))
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


# The socket


class Hub:
    """Serves a control socket as the hub does, and keeps what it was told."""

    def __init__(self, home, **settings):
        self.endpoint = f"ipc://{home}/control"
        self.control = control.Control(self.endpoint, **settings)
        self.view = RUN
        self.facts = []

    def serve(self, seconds=5.0, until=lambda hub: False):
        """Answer what comes within the time; return earlier once `until` is met."""
        while not until(self) and self.control.socket.poll(round(seconds * 1000)):
            for decision in self.control.receive(lambda: self.view):
                self.facts += decision.facts


@contextmanager
def hub(**settings):
    with private_directory() as home:
        served = Hub(home, **settings)
        with closing(served.control):
            yield served


@contextmanager
def dealer(endpoint):
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    try:
        yield socket
    finally:
        socket.close(linger=0)
        context.term()


def answer(socket):
    assert socket.poll(5000), "no answer"
    return control.decode_reply(socket.recv_multipart()[0])


def test_hostile_messages_are_refused_and_counted_and_the_next_request_is_met():
    """Those above 1 MB end the connection of their sender, who connects again."""
    junk = [
        [b""],
        [b"\xff" * 1000],
        [b"x"] * 5000,
        [control.encode_request(Remove("gate"))] * 2,
        [b"[" * 65_000],
        [b"x" * 100_000],
    ]
    with hub() as served, dealer(served.endpoint) as stranger, dealer(served.endpoint) as operator:
        for message in junk:
            stranger.send_multipart(message)
        served.serve(until=lambda hub: hub.control.refused >= len(junk))
        assert served.control.refused == len(junk)
        stranger.send(b"x" * 2**21)
        served.serve(0.1)
        operator.send(control.encode_request(Remove("gate")))
        served.serve(until=lambda hub: hub.facts)
        assert answer(operator) == Changed(removed=["gate"])
        assert served.control.refused == len(junk)
    assert served.facts == [RemoveSource("gate", 12.5)]


def test_a_client_that_reads_no_answers_does_not_fill_the_memory_nor_delay_others():
    with hub() as served, dealer(served.endpoint) as deaf, dealer(served.endpoint) as operator:
        deaf.setsockopt(zmq.RCVHWM, 1)
        for _ in range(500):
            deaf.send(control.encode_request(GetStatus()))
        served.serve(0.1)
        operator.send(control.encode_request(ListSources()))
        thread = threading.Thread(target=served.serve, args=(0.3,))
        thread.start()
        try:
            assert len(answer(operator).sources) == 3
        finally:
            thread.join()


def test_a_client_may_die_before_it_is_answered():
    with hub() as served:
        with dealer(served.endpoint) as dying:
            dying.send(control.encode_request(Remove("gate")))
            assert served.control.socket.poll(5000)
        served.serve(0.1)
        with dealer(served.endpoint) as other:
            other.send(control.encode_request(GetStatus()))
            served.serve(0.2)
            assert answer(other).status.wall_s == 7.0
    assert served.facts == [RemoveSource("gate", 12.5)]


def test_the_file_is_read_again_and_one_with_errors_changes_nothing():
    gate, yard = camera("gate"), camera("yard")
    files = [ConfigError("site.yaml: torn"), ids(gate, NEW), ids(gate)]

    def load_file():
        found = files.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    with hub(load_file=load_file, listed=ids(gate, yard)) as served:
        assert served.control.follows_file
        assert served.control.origins == {"gate": "file", "yard": "file"}
        view = view_of(gate, yard)
        assert served.control.reload(view) == Decision(Refusal("site.yaml: torn"))
        first = served.control.reload(view)
        assert first.reply == Changed(added=["dock"], removed=["yard"])
        view = view_of(gate, NEW, yard, ended={"yard": "drained"})
        assert served.control.reload(view).reply == Changed(removed=["dock"])
