"""The last evidence of the tracks that are alive, as arrays with a row for each track."""

import msgspec
import numpy as np

from streamvis.messages import Array

NEVER = -(2**62)  # media µs: no evidence yet
NEW = -1  # of `inside` and `side`: no evidence yet
LOST = 2**62  # of `present_us`: no frame has had the track for so long that it is taken as lost
ALL = slice(None)
Rows = Array | slice  # numbers of rows, or all of them
_ROWS = ("ids", "present_us", "p_exist", "sd", "last_us", "last_xy", "marked_us", "inside", "side")


class LiveTracks:
    """M tracks by ascending id, G groups, Z zones and L lines, as the machine numbers them."""

    def __init__(self, groups: int, zones: int, lines: int) -> None:
        self.ids = np.zeros(0, np.int64)  # (M,)
        self.present_us = np.zeros(0, np.int64)  # (M,) of the last frame that had the track; LOST
        self.p_exist = np.zeros(0)  # (M,)
        self.sd = np.zeros((0, groups))  # (M, G) standard deviation of the anchor, px or m
        self.last_us = np.zeros((0, groups), np.int64)  # (M, G) of the last evidence
        self.last_xy = np.zeros((0, groups, 2))  # (M, G, 2) anchor then
        self.marked_us = np.zeros((0, groups), np.int64)  # (M, G) of the last mark in the trail
        self.inside = np.zeros((0, zones), np.int8)  # (M, Z) 1, 0 or NEW
        self.side = np.zeros((0, lines), np.int8)  # (M, L) LEFT to BAND_RIGHT, or NEW

    def widen(self, groups: int, zones: int, lines: int) -> None:
        """Make room for groups, zones and lines that were added."""
        self.sd = _wider(self.sd, groups, 0)
        self.last_us = _wider(self.last_us, groups, NEVER)
        self.last_xy = _wider(self.last_xy, groups, 0)
        self.marked_us = _wider(self.marked_us, groups, NEVER)
        self.inside = _wider(self.inside, zones, NEW)
        self.side = _wider(self.side, lines, NEW)

    def rows_of(self, ids: Array) -> Rows:
        """Return the rows (N,) of ascending ids (N,); those that are new get one."""
        if len(ids) == len(self.ids) and (ids == self.ids).all():
            return ALL
        new = np.setdiff1d(ids, self.ids)
        if len(new):
            self._add(new)
        return np.searchsorted(self.ids, ids)

    def _add(self, new: Array) -> None:
        count = len(new)
        self.ids = np.append(self.ids, new)
        self.present_us = np.append(self.present_us, np.full(count, NEVER))
        self.p_exist = np.append(self.p_exist, np.zeros(count))
        for name, value in (("sd", 0), ("last_us", NEVER), ("last_xy", 0), ("marked_us", NEVER)):
            self._append(name, count, value)
        self._append("inside", count, NEW)
        self._append("side", count, NEW)
        self._take(np.argsort(self.ids, kind="stable"))

    def _append(self, name: str, count: int, value: int) -> None:
        rows = getattr(self, name)
        more = np.full((count, *rows.shape[1:]), value, rows.dtype)
        setattr(self, name, np.concatenate([rows, more]))

    def _take(self, rows: Array) -> None:
        for name in _ROWS:
            setattr(self, name, getattr(self, name)[rows])

    def row(self, number: int) -> int | None:
        """Return the row of a track; None when it is not alive."""
        row = int(self.ids.searchsorted(number))
        return row if row < len(self.ids) and self.ids[row] == number else None

    def is_lost(self, number: int) -> bool:
        """Whether a track is alive and taken as lost."""
        row = self.row(number)
        return row is not None and bool(self.present_us[row] == LOST)

    def absent_since(self) -> int:
        """Return the time of the last frame with the track that is absent longest; else LOST."""
        return int(self.present_us.min(initial=LOST))

    def lose(self, until_us: int) -> list[int]:
        """Take the tracks that no frame has had since then as lost; return their numbers."""
        rows = np.flatnonzero(self.present_us <= until_us)
        self.present_us[rows] = LOST
        return self.ids[rows].tolist()

    def reset(self, row: int) -> None:
        """Forget the evidence of a track."""
        self.last_us[row], self.last_xy[row], self.marked_us[row] = NEVER, 0, NEVER
        self.inside[row], self.side[row] = NEW, NEW

    def drop(self, numbers: set[int]) -> None:
        """Remove tracks that have ended; others are ignored."""
        gone = np.isin(self.ids, list(numbers))
        if gone.any():
            self._take(np.flatnonzero(~gone))

    def rename(self, names: dict[int, int]) -> None:
        """Give tracks other ids, all at once; a track whose id is given to another one is gone."""
        taken = [n for n in self.ids.tolist() if n in names.values() and n not in names]
        self.drop(set(taken))
        self.ids = np.array([names.get(n, n) for n in self.ids.tolist()], np.int64)
        self._take(np.argsort(self.ids, kind="stable"))

    def encode(self) -> bytes:
        """Return all rows as bytes."""
        return _encoder.encode(
            {
                name: (value.dtype.str, value.shape, value.tobytes())
                for name in _ROWS
                for value in [getattr(self, name)]
            }
        )

    def decode(self, data: bytes) -> None:
        """Replace all rows by what `encode` returned; DecodeError or ValueError on others."""
        rows = _decoder.decode(data)
        if set(rows) != set(_ROWS):
            raise ValueError(f"live tracks with {', '.join(rows)}; expected {', '.join(_ROWS)}")
        for name, (dtype, shape, content) in rows.items():
            setattr(self, name, np.frombuffer(content, np.dtype(dtype)).reshape(shape).copy())


def index(rows: Rows, columns: Rows) -> tuple[Rows, Rows]:
    """Return what selects a block of rows and columns."""
    if isinstance(rows, slice) or isinstance(columns, slice):
        return rows, columns
    return rows[:, None], columns


def _wider(rows: Array, width: int, value: int) -> Array:
    missing = width - rows.shape[1]
    if missing <= 0:
        return rows
    more = np.full((len(rows), missing, *rows.shape[2:]), value, rows.dtype)
    return np.concatenate([rows, more], axis=1)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, tuple[str, tuple[int, ...], bytes]])
