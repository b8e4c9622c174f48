"""One POST for each event, signed as Standard Webhooks describes (standardwebhooks.com).

    webhook-id         id of the event
    webhook-timestamp  seconds since 1970 of this attempt
    webhook-signature  v1, and the base64 of HMAC-SHA256(secret, "id.timestamp.body")

The next event is sent when the server has answered with 2xx. It is sent again, without a limit of
attempts, after 5xx, 408, 425, 429, a redirect, a time-out or no connection. Any other 4xx says that
the event itself is refused: it is kept as a dead letter, and the next one follows.
"""

import base64
import binascii
import hashlib
import hmac
import http.client
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.client import HTTPMessage
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from streamvis import __version__
from streamvis.bridges.dead_letters import DeadLetters
from streamvis.bridges.loop import NOTHING, UnreachableError
from streamvis.bridges.place import digest_of
from streamvis.bridges.selection import TypeFilter
from streamvis.bridges.stop import Stop
from streamvis.bridges.tls import tls_context
from streamvis.errors import UsageError
from streamvis.events.log import Row
from streamvis.logs import warn
from streamvis.sources.credentials import without_credentials

AGAIN = {408, 425, 429}  # of 4xx: not refused for good
LONGEST_WAIT_S = 300.0  # that a server may ask for by Retry-After
LONGEST_ANSWER = 1 << 16  # bytes that are read of a body
SECRET = "whsec_"  # before a secret in base64


class Post(NamedTuple):
    """An event to send."""

    id: str
    row: Row


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """Where events are sent, and how."""

    host: str
    port: int | None
    tls: bool
    target: str  # path and query
    shown: str  # the address without credentials
    secret: bytes
    basic: str | None = None  # user:password of the address
    timeout_s: float = 10.0
    ca: Path | None = None


class _Id(msgspec.Struct):
    id: str


_ids = msgspec.json.Decoder(_Id)


class Posts:
    """The selected events, each a request."""

    def __init__(self, wanted: TypeFilter) -> None:
        self._wanted = wanted

    def messages(self, rows: Sequence[Row]) -> list[Post]:
        return [Post(id_of(row), row) for row in rows if row.type in self._wanted]

    def state(self) -> msgspec.Raw:
        return NOTHING

    def restore(self, state: msgspec.Raw) -> None:
        """Nothing is remembered."""


def id_of(row: Row) -> str:
    """Return the id of an event; of one that cannot be read, a digest."""
    with suppress(msgspec.DecodeError, RecursionError):
        found = _ids.decode(row.payload).id
        if re.fullmatch(r"[0-9A-Za-z_-]{1,64}", found):
            return found
    return digest_of(row)


def webhook_at(
    url: str, secret: str, *, timeout_s: float = 10.0, ca: Path | None = None
) -> Webhook:
    """Read an http:// or https:// address. UsageError, without its password, for another one."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme not in ("http", "https") or not parts.hostname or not _is_sendable(target):
        raise UsageError(
            "the address of the webhook cannot be read; expected http://host/path or "
            "https://host/path, with %20 for a space"
        )
    if ca is not None and parts.scheme != "https":
        raise UsageError(f"--ca {ca} is for https://, the address begins with http://")
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    return Webhook(
        host=parts.hostname,
        port=port,
        tls=parts.scheme == "https",
        target=target,
        shown=without_credentials(url),
        secret=key_of(secret),
        basic=login,
        timeout_s=timeout_s,
        ca=ca,
    )


def _is_sendable(target: str) -> bool:
    return target.isascii() and target.isprintable() and " " not in target


def key_of(secret: str) -> bytes:
    """Return the bytes of a secret: of the base64 after whsec_, or else of the text itself."""
    if not secret.startswith(SECRET):
        return secret.encode(errors="surrogateescape")
    try:
        return base64.b64decode(secret.removeprefix(SECRET), validate=True)
    except binascii.Error:
        raise UsageError(f"the secret begins with {SECRET}, but no base64 follows") from None


def signature(key: bytes, id: str, timestamp: int, body: bytes) -> str:
    """Return the value of the header webhook-signature."""
    signed = f"{id}.{timestamp}.".encode() + body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class WebhookSink:
    """Sends one event after the other, over one connection as long as it holds."""

    batch = 1

    def __init__(
        self,
        webhook: Webhook,
        letters: DeadLetters,
        stop: Stop,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._webhook = webhook
        self._letters = letters
        self._stop = stop
        self._now = now
        self._tls = tls_context(webhook.ca) if webhook.tls else None
        self._connection: http.client.HTTPConnection | None = None

    def deliver(self, messages: Sequence[Post]) -> int:
        """Send the events; UnreachableError where one is to be sent again."""
        refused = 0
        try:
            for post in messages:
                refused += self._is_refused(post)
        finally:
            if refused:
                path = str(self._letters.path)
                warn("refused for good, kept as dead letters", count=refused, path=path)
        return refused

    def _is_refused(self, post: Post) -> bool:
        """Send an event, and keep it as a dead letter where the server refuses it for good."""
        status, reason, retry_after_s = self._send(post)
        if 200 <= status < 300:
            return False
        if status in AGAIN or not 400 <= status < 500:
            raise UnreachableError(
                f"{self._webhook.shown} answered {status} {reason}".rstrip(), retry_after_s
            )
        self._letters.keep(post.id, post.row, status, reason, self._now())
        return True

    def idle(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _send(self, post: Post) -> tuple[int, str, float]:
        """Return status, reason and Retry-After of the answer."""
        reused = self._connection is not None
        try:
            with self._stop.interrupts():
                return self._exchange(post)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if reused and isinstance(error, ConnectionError):  # the server had ended it
                return self._send(post)
            how = "did not answer in time" if isinstance(error, TimeoutError) else _reason(error)
            raise UnreachableError(f"{self._webhook.shown}: {how}") from None
        except BaseException:  # a signal: the connection is in no known state
            self.close()
            raise

    def _exchange(self, post: Post) -> tuple[int, str, float]:
        if self._connection is None:
            self._connection = self._connect()
        headers = self._headers(post)
        self._connection.request("POST", self._webhook.target, post.row.payload, headers)
        answer = self._connection.getresponse()
        body = answer.read(LONGEST_ANSWER)
        if answer.headers.defects or (answer.length and len(body) < LONGEST_ANSWER):
            raise http.client.HTTPException(f"sent a part of its answer {answer.status}")
        if not answer.isclosed():  # there is more of it
            self.close()
        return answer.status, _plain(answer.reason), _seconds(answer.headers)

    def _connect(self) -> http.client.HTTPConnection:
        webhook = self._webhook
        if self._tls is None:
            return http.client.HTTPConnection(webhook.host, webhook.port, timeout=webhook.timeout_s)
        return http.client.HTTPSConnection(
            webhook.host, webhook.port, timeout=webhook.timeout_s, context=self._tls
        )

    def _headers(self, post: Post) -> dict[str, str]:
        timestamp = int(self._now())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"streamvis/{__version__}",
            "webhook-id": post.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(
                self._webhook.secret, post.id, timestamp, post.row.payload
            ),
        }
        if self._webhook.basic is not None:
            login = base64.b64encode(self._webhook.basic.encode()).decode()
            headers["Authorization"] = f"Basic {login}"
        return headers


def _seconds(headers: HTTPMessage) -> float:
    """Return the pause that a server asks for, in seconds; 0 where it names none, or a date."""
    value = headers.get("Retry-After", "")
    return min(float(value), LONGEST_WAIT_S) if re.fullmatch(r"[0-9]{1,9}", value) else 0.0


def _plain(reason: str) -> str:
    return "".join(letter for letter in reason[:100] if letter.isprintable())


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or _plain(str(error)) or type(error).__name__
