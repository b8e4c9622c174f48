"""Hostile messages to the sockets of a whole run: refused and counted, and the run goes on."""

import contextlib
import os
import socket
import tempfile
import threading
from pathlib import Path

import films
import msgspec
import street
import zmq

from streamvis.config import Pipeline, Publish
from streamvis.events.feed import read_announcement
from streamvis.runtime import launch, protocol
from streamvis.sources import resolve

FRAMES = 100
GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + bytes(48)  # ZMTP 3.0
READY = b"\4\x19\5READY\x0bSocket-Type\0\0\0\6DEALER"
FED = Pipeline(
    stages=[
        *street.PIPELINE.stages[:2],
        msgspec.structs.replace(
            street.PIPELINE.stages[2], run=Publish(bind="tcp://127.0.0.1:*")
        ),
    ]
)  # fmt: skip
RAW = [
    b"GET / HTTP/1.1\r\n\r\n",
    bytes(range(256)) * 64,
    GREETING,
    GREETING + READY + b"\2\0\0\1\0\0\0\0\0",  # a message of 2**40 bytes begins
    GREETING + READY + b"\2\xff\xff\xff\xff\xff\xff\xff\xff",
    GREETING + b"\6\xff\xff\xff\xff\xff\xff\xff\xff",  # a command without an end
    GREETING + READY + b"\0\0" * 1000,
]
PARTS = [
    [b""],
    [b"\x80", b"\x81", b""],
    [os.urandom(1000)],
    [b"x"] * 5000,
    [b"\xdf\xff\xff\xff\xff"],  # a map of 2**32 entries
    [b"\x91" * 100_000],  # lists in lists
    [protocol.encode(protocol.Hello())],
    [protocol.encode(protocol.Answer(1, [], [], [])), bytes(10**6)],
]


def noise(where):
    """Raw bytes to a socket of ZeroMQ, which may hang up or wait for more."""
    for data in RAW:
        kind = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET
        with socket.socket(kind) as raw:
            raw.settimeout(0.1)
            raw.connect(where)
            with contextlib.suppress(OSError):
                raw.sendall(data)
                while raw.recv(4096):
                    pass


def stranger(context, kind, endpoint, name=b"stranger"):
    """Send every message under this name; returns the socket."""
    found = context.socket(kind)
    found.setsockopt(zmq.LINGER, 0)
    found.setsockopt(zmq.IDENTITY, name)
    found.connect(endpoint)
    for message in PARTS:
        found.send_multipart(message)
    return found


def test_noise_on_every_socket_of_a_run_is_counted_and_harms_nobody(tmp_path, monkeypatch):
    monkeypatch.setenv(street.SLOW_S, "0.02")
    films.write(films.Film("mp4", "h264", frames=FRAMES), tmp_path / "film.mp4")
    context, sockets, attacked = zmq.Context(), [], threading.Event()
    names = [b"stranger", b"decode-film#99", b"detect.0#99~", b"~", b"\xff" * 255]

    def attack():
        out = tmp_path / "out"
        while (note := read_announcement(out)) is None or street.logged(out) < 3:
            if over.wait(0.01):
                return
        (home,) = Path(tempfile.gettempdir()).glob(f"streamvis-{os.getpid()}-*")
        host, port = note[0].removeprefix("tcp://").split(":")
        for name in names:
            sockets.append(stranger(context, zmq.DEALER, f"ipc://{home}/hub", name))
        sockets.append(stranger(context, zmq.XSUB, note[0]))
        noise(f"{home}/hub")
        noise((host, int(port)))
        attacked.set()

    over = threading.Event()
    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        summary = launch.run(
            FED,
            street.APART,
            resolve([str(tmp_path / "film.mp4")]),
            build="street:build",
            out=tmp_path / "out",
        )
    finally:
        over.set()
        attacker.join()
        for each in sockets:
            each.close()
        context.term()
    assert attacked.is_set()
    assert summary.refused_messages == len(names) * len(PARTS)
    assert street.balanced(summary)["film"].admitted == FRAMES
    assert [stage.restarts for stage in summary.stages] == [0, 0, 0]
    monkeypatch.delenv(street.SLOW_S)
    quiet = street.undisturbed(resolve([str(tmp_path / "film.mp4")]), tmp_path / "quiet")
    assert [row[:3] for row in street.rows(tmp_path / "out")] == [row[:3] for row in quiet]
