"""Pictures between nodes, here two in one process."""

from contextlib import closing

import numpy as np
import pytest
from factories import frame

from streamvis.transport.keys import ClientKeys, ServerKeys, new_pair
from streamvis.transport.node_pixels import NodePixels, PixelKeys, SlotHost
from streamvis.transport.slots import SlotWriter

SHAPE = (48, 64, 3)


def new_keys():
    server, client = new_pair(), new_pair()
    return PixelKeys(
        server=ServerKeys(public=server[0], secret=server[1]),
        client=ClientKeys(server=server[0], public=client[0], secret=client[1]),
    )


@pytest.fixture
def keys():
    return new_keys()


@pytest.fixture
def host(keys):
    with closing(SlotHost("n1", "127.0.0.1", keys)) as made:
        yield made


def filled(host, count=3):
    """Slots with a ramp of colours each, and their frames."""
    slots = host.make(count, int(np.prod(SHAPE)), "a test")
    ramp = np.linspace(0, 200, SHAPE[1]).astype(np.uint8)
    pictures = [np.broadcast_to((ramp + i)[None, :, None], SHAPE) for i in range(count)]
    with closing(SlotWriter()) as write:
        for slot, picture in zip(slots, pictures, strict=True):
            write(slot, picture)
    height, width = SHAPE[:2]
    frames = [frame(n, width=width, height=height, slot=slot) for n, slot in enumerate(slots)]
    return frames, pictures


@pytest.mark.parametrize(("node", "encoding"), [("n1", "raw"), ("n2", "raw"), ("n2", "jpeg")])
def test_pictures_are_the_same_on_each_node(node, encoding, host, keys):
    frames, pictures = filled(host)
    with closing(NodePixels(node, keys, encoding)) as pixels:
        assert pixels.hold(frames) == []
        for one, picture in zip(frames, pictures, strict=True):
            seen = pixels(one)
            assert seen.shape == SHAPE
            off = np.abs(seen.astype(int) - picture).max()
            assert off <= 4 if encoding == "jpeg" else off == 0
        count, size = pixels.received
        assert count == (0 if node == "n1" else 3)
        raw = count * int(np.prod(SHAPE))
        assert size == raw if encoding == "raw" else 0 < size < raw


def test_what_is_not_there_is_named_and_the_rest_is_not_held(host, keys):
    frames, _ = filled(host)
    host.drop(frames[0].slot.rpartition(":")[0])
    more, pictures = filled(host, 1)
    with closing(NodePixels("n2", keys)) as pixels:
        assert set(pixels.hold([*frames, *more])) >= {one.slot for one in frames}
        assert pixels.hold(more) == []
        assert (pixels(more[0]) == pictures[0]).all()


def test_a_picture_that_does_not_fit_its_slots_is_not_read(host, keys):
    (one,), _ = filled(host, 1)
    larger = frame(0, width=64 * 64, height=48, slot=one.slot)
    with closing(NodePixels("n2", keys)) as pixels:
        assert pixels.hold([larger]) == [one.slot]


def test_only_the_run_that_has_the_keys_gets_pixels(host, keys, monkeypatch):
    monkeypatch.setattr("streamvis.transport.node_pixels.FETCH_S", 0.2)
    frames, _ = filled(host)
    stranger = new_pair()
    foreign = ClientKeys(server=keys.server.public, public=stranger[0], secret=stranger[1])
    with closing(NodePixels("n2", PixelKeys(server=keys.server, client=foreign))) as pixels:
        assert set(pixels.hold(frames)) == {one.slot for one in frames}
        assert pixels.received == (0, 0)
