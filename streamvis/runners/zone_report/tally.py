"""Sums and maxima by key in a temporary file, so that memory does not grow with their number."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

BUFFERED = 4096  # keys that are held in memory, of each tally


class Columns(NamedTuple):
    """The columns of a tally."""

    keys: tuple[str, ...]
    sums: tuple[str, ...]
    largest: tuple[str, ...] = ()


class Scratch:
    """A temporary database that is deleted when it is closed."""

    def __init__(self) -> None:
        self.db = sqlite3.connect("", isolation_level=None)  # in a file as soon as it is large
        self.db.execute("PRAGMA journal_mode = OFF")
        self.db.execute("PRAGMA synchronous = OFF")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.db.close()


class Tally:
    """Sums and maxima of values by key."""

    def __init__(self, scratch: Scratch, name: str, columns: Columns) -> None:
        self._db, self._name, self.columns = scratch.db, name, columns
        self._held: dict[tuple[Any, ...], list[float]] = {}
        keys, sums, largest = (", ".join(some) for some in columns)
        values = ", ".join(filter(None, (sums, largest)))
        self._db.execute(f"CREATE TABLE {name} ({keys}, {values}, PRIMARY KEY ({keys}))")
        marks = ", ".join("?" * (len(columns.keys) + len(columns.sums) + len(columns.largest)))
        changes = [f"{one} = {one} + excluded.{one}" for one in columns.sums]
        changes += [f"{one} = max({one}, excluded.{one})" for one in columns.largest]
        self._upsert = (
            f"INSERT INTO {name} VALUES ({marks}) "
            f"ON CONFLICT ({keys}) DO UPDATE SET {', '.join(changes)}"
        )

    def add(self, key: tuple[Any, ...], *values: float) -> None:
        """Add the sums, then compare the maxima, of one key."""
        held = self._held.get(key)
        if held is None:
            if len(self._held) >= BUFFERED:
                self._flush()
            self._held[key] = list(values)
            return
        sums = len(self.columns.sums)
        for i, value in enumerate(values):
            held[i] = held[i] + value if i < sums else max(held[i], value)

    def rows(self, *by: str, source: str | None = None) -> Iterator[tuple[Any, ...]]:
        """Yield keys and values in order of the keys: of all of them, or of those named alone.

        source: only those whose key `source` it is. Named keys may be expressions of keys.
        """
        self._flush()
        keys = ", ".join(by or self.columns.keys)
        values = [f"sum({one})" for one in self.columns.sums]
        values += [f"max({one})" for one in self.columns.largest]
        where = "" if source is None else "WHERE source = ?"
        query = (
            f"SELECT {keys}, {', '.join(values)} FROM {self._name} {where} "
            f"GROUP BY {keys} ORDER BY {keys}"
        )
        yield from self._db.execute(query, () if source is None else (source,))

    def _flush(self) -> None:
        rows: Sequence[tuple[Any, ...]] = [(*key, *held) for key, held in self._held.items()]
        self._db.execute("BEGIN")
        self._db.executemany(self._upsert, rows)
        self._db.execute("COMMIT")
        self._held.clear()
