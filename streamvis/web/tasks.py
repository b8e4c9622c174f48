"""How coroutines of a connection live and end together, and call what blocks."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

T = TypeVar("T")


async def in_thread(function: Callable[[], T], limiter: CapacityLimiter) -> T:
    """Call a function in a thread; when this is cancelled, wait for its end first.

    Otherwise what it uses would be closed while it uses it.
    """
    task = asyncio.ensure_future(to_thread.run_sync(function, limiter=limiter))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)  # nobody waits for its error either
        raise


class Close(NamedTuple):
    """How the server ends a connection."""

    code: int
    reason: str


async def first(*coroutines: Awaitable[Close | None]) -> Close | None:
    """Run all until one of them has ended, then end the others; return what the first returned.

    Errors of the first count.
    """
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        with suppress(WebSocketDisconnect, OSError):
            if (close := task.result()) is not None:
                return close
    return None


async def serve_until_first(socket: WebSocket, *coroutines: Awaitable[Close | None]) -> None:
    """Run the parts of a connection until one of them has ended, and close it if that one says so.

    None of them closes it by itself: another one may be about to send.
    """
    close = await first(*coroutines)
    if close is not None and socket.application_state is WebSocketState.CONNECTED:
        with suppress(WebSocketDisconnect, OSError):
            await socket.close(close.code, close.reason)
