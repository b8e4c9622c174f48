"""Calls of blocking functions by connections that end meanwhile."""

import asyncio
import gc
import threading

import pytest
from anyio import CapacityLimiter
from waiting import PATIENCE_S

from streamvis.web.tasks import in_thread


def test_a_cancelled_call_waits_for_its_end_and_its_error_is_nobodys():
    begun, ended, complaints = threading.Event(), threading.Event(), []

    def fails():
        begun.set()
        assert ended.wait(PATIENCE_S)
        raise ValueError

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
        call = asyncio.ensure_future(in_thread(fails, CapacityLimiter(1)))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        call.cancel()
        done, _ = await asyncio.wait([call], timeout=0.05)
        assert not done  # the function still runs
        ended.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        del call
        gc.collect()

    asyncio.run(main())
    gc.collect()
    assert complaints == []
