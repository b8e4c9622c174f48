"""How long tests wait for what must come: far longer than it takes, since a machine may be busy."""

import time
from collections.abc import Callable

PATIENCE_S = 120.0


def until(met: Callable[[], object], what: object = "it") -> None:
    """Wait until a condition is met; fail with `what`, called if it is callable."""
    deadline = time.monotonic() + PATIENCE_S
    while not met():
        if time.monotonic() > deadline:
            told = what() if callable(what) else what
            raise AssertionError(f"{told} did not come about in {PATIENCE_S:g} s")
        time.sleep(0.02)
