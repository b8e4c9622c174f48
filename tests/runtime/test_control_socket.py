"""The control socket: clients that are hostile, deaf or dying, and the sources file."""

import threading
from contextlib import ExitStack, closing, contextmanager

import msgspec
import zmq
from controlled_runs import NEW, RUN, camera, ids, picture, view_of
from waiting import PATIENCE_S

from streamvis.errors import ConfigError
from streamvis.runtime import control
from streamvis.runtime.control import (
    Add,
    Changed,
    Decision,
    GetPicture,
    GetStatus,
    ListSources,
    Refusal,
    Remove,
)
from streamvis.runtime.control_socket import MOST_WAITING, Control
from streamvis.runtime.protocol import AddSource, RemoveSource
from streamvis.transport.sockets import private_directory


class Hub:
    """Serves a control socket as the hub does, and keeps what it was told."""

    def __init__(self, home, **settings):
        self.endpoint = f"ipc://{home}/control"
        self.control = Control(self.endpoint, **settings)
        self.view = RUN
        self.facts = []
        self.pictures_of = 0

    def serve(self, seconds=5.0, until=lambda hub: False):
        """Answer what comes within the time; return earlier once `until` is met."""
        while not until(self) and self.control.socket.poll(round(seconds * 1000)):
            for decision in self.control.decisions(lambda: self.view):
                self.facts += decision.facts
                self.pictures_of += decision.picture_of is not None


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
    assert socket.poll(1000 * PATIENCE_S), "no answer"
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
            assert len(answer(operator).sources) == 5
        finally:
            thread.join()


def test_a_client_may_die_before_it_is_answered():
    with hub() as served:
        with dealer(served.endpoint) as dying:
            dying.send(control.encode_request(Remove("gate")))
            assert served.control.socket.poll(1000 * PATIENCE_S)
        served.serve(0.1)
        with dealer(served.endpoint) as other:
            other.send(control.encode_request(GetStatus()))
            served.serve(0.2)
            assert answer(other).status.wall_s == 7.0
    assert served.facts == [RemoveSource("gate", 12.5)]


def test_a_picture_goes_once_to_each_client_that_waits_for_one_of_its_source():
    taken, other = picture("gate"), picture("film", 0)
    with hub() as served, ExitStack() as opened:
        served.view = msgspec.structs.replace(RUN, online={"gate", "film"})
        clients = [opened.enter_context(dealer(served.endpoint)) for _ in range(MOST_WAITING + 1)]
        for client in clients:  # one after another
            for _ in range(2):
                client.send(control.encode_request(GetPicture("gate")))
            asked = served.pictures_of
            served.serve(until=lambda hub, asked=asked: hub.pictures_of == asked + 2)
        for sent in (other, taken, taken):
            served.control.answer_picture(sent)
        for client in clients[1:]:
            assert answer(client) == taken
        clients[0].send(control.encode_request(GetPicture("dock")))
        served.serve(0.2)
        assert isinstance(answer(clients[0]), Refusal)  # the first to wait was one too many
        assert not any(client.poll(0) for client in clients)


def test_a_client_gets_as_many_pictures_as_it_asked_for():
    with hub() as served, dealer(served.endpoint) as one, dealer(served.endpoint) as two:
        served.view = msgspec.structs.replace(RUN, online={"gate"})
        for client, count in ((one, 1), (two, 2), (two, 1)):
            client.send(control.encode_request(GetPicture("gate", count)))
        served.serve(until=lambda hub: hub.pictures_of == 3)
        for n in range(3):
            served.control.answer_picture(picture("gate", n))
        assert [answer(client).n for client in (one, two, two)] == [0, 0, 1]
        two.send(control.encode_request(GetPicture("gate", 3)))
        served.serve(0.2)
        assert "count" in answer(two).message
        assert not one.poll(0)


def test_the_file_is_read_again_and_one_with_errors_changes_nothing(capsys):
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
        assert list(served.control.decisions(lambda: view_of(gate, yard))) == []
        assert reloaded(served, view_of(gate, yard)) == [Decision(Refusal("site.yaml: torn"))]
        (first,) = reloaded(served, view_of(gate, yard))
        assert first.reply == Changed(added=["dock"], removed=["yard"])
        view = view_of(gate, NEW, yard, ended={"yard": "drained"})
        (second,) = reloaded(served, view)
        assert second.reply == Changed(removed=["dock"])
    torn, *applied = capsys.readouterr().err.splitlines()
    assert "site.yaml: torn" in torn
    assert ["added dock; removed yard" in applied[0], "removed dock" in applied[1]] == [True, True]


def reloaded(served, view):
    """The decisions after a signal that asks for the file to be read again."""
    served.control.ask_reload()
    return list(served.control.decisions(lambda: view))


def test_a_source_that_is_added_again_at_once_begins_when_the_former_has_ended():
    with hub() as served, dealer(served.endpoint) as operator:
        served.view = view_of(camera("gate"), leaving={"gate"})
        operator.send(control.encode_request(Add(camera("gate"))))
        served.serve(0.2)
        assert answer(operator) == Changed(added=["gate"])
        assert served.facts == []
        assert served.control.origins == {"gate": "added"}
        ended = view_of(camera("gate"), ended={"gate": "drained"})
        (decision,) = served.control.decisions(lambda: ended)
        assert [type(fact) for fact in decision.facts] == [AddSource]
        assert list(served.control.decisions(lambda: ended)) == []


def test_a_source_that_has_yet_to_begin_is_removed():
    with hub() as served, dealer(served.endpoint) as operator:
        served.view = view_of(camera("gate"), leaving={"gate"})
        for request in (Add(camera("gate")), Remove("gate"), Remove("gate")):
            operator.send(control.encode_request(request))
            served.serve(0.2)
        assert answer(operator) == Changed(added=["gate"])
        assert answer(operator) == Changed(removed=["gate"])
        assert "is being removed" in answer(operator).message
        ended = view_of(camera("gate"), ended={"gate": "drained"})
        assert list(served.control.decisions(lambda: ended)) == []
