"""Publishes messages at a broker, each acknowledged (QoS 1) before the next batch.

The connection is made anew by the loop of the bridge, with its pauses, and all that must be known
of the bridge is published again on it: a broker without a disk forgets retained messages.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from streamvis.bridges.loop import UnreachableError
from streamvis.bridges.stop import Stop, Stopped
from streamvis.bridges.tls import tls_context
from streamvis.errors import UsageError

KEEPALIVE_S = 20
CONNECT_S = 5.0  # for the connection of the socket
ANSWER_S = 10.0  # for the broker's answer to a connection, and for its next acknowledgement
TURN_S = 0.1  # a signal waits so long at most
PORTS = {"mqtt": 1883, "mqtts": 8883}
QOS = 1


class Message(NamedTuple):
    """What is published on a topic."""

    topic: str
    payload: bytes
    retain: bool = True


class Broker(msgspec.Struct, frozen=True, kw_only=True):
    """The address of a broker, and how one logs in."""

    host: str
    port: int
    tls: bool = False
    user: str | None = None
    password: str | None = None
    ca: Path | None = None  # certificates that are trusted in place of the system's

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def broker_at(url: str, user: str | None, password: str | None, ca: Path | None) -> Broker:
    """Read mqtt://host:port or mqtts://host:port, where user and password may stand, too.

    UsageError, without the URL's password, for another one.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        raise UsageError(
            "the address of the broker cannot be read; expected mqtt://host:port, or mqtts:// with "
            "TLS, and user and password by --user and --password-file"
        )
    if ca is not None and parts.scheme != "mqtts":
        raise UsageError(f"--ca {ca} is for mqtts://, the address begins with mqtt://")
    return Broker(
        host=parts.hostname,
        port=port or PORTS[parts.scheme],
        tls=parts.scheme == "mqtts",
        user=user or (unquote(parts.username) if parts.username else None),
        password=password or (unquote(parts.password) if parts.password else None),
        ca=ca,
    )


class MqttSink:
    """Publishes messages; says `online` with `status`, and `offline` when it goes or is lost.

    `greeting` is published on each connection, and when the payload `online` arrives on the topic
    `greet_on`. `extras` are published between two looks at the log, and not again after a failure.
    """

    batch = 100

    def __init__(
        self,
        broker: Broker,
        stop: Stop,
        *,
        status: str,
        greeting: Callable[[], Sequence[Message]] = list,
        greet_on: str | None = None,
        extras: Callable[[], Sequence[Message]] = list,
    ) -> None:
        self._broker = broker
        self._stop = stop
        self._status = status
        self._greeting = greeting
        self._greet_on = greet_on
        self._extras = extras
        self._tls = tls_context(broker.ca) if broker.tls else None
        self._client: paho.Client | None = None
        self._answer: ReasonCode | None = None  # to the connection
        self._waiting: set[int] = set()  # ids of messages that are not acknowledged
        self._greeted = False

    def deliver(self, messages: Sequence[Message]) -> int:
        client = self._connected()
        self._publish(client, messages)
        return 0

    def idle(self, seconds: float) -> None:
        client = self._connected()
        self._publish(client, self._extras())
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._turn(client, min(left, TURN_S))

    def close(self) -> None:
        """Say `offline` and disconnect; a broker that does not answer has the last will."""
        client, self._client = self._client, None
        if client is None:
            return
        with suppress(OSError, ValueError, RuntimeError):  # it is not, or no longer, connected
            info = client.publish(self._status, b"offline", QOS, retain=True)
            until = time.monotonic() + 1
            while not info.is_published() and time.monotonic() < until:
                if client.loop(TURN_S) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                    break
            client.disconnect()
            client.loop(TURN_S)
        _closed(client)

    def _connected(self) -> paho.Client:
        """Return the client, connected, after the greeting if it is due."""
        client = self._client or self._connect()
        if not self._greeted:
            self._greeted = True
            self._publish(client, [Message(self._status, b"online"), *self._greeting()])
        return client

    def _connect(self) -> paho.Client:
        broker = self._broker
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"streamvis-{secrets.token_hex(6)}"
        )
        client.connect_timeout = CONNECT_S
        client.will_set(self._status, b"offline", QOS, retain=True)
        if broker.user is not None:
            client.username_pw_set(broker.user, broker.password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        self._answer, self._greeted = None, False
        self._waiting.clear()
        self._client = client
        try:
            with self._stop.interrupts():
                client.connect(broker.host, broker.port, KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise self._lost(f"cannot be reached: {_reason(error)}") from None
        until = time.monotonic() + ANSWER_S
        while self._answer is None:
            self._turn(client, TURN_S)
            if time.monotonic() > until:
                raise self._lost(f"did not answer within {ANSWER_S:g} s")
        if self._greet_on is not None:
            client.subscribe(self._greet_on, QOS)
        return client

    def _publish(self, client: paho.Client, messages: Sequence[Message]) -> None:
        """Publish and wait for all acknowledgements, in batches."""
        for start in range(0, len(messages), self.batch):
            for topic, payload, retain in messages[start : start + self.batch]:
                self._waiting.add(client.publish(topic, payload, QOS, retain).mid)
            until, left = time.monotonic() + ANSWER_S, len(self._waiting)
            while self._waiting:
                self._turn(client, TURN_S)
                if len(self._waiting) < left:
                    until, left = time.monotonic() + ANSWER_S, len(self._waiting)
                if time.monotonic() > until:
                    raise self._lost(f"has not acknowledged a message for {ANSWER_S:g} s")

    def _turn(self, client: paho.Client, seconds: float) -> None:
        """Receive and send, for so long at most."""
        if self._stop.asked:
            raise Stopped
        try:
            code = client.loop(seconds)
        except (OSError, ValueError) as error:
            raise self._lost(f"was lost: {_reason(error)}") from None
        if self._answer is not None and self._answer.is_failure:
            raise self._lost(f"refused the connection: {self._answer}")
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._lost(f"was lost: {paho.error_string(code)}")

    def _lost(self, how: str) -> UnreachableError:
        client, self._client = self._client, None
        if client is not None:
            _closed(client)
        return UnreachableError(f"MQTT broker {self._broker} {how}")

    def _on_connect(
        self, client: paho.Client, data: Any, flags: Any, answer: ReasonCode, properties: Any
    ) -> None:
        self._answer = answer

    def _on_publish(
        self, client: paho.Client, data: Any, mid: int, answer: ReasonCode, properties: Any
    ) -> None:
        self._waiting.discard(mid)

    def _on_message(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        if message.payload == b"online" and not message.retain:
            self._greeted = False


def _closed(client: paho.Client) -> None:
    """Close the socket, without a word to the broker."""
    with suppress(OSError, ValueError):
        sock = client.socket()
        if sock is not None:
            sock.close()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
