"""The messages between a decode process and the hub, with the test as the hub."""

import threading
import time

import cv2
import numpy as np
import pytest
import toys
from hypothesis import given
from hypothesis import strategies as st
from waiting import PATIENCE_S

from streamvis.messages import Frame
from streamvis.runtime import protocol
from streamvis.runtime.decode import LONGEST_SIDE_PX, Decode, jpeg
from streamvis.runtime.gaps import Gap
from streamvis.runtime.latest_frame import LatestFrame
from streamvis.sources.spec import SourceSpec
from streamvis.transport.slots import Segment, SlotReader, SlotWriter
from streamvis.transport.sockets import Client, Server, private_directory

SIZE = toys.WIDTH * toys.HEIGHT * 3


class Hub:
    """The hub's end: sends and receives one message at a time."""

    def __init__(self, server, source):
        self.source = source
        self._server = server
        self._received = []

    def send(self, message):
        assert self._server.send(b"decode", [protocol.encode(message)])

    def receive(self):
        while not self._received:
            assert self._server.socket.poll(1000 * PATIENCE_S), "no message from decode"
            self._received += [frames[0] for _, frames in self._server.receive()]
        return protocol.decode_from_process(self._received.pop(0))

    def is_silent(self):
        return not self._received and not self._server.socket.poll(50)


@pytest.fixture
def connect(tmp_path):
    """Starts decoding a toy in a thread; gives the hub's side and a reader of slots."""
    with private_directory() as home:
        endpoint = f"ipc://{home}/hub"
        server = Server(endpoint)
        threads, reader, writer = [], SlotReader(), SlotWriter()

        def start(frames, after_n=-1, **options):
            options = {key: str(value) for key, value in options.items()}
            spec = SourceSpec(id="a", uri=f"toy:{frames}", kind="file", options=options)

            source = toys.open_toy(spec)

            def decode():
                client = Client(endpoint, b"decode")
                one = Decode(client, source, writer, spec)
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
            thread.join(PATIENCE_S)
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


def test_a_file_is_sent_picture_by_picture_to_the_last_one(connect, segment):
    hub, reader = connect(5)
    assert hub.receive().info.frames == 5
    for n in range(5):
        assert hub.is_silent()  # no slot, no picture
        hub.send(protocol.SlotGrant(segment.slots[n % 3 :][:1], SIZE))
        decoded_frame = hub.receive()
        assert (decoded_frame.n, decoded_frame.media_us, decoded_frame.slot) == (
            n,
            n * 40_000,
            segment.slots[n % 3],
        )
        np.testing.assert_array_equal(picture(reader, decoded_frame), n)
    assert hub.receive() == protocol.SourceEnded("eof", 0)


def test_a_file_continues_where_its_predecessor_stopped(connect, segment):
    hub, _ = connect(6, after_n=3, jump=2)
    hub.receive()
    hub.send(protocol.SlotGrant(segment.slots, SIZE))
    first, second = hub.receive(), hub.receive()
    assert (first.n, first.gaps, first.errors) == (4, [], 1)  # the gap at 2 was reported before
    assert second.n == 5
    assert hub.receive() == protocol.SourceEnded("eof", 1)


def test_pictures_that_could_not_be_decoded_are_reported_with_the_next(connect, segment):
    hub, _ = connect(3, jump=1)
    hub.receive()
    hub.send(protocol.SlotGrant(segment.slots, SIZE))
    assert hub.receive().gaps == []
    assert hub.receive().gaps == [Gap("decode", 1, 1, 1)]


@pytest.mark.parametrize("live", [{}, {"live": 1, "pause": 0.01}])
def test_the_next_picture_is_sent_as_a_jpeg_when_it_is_asked_for(connect, segment, live):
    hub, _ = connect(100, **live)
    hub.receive()
    hub.send(protocol.TakePicture())
    hub.send(protocol.TakePicture())  # the same picture is for both
    hub.send(protocol.SlotGrant(segment.slots[:2], SIZE))
    decoded, taken = hub.receive(), hub.receive()
    assert (taken.n, taken.media_us, taken.capture_us) == (
        decoded.n,
        decoded.media_us,
        decoded.capture_us,
    )
    assert (taken.width, taken.height) == (decoded.width, decoded.height)
    shown = cv2.imdecode(np.frombuffer(taken.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == (toys.HEIGHT, toys.WIDTH, 3)
    np.testing.assert_allclose(shown, decoded.n, atol=2)
    assert isinstance(hub.receive(), protocol.DecodedFrame)


def test_as_many_pictures_are_sent_as_were_asked_for_at_most(connect, segment):
    hub, _ = connect(100)
    hub.receive()
    hub.send(protocol.TakePicture(2))
    hub.send(protocol.TakePicture())
    hub.send(protocol.SlotGrant(segment.slots[:3], SIZE))
    sent = [hub.receive() for _ in range(5)]
    taken = [one.n for one in sent if isinstance(one, protocol.PictureTaken)]
    decoded = [one.n for one in sent if isinstance(one, protocol.DecodedFrame)]
    assert (taken, decoded) == ([0, 1], [0, 1, 2])


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_a_picture_that_was_asked_for_is_small_and_has_its_shape_and_colours(height, width):
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = (200, 120, 40)
    shown = cv2.imdecode(np.frombuffer(jpeg(pixels), np.uint8), cv2.IMREAD_COLOR)
    assert max(shown.shape) <= LONGEST_SIDE_PX
    scale = min(1, LONGEST_SIDE_PX / max(height, width))
    np.testing.assert_allclose(shown.shape[:2], (height * scale, width * scale), atol=1)
    off = shown[..., ::-1].astype(np.int16) - np.array((200, 120, 40), np.int16)
    assert np.abs(off).max() <= 4


def test_larger_pictures_need_larger_slots(connect, segment, tmp_path):
    hub, reader = connect(2, grow=1)
    hub.receive()
    hub.send(protocol.SlotGrant(segment.slots, SIZE))
    hub.receive()
    assert hub.receive() == protocol.SizeChanged(2 * toys.WIDTH, 2 * toys.HEIGHT)
    hub.send(
        protocol.SlotGrant(segment.slots[:1], SIZE)
    )  # granted before the change of size: too small
    large = Segment(1, 4 * SIZE, "a test", tmp_path)
    hub.send(protocol.SlotGrant(large.slots, 4 * SIZE))
    decoded_frame = hub.receive()
    assert decoded_frame.slot == large.slots[0]
    np.testing.assert_array_equal(picture(reader, decoded_frame), 1)
    large.close()


def test_a_stopped_file_counts_the_picture_that_waits_for_a_slot(connect, segment):
    hub, _ = connect(9)
    hub.receive()
    hub.send(protocol.SlotGrant(segment.slots[:2], SIZE))
    assert [hub.receive().n, hub.receive().n] == [0, 1]
    while hub.source.given < 3:
        time.sleep(0.001)
    hub.send(protocol.Stop())
    assert hub.receive() == protocol.SourceEnded("drained", 0, [Gap("drained", 1, 2, 2)])


def test_a_source_that_fails_reports_the_reason(connect, segment):
    hub, _ = connect(9, fail=1)
    hub.receive()
    hub.send(protocol.SlotGrant(segment.slots, SIZE))
    hub.receive()
    assert hub.receive() == protocol.SourceEnded("failed", 0, [], "toy: torn at 1")


def test_every_live_picture_is_admitted_or_counted(connect, segment):
    hub, _ = connect(300, live=1, pause=0.001)
    hub.receive()
    admitted, gaps = [], []
    for n in range(4):
        hub.send(protocol.SlotGrant(segment.slots[n % 3 :][:1], SIZE))
        decoded_frame = hub.receive()
        admitted.append(decoded_frame.n)
        gaps += decoded_frame.gaps
        assert hub.is_silent()
    hub.send(protocol.Stop())
    ended = hub.receive()
    assert ended.ending == "drained"
    gaps += ended.gaps
    decoded = max([*admitted, *(m.last_n for m in gaps)]) + 1
    assert len(admitted) + sum(m.count for m in gaps) == decoded
