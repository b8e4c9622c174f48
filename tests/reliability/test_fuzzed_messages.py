"""Random messages to each socket that the product binds: it goes on, and does not grow."""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import zmq
from event_logs import WALK, logged
from feed_processes import PATIENCE_S, awaited, hears, plain_subscriber, publisher, resident_mb

from streamvis.events.replay_process import ReplayProcess
from streamvis.runtime import protocol
from streamvis.transport.sockets import private_directory

ROUNDS = int(os.environ.get("STREAMVIS_ROUNDS", "1"))  # `make soak` sets more
MESSAGES = 25_000 * ROUNDS  # to each of four sockets
AT_ONCE = 25  # by one connection
MOST_MB = 50  # that the process may grow meanwhile
GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + bytes(48)  # ZMTP 3.0
HUB = """
import sys, msgspec
from controlled_runs import RUN
from streamvis.runtime import protocol
from streamvis.runtime.control_socket import Control
from streamvis.transport.sockets import Server
hub, control = Server(f"ipc://{sys.argv[1]}/hub"), Control(f"ipc://{sys.argv[1]}/control")
print("ready", flush=True)
while True:
    for peer, frames in hub.receive() if hub.socket.poll(1) else ():
        try:
            protocol.decode_from_process(frames[0])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            hub.refused += 1
        hub.send(peer, [b"read"])
    if control.socket.poll(1):
        for _ in control.decisions(lambda: RUN):
            pass
"""
SEEDS = [  # messages that are right, to be mutated
    [b"\1sv1/"],
    [b"\0sv1/cam1/track/"],
    [b'{"get":"snapshot","id":1}'],
    [b"", b'{"get":"events","source":"cam1","from_offset":0,"to_offset":3,"types":["track"]}'],
    [b'{"version":1,"request":{"type":"get_status"}}'],
    [b'{"version":1,"request":{"type":"add","source":"synthetic:","id":"x"}}'],
    [protocol.encode(protocol.Hello())],
    [protocol.encode(protocol.Answer(1, [], [], [])), b"blob"],
    [msgspec.msgpack.encode({"a": [1, None, 2.5, "x" * 40]})],
    [b"[" * 500],
    [b"\x91" * 500],
    [b"\xdf\xff\xff\xff\xff"],
]


def mutated(rng, frames):
    """A message with random changes: of bytes, of lengths, of the number of frames."""
    frames = [bytearray(frame) for frame in frames]
    for _ in range(rng.randrange(4)):
        frame = rng.choice(frames)
        at = rng.randrange(len(frame) + 1)
        match rng.randrange(5):
            case 0:
                frame[at : at + rng.randrange(8)] = rng.randbytes(rng.randrange(8))
            case 1:
                del frame[at:]
            case 2:
                frame[at:at] = rng.choice((b"1e999", b"-1", b"null", b'"', b"9" * 30, b"\xff\xfe"))
            case 3:
                frame *= rng.randrange(1, 20)
            case 4:
                frames.insert(rng.randrange(len(frames) + 1), bytearray(rng.randbytes(at)))
    return [bytes(frame) for frame in frames[: rng.randrange(1, 50)]]


def encoded(frames):
    """In ZMTP."""
    wire = b""
    for number, frame in enumerate(frames):
        more = number + 1 < len(frames)
        long = len(frame) > 255
        wire += bytes([more | long << 1]) + len(frame).to_bytes(8 if long else 1) + frame
    return wire


def ready(kind, name):
    properties = b"\x0bSocket-Type" + len(kind).to_bytes(4) + kind
    properties += b"\x08Identity" + len(name).to_bytes(4) + name
    return b"\4" + bytes([6 + len(properties)]) + b"\5READY" + properties


def attack(where, kinds, messages, seed):
    """Send so many messages, by many connections; some break the framing, too."""
    rng = random.Random(seed)
    for _ in range(messages // AT_ONCE):
        wire = b"".join(encoded(mutated(rng, rng.choice(SEEDS))) for _ in range(AT_ONCE))
        if rng.random() < 0.1:
            at = rng.randrange(len(wire))
            wire = wire[:at] + rng.randbytes(8) + wire[at:]
        family = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET
        with socket.socket(family) as raw, contextlib.suppress(OSError):
            raw.settimeout(PATIENCE_S)
            raw.connect(where)
            raw.sendall(GREETING + ready(rng.choice(kinds), b"\1" + rng.randbytes(4)))
            answer = b""
            while b"READY" not in answer:  # before, nothing but commands is taken
                answer += raw.recv(1 << 16) or b"READY"
            raw.sendall(wire)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(1 << 16):
                pass


def survives(process, where, kinds):
    """Attack; the process must neither end nor grow."""
    attack(where, kinds, MESSAGES // 5, seed=1)  # what it needs once
    before = resident_mb(process)
    attack(where, kinds, MESSAGES - MESSAGES // 5, seed=2)
    assert resident_mb(process) - before < MOST_MB


def tcp(endpoint):
    host, port = endpoint.removeprefix("tcp://").split(":")
    return host, int(port)


def test_the_feed():
    with publisher("tcp://127.0.0.1:*") as (process, endpoint), plain_subscriber(endpoint) as good:
        survives(process, tcp(endpoint), [b"SUB", b"XSUB"])
        assert process.poll() is None
        while good.poll(0):
            good.recv_multipart()
        assert hears(good)
        with plain_subscriber(endpoint) as late:
            awaited(late, malformed=10, frames=10)  # who leaves at once may not be counted


def test_the_replay_server(tmp_path):
    logged(tmp_path / "events.db", "cam1", WALK)
    with contextlib.closing(
        ReplayProcess(tmp_path / "events.db", ["tcp://127.0.0.1:0"], {})
    ) as server:
        server.start()
        assert reply(server.endpoint, b'{"get": "status"}')["reply"] == "status"
        pid = server.pid
        survives(server, tcp(server.endpoint), [b"DEALER", b"REQ", b"ROUTER"])
        counted = reply(server.endpoint, b'{"get": "status"}')
        assert counted["requests"] + counted["refused"] > MESSAGES // 2
        assert server.pid == pid


@pytest.mark.parametrize("name", ["hub", "control"])
def test_the_sockets_of_a_run(name):
    tests = Path(__file__).parents[1]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), *sys.path])}
    with private_directory() as home:
        command = [sys.executable, "-c", HUB, str(home)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ) as process:
            try:
                assert process.stdout.readline() == b"ready\n"
                survives(process, f"{home}/{name}", [b"DEALER", b"REQ", b"ROUTER"])
                request = b'{"version":1,"request":{"type":"list_sources"}}'
                assert reply(f"ipc://{home}/control", request)
                assert process.poll() is None
            finally:
                process.kill()


def reply(endpoint, request):
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.linger = 0
        client.connect(endpoint)
        client.send(request)
        assert client.poll(1000 * PATIENCE_S), "no reply"
        return json.loads(client.recv())
