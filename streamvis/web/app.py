"""The web application: routes of the operations, the stream of events, the pages, one guard."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, MutableMapping
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
from anyio import CapacityLimiter, to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute
from starlette.websockets import WebSocket

from streamvis.stages import event_codec
from streamvis.transport.keys import ClientKeys
from streamvis.web import video
from streamvis.web.api import Api, operations
from streamvis.web.event_stream import PATH, EventStream, StreamQuery
from streamvis.web.guard import Application, Guard, Receive, Scope, Send, address_of
from streamvis.web.openapi import document
from streamvis.web.operations import (
    JSON,
    LONGEST_BODY,
    Answered,
    Call,
    NoQuery,
    Operation,
    body_of,
    converted_query,
    query_of,
)
from streamvis.web.problems import RefusedError, shown
from streamvis.web.recorded import RecordedPictures
from streamvis.web.resources import Resources
from streamvis.web.run_folder import RunFolder
from streamvis.web.snapshots import SourceSnapshots
from streamvis.web.token import Logins
from streamvis.web.video import VideoStream

AT_ONCE = 4  # operations: each has a thread
MOST_WAITING = 8  # calls of an operation with threads of its own
TIDY_S = 5.0  # between two looks at what is open and no longer used
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}

RANGE = re.compile(r"bytes=(\d{1,15}-\d{0,15}|-\d{1,15})")

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


def application(
    folder: RunFolder,
    *,
    logins: Logins | None = None,
    cookie: str = "streamvis",
    names: Iterable[str] = (),
    keys: ClientKeys | None = None,
) -> Application:
    """Return the application of one run; with `logins` all but the page wants the token."""
    recorded = RecordedPictures(folder)
    api = Api(folder, logins, cookie, recorded)
    viewers: Counter[str] = Counter()
    table = operations(api, Resources(folder, viewers))
    described = msgspec.json.encode(document(table))
    snapshots = SourceSnapshots(folder, event_codec().identities)

    @asynccontextmanager
    async def lifespan(router: Router) -> AsyncIterator[None]:
        stream = EventStream(folder, snapshots)
        router.routes.append(WebSocketRoute(PATH, _socket(stream)))
        router.routes.append(WebSocketRoute(video.PATH, _video(VideoStream(folder, keys))))
        tidying = asyncio.create_task(_tidied(recorded))
        try:
            yield
        finally:
            await ended(tidying)
            await to_thread.run_sync(recorded.close)
            await to_thread.run_sync(snapshots.close)
            await to_thread.run_sync(api.lanes.close)

    limiter = CapacityLimiter(AT_ONCE)
    routes: list[BaseRoute] = [
        Route(
            one.path,
            _endpoint(one, CapacityLimiter(one.threads) if one.threads else limiter),
            methods=[one.method],
        )
        for one in table
    ]
    routes.append(Route("/api/openapi.json", _fixed(described, JSON)))
    pages = _pages()
    routes += [Route(path, _fixed(data, media)) for path, (media, data) in pages.items()]
    open_paths = [*pages, *(one.path for one in table if one.without_token)]
    long_bodies = {one.path.partition("{")[0]: one.longest for one in table}
    shared = {("GET", path) for path in (*pages, "/api/openapi.json", PATH)}
    shared |= {(one.method, one.path) for one in table if one.shared}
    router = Router(routes, lifespan=lifespan, redirect_slashes=False)
    return Guard(
        _json_errors(router),
        logins=logins,
        cookie=cookie,
        open_paths=open_paths,
        long_bodies={path: n for path, n in long_bodies.items() if n > LONGEST_BODY},
        names=names,
        shared=shared,
        viewers=viewers,
    )


def _endpoint(operation: Operation, limiter: CapacityLimiter) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        data = await request.body()
        if operation.threads and limiter.statistics().tasks_waiting >= MOST_WAITING:
            raise RefusedError(
                503,
                "the server",
                f"{MOST_WAITING} requests of this kind are waiting",
                to_do="ask again later",
                headers={"retry-after": "1"},
            )
        call = Call(
            path=request.path_params,
            query=query_of(operation, request.query_params),
            body=body_of(operation, data, request.headers.get("content-type", "")),
            address=address_of(request.scope),
        )
        answered = await to_thread.run_sync(operation.call, call, limiter=limiter)
        if isinstance(answered.value, Path):
            _drop_wrong_range(request.scope)
        return _response(answered, operation.media)

    return endpoint


def _drop_wrong_range(scope: MutableMapping[str, Any]) -> None:
    """Take a header `Range` away that is none, or several, which a server may ignore."""
    scope["headers"] = [
        (name, value)
        for name, value in scope["headers"]
        if name != b"range" or RANGE.fullmatch(value.decode("latin-1"))
    ]


async def _tidied(recorded: RecordedPictures) -> None:
    while True:
        await asyncio.sleep(TIDY_S)
        await to_thread.run_sync(recorded.close_idle)


async def ended(task: "asyncio.Task[None]") -> None:
    """End a task."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _response(answered: Answered, media: str) -> Response:
    value = answered.value
    if isinstance(value, Path):
        return FileResponse(value, headers=answered.headers, media_type=media)
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    headers = {"content-type": media, **answered.headers}
    return Response(body, answered.status, headers)


def _socket(stream: EventStream) -> Callable[[WebSocket], Coroutine[Any, Any, None]]:
    async def endpoint(socket: WebSocket) -> None:
        await stream.serve(socket, converted_query(StreamQuery, socket.query_params))

    return endpoint


def _video(stream: VideoStream) -> Callable[[WebSocket], Coroutine[Any, Any, None]]:
    async def endpoint(socket: WebSocket) -> None:
        converted_query(NoQuery, socket.query_params)
        await stream.serve(socket, socket.path_params["source"])

    return endpoint


def _fixed(data: bytes, media: str) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        if media != TYPES["html"]:  # what is in the query of a page is for its script
            converted_query(NoQuery, request.query_params)
        return Response(data, headers={"content-type": media})

    return endpoint


def _pages() -> dict[str, tuple[str, bytes]]:
    """Return the files of the pages by path: no request reaches the file system."""
    static = resources.files("streamvis.web") / "static"
    found = {}
    for folder, address in ((static, "/static"), (static / "vendor", "/static/vendor")):
        for file in folder.iterdir():
            name, _, ending = file.name.rpartition(".")
            if ending in TYPES:
                path = f"{address}/{file.name}"
                if ending == "html":
                    path = "/" if name == "index" else f"/{name}"
                found[path] = (TYPES[ending], file.read_bytes())
    return found


def _json_errors(router: Router) -> Application:
    """Answer unknown paths and methods as all errors are."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await router({**scope, "app": router}, receive, send)
        except HTTPException as error:
            what = HTTPStatus(error.status_code).phrase.lower()
            path = shown(str(scope["path"]))
            raise RefusedError(
                error.status_code,
                "path",
                f"{scope.get('method', 'WebSocket')} {path}: {what}",
                expected="a path and method of /api/openapi.json",
                headers=dict(error.headers or {}),
            ) from None

    return app
