"""Files and databases that a process of tests writes are not flushed: no test cuts the power.

A flush takes from 8 ms to seconds on a busy disk, and an event log is flushed ten times.
"""

import os
import sqlite3
from functools import partial
from typing import Any

import pytest

NORMAL, OFF = (f"PRAGMA synchronous = {how}" for how in ("NORMAL", "OFF"))


def flush_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "fsync", lambda fd: None)
    patch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=_Unflushed))


class _Unflushed(sqlite3.Connection):
    def execute(self, sql: str, *given: Any) -> sqlite3.Cursor:
        return super().execute(OFF if sql == NORMAL else sql, *given)

    def executescript(self, sql: str) -> sqlite3.Cursor:
        if not self.in_transaction:
            super().execute(OFF)
        return super().executescript(sql)
