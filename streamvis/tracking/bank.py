"""The tracks of one source as a struct of arrays, and its exact bytes."""

from typing import Any

import msgspec
import numpy as np

from streamvis.errors import DataError
from streamvis.messages import Array

LAYOUT: dict[str, tuple[type, tuple[int, ...]]] = {
    "id": (np.int64, ()),
    "x": (np.float64, (6,)),
    "P": (np.float64, (6, 6)),
    "r": (np.float64, ()),
    "first_us": (np.int64, ()),
    "seen_us": (np.int64, ()),
}


class Bank(msgspec.Struct, kw_only=True):
    """N tracks, the oldest first."""

    id: Array  # (N,) 0 while tentative
    x: Array  # (N, 6) see spaces
    P: Array  # (N, 6, 6)
    r: Array  # (N,) probability of existence
    first_us: Array  # (N,) media time of the first detection
    seen_us: Array  # (N,) and of the last one that was probably the track's

    def __len__(self) -> int:
        return len(self.id)

    def take(self, rows: Array) -> "Bank":
        return Bank(**{name: getattr(self, name)[rows] for name in LAYOUT})

    def join(self, other: "Bank") -> "Bank":
        both = {name: (getattr(self, name), getattr(other, name)) for name in LAYOUT}
        return Bank(**{name: np.concatenate(pair) for name, pair in both.items()})

    def pack(self) -> dict[str, bytes]:
        return {name: getattr(self, name).tobytes() for name in LAYOUT}


def empty() -> Bank:
    return Bank(**{name: np.zeros((0, *shape), kind) for name, (kind, shape) in LAYOUT.items()})


def unpack(packed: dict[str, bytes]) -> Bank:
    """The bank that `pack` wrote, bit for bit; DataError on anything else."""
    try:
        arrays: dict[str, Any] = {
            name: np.frombuffer(packed[name], kind).reshape(-1, *shape).copy()
            for name, (kind, shape) in LAYOUT.items()
        }
    except (KeyError, ValueError) as error:
        raise DataError(f"not the state of a tracker: {error!r}") from None
    if len({len(array) for array in arrays.values()}) != 1:
        raise DataError("not the state of a tracker: its arrays differ in length")
    return Bank(**arrays)
