"""Ends a bridge in good order on SIGTERM or SIGINT, also while it waits for another system."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(BaseException):  # no error, and nobody who catches errors may catch it
    """A signal came while the bridge waited for another system."""


class Stop:
    """Whether the bridge was asked to end."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._asked = threading.Event()
        self._interrupts = False

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def ask(self, signum: int | None = None, frame: FrameType | None = None) -> None:
        """Have the bridge end; in a signal handler, raise Stopped where that is allowed."""
        self.signal = self.signal or signum
        self._asked.set()
        if self._interrupts:
            self._interrupts = False
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Wait so long, or until the bridge is asked to end."""
        self._asked.wait(seconds)

    @contextmanager
    def interrupts(self) -> Iterator[None]:
        """Allow a signal to raise Stopped in this block, which may be left at any instruction."""
        self._interrupts = True
        try:
            if self.asked:
                raise Stopped
            yield
        finally:
            self._interrupts = False

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Have SIGTERM, SIGINT and SIGHUP ask for the end, but those ignored so far (nohup)."""
        heeded = [one for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
        before = {one: signal.signal(one, self.ask) for one in heeded}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
