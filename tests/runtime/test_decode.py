"""The messages between a decode process and the hub, with the test as the hub."""

import threading
import time

import numpy as np
import pytest
import toys

from streamvis.messages import Frame
from streamvis.runtime import protocol
from streamvis.runtime.decode import Decode
from streamvis.runtime.gaps import Gap
from streamvis.runtime.latest_frame import LatestFrame
from streamvis.sources.spec import SourceSpec
from streamvis.transport.slots import Segment, SlotReader, SlotWriter
from streamvis.transport.sockets import Client, Server, private_directory

SIZE = toys.WIDTH * toys.HEIGHT * 3


class Hub:
    """Asks and listens, one message at a time."""

    def __init__(self, server, source):
        self.source = source
        self._server = server
        self._heard = []

    def say(self, message):
        assert self._server.send(b"decode", [protocol.encode(message)])

    def hear(self):
        while not self._heard:
            assert self._server.socket.poll(10_000), "decode says nothing"
            self._heard += [frames[0] for _, frames in self._server.receive()]
        return protocol.decode_from_process(self._heard.pop(0))

    def silent(self):
        return not self._heard and not self._server.socket.poll(50)


@pytest.fixture
def talk(tmp_path):
    """Starts decoding a toy in a thread; gives the hub's side and a reader of slots."""
    with private_directory() as home:
        endpoint = f"ipc://{home}/hub"
        server = Server(endpoint)
        threads, reader, writer = [], SlotReader(tmp_path), SlotWriter(tmp_path)

        def start(frames, after_n=-1, **options):
            options = {key: str(value) for key, value in options.items()}
            spec = SourceSpec(id="a", uri=f"toy:{frames}", kind="file", options=options)

            source = toys.open_toy(spec)

            def decode():
                client = Client(endpoint, b"decode")
                one = Decode(client, source, writer)
                if source.info.live:
                    newest = LatestFrame(source)
                    one.live(newest)
                    assert newest.close(10.0)
                else:
                    one.file(after_n)
                client.close()

            threads.append(threading.Thread(target=decode))
            threads[-1].start()
            return Hub(server, source), reader

        yield start
        server.send(b"decode", [protocol.encode(protocol.Stop())])
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        server.close()
        reader.close()
        writer.close()


@pytest.fixture
def segment(tmp_path):
    segment = Segment(3, SIZE, "a test", tmp_path)
    yield segment
    segment.close()


def picture(reader, decoded_frame):
    frame = Frame(
        source="a",
        seq=0,
        n=0,
        media_us=0,
        width=decoded_frame.width,
        height=decoded_frame.height,
        slot=decoded_frame.slot,
    )
    return reader(frame)


def test_a_file_is_sent_picture_by_picture_to_the_last_one(talk, segment):
    hub, reader = talk(5)
    assert hub.hear().info.frames == 5
    for n in range(5):
        assert hub.silent()  # no slot, no picture
        hub.say(protocol.SlotGrant(segment.slots[n % 3 :][:1], SIZE))
        decoded_frame = hub.hear()
        assert (decoded_frame.n, decoded_frame.media_us, decoded_frame.slot) == (
            n,
            n * 40_000,
            segment.slots[n % 3],
        )
        np.testing.assert_array_equal(picture(reader, decoded_frame), n)
    assert hub.hear() == protocol.SourceEnded("eof", 0)


def test_a_file_continues_where_its_predecessor_stopped(talk, segment):
    hub, _ = talk(6, after_n=3, jump=2)
    hub.hear()
    hub.say(protocol.SlotGrant(segment.slots, SIZE))
    first, second = hub.hear(), hub.hear()
    assert (first.n, first.gaps, first.errors) == (4, [], 1)  # the gap at 2 was told before
    assert second.n == 5
    assert hub.hear() == protocol.SourceEnded("eof", 1)


def test_pictures_that_could_not_be_decoded_are_reported_with_the_next(talk, segment):
    hub, _ = talk(3, jump=1)
    hub.hear()
    hub.say(protocol.SlotGrant(segment.slots, SIZE))
    assert hub.hear().gaps == []
    assert hub.hear().gaps == [Gap("decode", 1, 1, 1)]


def test_larger_pictures_need_larger_slots(talk, segment, tmp_path):
    hub, reader = talk(2, grow=1)
    hub.hear()
    hub.say(protocol.SlotGrant(segment.slots, SIZE))
    hub.hear()
    assert hub.hear() == protocol.SizeChanged(2 * toys.WIDTH, 2 * toys.HEIGHT)
    hub.say(protocol.SlotGrant(segment.slots[:1], SIZE))  # was on its way: too small by now
    large = Segment(1, 4 * SIZE, "a test", tmp_path)
    hub.say(protocol.SlotGrant(large.slots, 4 * SIZE))
    decoded_frame = hub.hear()
    assert decoded_frame.slot == large.slots[0]
    np.testing.assert_array_equal(picture(reader, decoded_frame), 1)
    large.close()


def test_a_stopped_file_counts_the_picture_that_waits_for_a_slot(talk, segment):
    hub, _ = talk(9)
    hub.hear()
    hub.say(protocol.SlotGrant(segment.slots[:2], SIZE))
    assert [hub.hear().n, hub.hear().n] == [0, 1]
    while hub.source.given < 3:
        time.sleep(0.001)
    hub.say(protocol.Stop())
    assert hub.hear() == protocol.SourceEnded("drained", 0, [Gap("drained", 1, 2, 2)])


def test_a_source_that_fails_reports_the_reason(talk, segment):
    hub, _ = talk(9, fail=1)
    hub.hear()
    hub.say(protocol.SlotGrant(segment.slots, SIZE))
    hub.hear()
    assert hub.hear() == protocol.SourceEnded("failed", 0, [], "toy: torn at 1")


def test_every_live_picture_is_admitted_or_counted(talk, segment):
    hub, _ = talk(300, live=1, pause=0.001)
    hub.hear()
    admitted, gaps = [], []
    for n in range(4):
        hub.say(protocol.SlotGrant(segment.slots[n % 3 :][:1], SIZE))
        decoded_frame = hub.hear()
        admitted.append(decoded_frame.n)
        gaps += decoded_frame.gaps
        assert hub.silent()
    hub.say(protocol.Stop())
    ended = hub.hear()
    assert ended.ending == "drained"
    gaps += ended.gaps
    decoded = max([*admitted, *(m.last_n for m in gaps)]) + 1
    assert len(admitted) + sum(m.count for m in gaps) == decoded
