"""Who may ask, and how: checks before every request and every WebSocket, headers of every answer.

- `Host` has to be an IP address, `localhost` or a name that was given: a page of another site whose
  name is made to lead here (DNS rebinding) has its own name there.
- `Origin`, which browsers send with every write and every WebSocket, has to be this server; where
  they say `Sec-Fetch-Site`, only links lead here from pages of other sites.
- With a token: the cookie of a login, or `Authorization: Bearer TOKEN`.
- Without one: for all but what every user of this machine may read, the user who runs this server.
- Bodies are of JSON, of at most LONGEST_BODY bytes, or as many as `long_bodies` says; the answer
  comes within REQUEST_S.
"""

import asyncio
import ipaddress
import os
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.websockets import WebSocketDisconnect

from streamvis.errors import StreamvisError
from streamvis.logs import log
from streamvis.web.operations import LONGEST_BODY
from streamvis.web.peer_user import is_owner, user_of
from streamvis.web.problems import RefusedError, refusal_of, shown
from streamvis.web.token import Logins

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

LONGEST_TARGET = 4096  # characters of path and query
BODY_S = 10.0  # for a client to send its body
REQUEST_S = 30.0  # for an answer to begin
ANSWER_S = 600.0  # for a client to take it
READS = ("GET", "HEAD")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; media-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
_HOST = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(?::[0-9]{1,5})?")


class Guard:
    """Passes to the application what may pass, and answers the rest itself.

    `open_paths` need no token. `long_bodies` has the bytes that bodies may have, by the beginning
    of the path. `names` are host names of this server, besides its addresses. On a server without a
    token, every user of this machine may ask for what is `shared`, as method and path. Open
    WebSockets are counted in `viewers`.
    """

    def __init__(
        self,
        app: Application,
        *,
        logins: Logins | None = None,
        cookie: str = "",
        open_paths: Iterable[str] = (),
        long_bodies: Mapping[str, int] | None = None,
        names: Iterable[str] = (),
        shared: Container[tuple[str, str]] = (),
        viewers: Counter[str] | None = None,
    ) -> None:
        self._app = app
        self._logins = logins
        self._cookie = cookie
        self._open = frozenset(open_paths)
        self._long_bodies = dict(long_bodies or {})
        self._shared = shared
        self._viewers = Counter() if viewers is None else viewers
        self._names = {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        answer = _Sending(scope, send)
        try:
            self._check(scope, Headers(scope=scope))
            await self._check_user(scope)
            if scope["type"] == "websocket":
                await self._watched(scope, receive, answer.send)
                return
            async with asyncio.timeout(REQUEST_S) as limit:
                answer.limit = limit
                try:
                    await self._app(scope, _Body(scope, receive, self._longest(scope)), answer.send)
                finally:
                    answer.limit = None
        except TimeoutError:
            await answer.refuse(
                RefusedError(503, "the server", f"no answer within {REQUEST_S:g} s")
            )
        except StreamvisError as error:
            await answer.refuse(refusal_of(error))
        except Exception as error:  # noqa: BLE001 - the server goes on, whatever the request was
            log("error", "a request failed", path=shown(str(scope["path"])), error=repr(error))
            await answer.refuse(
                RefusedError(500, "the server", "an error of its own; its log says which")
            )

    async def _watched(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = "/".join(str(scope["path"]).split("/")[:3])
        self._viewers[path] += 1
        try:
            with suppress(WebSocketDisconnect):  # it may go at any time
                await self._app(scope, receive, send)
        finally:
            self._viewers[path] -= 1
            self._viewers += Counter()  # without those that are zero

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._is_ours(host):
            raise RefusedError(
                421,
                "header Host",
                shown(host),
                expected="an address of this server, localhost, or a name of --name",
                to_do="start streamvis web with --name NAME to allow another name",
            )
        target = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if target > LONGEST_TARGET:
            raise RefusedError(
                414, "path", f"{target} characters", expected=f"at most {LONGEST_TARGET}"
            )
        if scope["type"] == "websocket" or scope["method"] not in READS:
            _check_origin(headers, host)
        elif headers.get("sec-fetch-mode") != "navigate":  # a link to a page is one of its own
            _check_site(headers)
        if scope["path"] not in self._open:
            self._check_login(scope, headers)

    def _longest(self, scope: Scope) -> int:
        """Return how many bytes the body of a request may have."""
        path = str(scope["path"])
        return next(
            (n for name, n in self._long_bodies.items() if path.startswith(name)), LONGEST_BODY
        )

    async def _check_user(self, scope: Scope) -> None:
        """Raise RefusedError where another user asks for what is of the one who runs this server.

        What nobody has called shared is refused, and a user who cannot be told is another one.
        """
        method = scope.get("method", "GET")  # that of the handshake of a WebSocket
        wanted = ("GET" if method == "HEAD" else method, scope["path"])
        if self._logins is not None or wanted in self._shared:
            return
        client, server = scope.get("client"), scope.get("server")
        user = None
        if client and server:
            user = await asyncio.to_thread(user_of, tuple(client), tuple(server))
        if not is_owner(user):
            raise RefusedError(
                403,
                "the request",
                "its user cannot be told" if user is None else f"it comes from user {user}",
                expected=f"user {os.geteuid()}, who runs this server, which has no token",
                to_do="give it a token: streamvis web --token-file FILE, run --web-token-file FILE",
            )

    def _is_ours(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match[1].lower()
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def _check_login(self, scope: Scope, headers: Headers) -> None:
        """Raise RefusedError without the cookie of a login and without the token."""
        if self._logins is None:
            return
        cookies = cookie_parser(headers.get("cookie", ""))
        if self._logins.is_cookie(cookies.get(self._cookie, "")):
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            check_token(self._logins, token.strip(), address_of(scope))
            return
        raise RefusedError(
            401,
            "the request",
            "no cookie of a login, and no token",
            expected="the token of --token-file",
            to_do="POST it to /api/login, or send it as Authorization: Bearer TOKEN",
            headers={"www-authenticate": "Bearer"},
        )


def check_token(logins: Logins, token: str, address: str) -> None:
    """Raise RefusedError for a wrong token, and when the address has tried too many."""
    if (wait_s := logins.wait_s(address)) > 0:
        raise RefusedError(
            429,
            "the token",
            "too many wrong ones came from this address",
            to_do=f"try again in {wait_s:.0f} s",
            headers={"retry-after": str(int(wait_s) + 1)},
        )
    if not logins.is_token(token, address):
        raise RefusedError(
            401,
            "the token",
            "it is wrong",
            expected="that of --token-file",
            headers={"www-authenticate": "Bearer"},
        )


def address_of(scope: Scope) -> str:
    """Return the address that a request comes from."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _check_origin(headers: Headers, host: str) -> None:
    """Raise RefusedError for what a page of another site sends; programs send no `Origin`."""
    origins = headers.getlist("origin")
    own = {f"http://{host}".lower(), f"https://{host}".lower()}
    if any(origin.lower() not in own for origin in origins):
        raise RefusedError(
            403, "header Origin", shown(origins[0]), expected=f"http://{host}, this server"
        )
    _check_site(headers)


def _check_site(headers: Headers) -> None:
    """Raise RefusedError for what a browser asks for in the name of a page of another site."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise RefusedError(403, "header Sec-Fetch-Site", "a page of another site")


class _Body:
    """Receives a body that is not too long, in a time that is not too long."""

    def __init__(self, scope: Scope, receive: Receive, longest: int) -> None:
        self._receive = receive
        self._longest = self._left = longest
        self._until = time.monotonic() + BODY_S
        self._ended = False
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isascii() or not length.isdecimal() or int(length[:12]) > longest:
            raise _too_long(longest)

    async def __call__(self) -> Message:
        if self._ended:  # nothing but the end of the connection is still to come
            return await self._receive()
        try:
            async with asyncio.timeout(max(self._until - time.monotonic(), 0)):
                message = await self._receive()
        except TimeoutError:
            raise RefusedError(
                408, "body", "it has not come", expected=f"all of it within {BODY_S:g} s"
            ) from None
        self._ended = not message.get("more_body", False)
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise _too_long(self._longest)
        return message


def _too_long(longest: int) -> RefusedError:
    return RefusedError(
        413,
        "body",
        f"it is above {longest} bytes",
        expected=f"at most {longest}",
        headers={"connection": "close"},
    )


class _Sending:
    """Adds the headers to what the application sends, and knows whether it has begun."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._begun = False
        self.limit: asyncio.Timeout | None = None  # until the answer has begun

    async def send(self, message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            given = list(message.get("headers", []))
            there = {name.lower() for name, _ in given}
            given += [
                (name.encode(), value.encode())
                for name, value in HEADERS.items()
                if name.encode() not in there
            ]
            message = {**message, "headers": given}
            if self.limit is not None:  # who takes nothing is disconnected by the server
                self.limit.reschedule(asyncio.get_running_loop().time() + ANSWER_S)
        self._begun = True
        await self._send(message)

    async def refuse(self, error: RefusedError) -> None:
        """Answer with the error, unless an answer has begun; the connection ends then."""
        if self._begun:
            raise error
        kind = "http" if self._scope["type"] == "http" else "websocket.http"
        body = error.body()
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **error.headers,
        }
        await self.send(
            {
                "type": f"{kind}.response.start",
                "status": error.status,
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            }
        )
        await self._send({"type": f"{kind}.response.body", "body": body})
