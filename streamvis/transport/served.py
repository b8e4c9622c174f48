"""Which public keys are served: a directory of keys, and libzmq's questions about them."""

import time
from pathlib import Path

import zmq
from zmq.utils import z85

from streamvis.transport import keys as key_files

ZAP = "inproc://zeromq.zap.01"
DOMAIN = b"streamvis"
LOOK_S = 0.25  # between two looks at the directory
AT_ONCE = 1000  # questions that are answered in one call


class Served:
    """Answers by the ZeroMQ Authentication Protocol (RFC 27) whether a peer may connect.

    `server` gets the server's keys; it is not bound yet. ConfigError when there are none.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        server: "zmq.Socket[bytes]",
        directory: Path,
    ) -> None:
        own = key_files.server_keys(directory)
        server.curve_server = True
        server.curve_publickey = own.public.encode()
        server.curve_secretkey = own.secret.encode()
        server.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
        self.names: dict[str, str] = {}  # public key -> name, with those that were revoked
        self.next_s = 0.0  # when `read` is to be called, by the monotonic clock
        self._directory = directory
        self._stamp: object = None
        self._now: dict[str, str] = {}
        self.read()
        self.socket = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.bind(ZAP)

    def __contains__(self, public: str) -> bool:
        return public in self._now

    def read(self) -> bool:
        """Read the directory again if it has changed; whether it has."""
        self.next_s = time.monotonic() + LOOK_S
        stamp = key_files.stamp(self._directory)
        if stamp == self._stamp:
            return False
        self._stamp, self._now = stamp, key_files.listed(self._directory)
        self.names |= self._now
        return True

    def answer(self) -> list[str]:
        """Answer the questions that have come; return the addresses of those that are refused."""
        refused: list[str] = []
        for _ in range(AT_ONCE):
            try:
                parts = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            if len(parts) != 9 or parts[7] != b"CURVE":
                continue  # not from libzmq
            public = z85.encode(parts[8])
            if public.decode() not in self:
                self.read()  # a client may come as soon as its key is there
            known = public.decode() in self
            status = [b"200", b"OK", public, b""] if known else [b"400", b"unknown key", b"", b""]
            self.socket.send_multipart([*parts[:4], *status])
            if not known:
                refused.append(parts[5].decode(errors="replace"))
        return refused

    def close(self) -> None:
        self.socket.close(linger=0)
