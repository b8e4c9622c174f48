"""Ways of bringing pictures from one process to another, for `bench transport`.

    python -m streamvis.benchmarks.transport_peers <name> <send or receive> <address> <seconds>

Each side prints what its process has taken, as JSON, when the last picture is through.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from streamvis.messages import Array

SHAPE = (1080, 1920, 3)  # of a picture
WARM_UP = 20  # pictures that do not count
SLOTS = 8  # pictures in shared memory, as in a placement
LAST = 255  # first value of the last picture
PAGE = 4096


class Passed(msgspec.Struct, frozen=True):
    """What pictures took after the first ones: of two sides, only the receiver counts seconds."""

    pictures: int
    seconds: float
    cpu_s: float


def pictures(seconds: float, shape: tuple[int, ...] = SHAPE) -> Iterator[Array]:
    """Yield one picture again and again for so long after the first ones, then the last one."""
    picture = np.random.default_rng(0).integers(0, LAST, shape, np.uint8)
    for _ in range(WARM_UP):
        yield picture
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        yield picture
    picture[0, 0, 0] = LAST
    yield picture


def touch(picture: Array) -> bool:
    """Read a value from each page of memory of a picture; True if it is the last one."""
    picture.reshape(-1)[::PAGE].sum()
    return bool(picture[0, 0, 0] == LAST)


def send_by_memcpy(address: str, pictures: Iterator[Array]) -> None:
    """Copy each picture into a free slot of shared memory; the slot's number goes into a pipe."""
    with open(f"{address}.filled", "wb", 0) as filled, open(f"{address}.free", "rb", 0) as free:
        slots = np.memmap(address, np.uint8, "r+", shape=(SLOTS, *SHAPE))
        for picture in pictures:
            slot = free.read(1)[0]
            slots[slot] = picture
            filled.write(bytes([slot]))


def receive_by_memcpy(address: str) -> Iterator[Array]:
    """Yield the pictures in shared memory, and give back each slot after its picture."""
    with open(f"{address}.filled", "rb", 0) as filled, open(f"{address}.free", "wb", 0) as free:
        slots = np.memmap(address, np.uint8, "r", shape=(SLOTS, *SHAPE))
        free.write(bytes(range(SLOTS)))
        while slot := filled.read(1):
            yield slots[slot[0]]
            with suppress(BrokenPipeError):  # the sender ends once it has filled the last slot
                free.write(slot)


def send_by_netgear(address: str, pictures: Iterator[Array]) -> None:
    """Send pictures as they are, not as JPEG, over a PAIR of VidGear."""
    sender = _netgear(address)
    for picture in pictures:
        sender.send(picture)
    sender.close()


def receive_by_netgear(address: str) -> Iterator[Array]:
    receiver = _netgear(address, receive_mode=True)
    while (picture := receiver.recv()) is not None:
        yield picture
    receiver.close()


def _netgear(address: str, **options: Any) -> Any:
    from vidgear.gears import NetGear

    host, _, port = address.rpartition(":")
    given: dict[str, Any] = {"jpeg_compression": False, **options}
    return NetGear(address=host, port=port, **given)


def send_by_imagezmq(address: str, pictures: Iterator[Array]) -> None:
    """Send each picture as a request, as imagezmq does by default."""
    from imagezmq import ImageSender

    with ImageSender(connect_to=f"tcp://{address}") as sender:
        for picture in pictures:
            sender.send_image("", picture)


def receive_by_imagezmq(address: str) -> Iterator[Array]:
    from imagezmq import ImageHub

    with ImageHub(open_port=f"tcp://{address}") as hub:
        while True:
            _, picture = hub.recv_image()
            hub.send_reply()
            yield picture


class Way(NamedTuple):
    """A way for pictures, and what it needs."""

    send: Callable[[str, Iterator[Array]], None]
    receive: Callable[[str], Iterator[Array]]
    module: str = ""  # that has to be installed
    install: str = ""
    in_memory: bool = False  # its address is that of files, not of a TCP port


WAYS = {
    "bare memcpy": Way(send_by_memcpy, receive_by_memcpy, in_memory=True),
    "VidGear NetGear": Way(send_by_netgear, receive_by_netgear, "vidgear", "pip install vidgear"),
    "imagezmq": Way(
        send_by_imagezmq, receive_by_imagezmq, "imagezmq", "pip install --no-deps imagezmq"
    ),
}


def make_files(address: str) -> None:
    """Make the shared memory and the pipes of a way in memory."""
    with open(address, "xb") as slots:
        os.posix_fallocate(slots.fileno(), 0, SLOTS * int(np.prod(SHAPE)))
    for pipe in ("filled", "free"):
        os.mkfifo(f"{address}.{pipe}")


def remove_files(address: str) -> None:
    for path in (address, f"{address}.filled", f"{address}.free"):
        Path(path).unlink(missing_ok=True)


def counted(source: Iterator[Array], done: Callable[[Passed], None]) -> Iterator[Array]:
    """Pass pictures on; `done` gets what they took from the end of the warm-up on."""
    began, cpu, count = 0.0, 0.0, 0
    for picture in source:
        yield picture
        count += 1
        if count == WARM_UP:
            began, cpu = time.monotonic(), time.process_time()
    done(Passed(count - WARM_UP, time.monotonic() - began, time.process_time() - cpu))


def _until_last(source: Iterator[Array]) -> Iterator[Array]:
    for picture in source:
        last = touch(picture)
        yield picture
        if last:
            return


def main(arguments: Sequence[str]) -> None:
    """Run one side of a way."""
    name, role, address, seconds = arguments
    way = WAYS[name]
    passed: list[Passed] = []
    if role == "send":
        way.send(address, counted(pictures(float(seconds)), passed.append))
    else:
        for _ in counted(_until_last(way.receive(address)), passed.append):
            pass
    sys.stdout.write(msgspec.json.encode(passed[0]).decode())
    sys.stdout.flush()
    os._exit(0)  # whatever threads a library has left


if __name__ == "__main__":
    main(sys.argv[1:])
