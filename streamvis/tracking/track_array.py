"""The tracks of one source as a struct of arrays, and its exact encoding."""

import math
from typing import Any

import msgspec
import numpy as np

from streamvis.errors import DataError
from streamvis.messages import Array

LATER = frozenset(
    {"hidden", "copy", "copy_s", "copy_us", "asked_s"}
)  # fields that older states lack; zeros
EMBEDDING_LENGTH = -1  # placeholder for the embedding length, 0 without embeddings
LAYOUT: dict[str, tuple[type, tuple[int, ...]]] = {
    "id": (np.int64, ()),
    "x": (np.float64, (6,)),
    "P": (np.float64, (6, 6)),
    "r": (np.float64, ()),
    "hidden": (np.float64, ()),
    "first_us": (np.int64, ()),
    "seen_us": (np.int64, ()),
    "apart_s": (np.float64, ()),
    "known": (np.float32, (EMBEDDING_LENGTH,)),
    "known_s": (np.float64, ()),
    "fresh": (np.float32, (EMBEDDING_LENGTH,)),
    "fresh_s": (np.float64, ()),
    "look_us": (np.int64, ()),
    "copy": (np.float16, (EMBEDDING_LENGTH,)),
    "copy_s": (np.float64, ()),
    "copy_us": (np.int64, ()),
    "came_in": (np.bool_, ()),
    "group": (np.int64, ()),
    "doubt_us": (np.int64, ()),
    "asked_s": (np.float64, ()),
}


class TrackArray(msgspec.Struct, kw_only=True):
    """N tracks, the oldest first."""

    id: Array  # (N,) 0 while tentative
    x: Array  # (N, 6) see state_space
    P: Array  # (N, 6, 6)
    r: Array  # (N,) probability of existence
    hidden: Array  # (N,) probability that a person who is there cannot be detected
    first_us: Array  # (N,) media time of the first detection
    seen_us: Array  # (N,) media time of the last probable detection
    apart_s: Array  # (N,) time detected apart from older tracks
    known: Array  # (N, D) mean embedding of the identity, unit length or zeros
    known_s: Array  # (N,) unoccluded time that it averages
    fresh: Array  # (N, D) mean embedding since the id became ambiguous
    fresh_s: Array  # (N,) unoccluded time that it averages
    look_us: Array  # (N,) media time of the last embedding
    copy: Array  # (N, D) an earlier `known`, to learn how people change
    copy_s: Array  # (N,) unoccluded time that it averages
    copy_us: Array  # (N,) media time of its last embedding; 0: there is none
    came_in: Array  # (N,) whether it began at the edge of the frame
    group: Array  # (N,) tracks of one group may have swapped ids; 0: not ambiguous
    doubt_us: Array  # (N,) media time since when it is ambiguous
    asked_s: Array  # (N,) known_s when it was last compared with lost people

    def __len__(self) -> int:
        return len(self.id)

    @property
    def width(self) -> int:
        """Length D of the embeddings."""
        return int(self.known.shape[1])

    def take(self, rows: Array) -> "TrackArray":
        """Return a copy of some rows, by index or mask."""
        return TrackArray(**{name: getattr(self, name)[rows] for name in LAYOUT})

    def join(self, other: "TrackArray") -> "TrackArray":
        """Return these tracks, then the other ones; this very array if there are none."""
        if len(other) == 0:
            return self
        both = {name: (getattr(self, name), getattr(other, name)) for name in LAYOUT}
        return TrackArray(**{name: np.concatenate(pair) for name, pair in both.items()})

    def widen(self, width: int) -> None:
        """Drop all embeddings and set the length of new ones."""
        for name in ("known", "fresh", "copy"):
            setattr(self, name, np.zeros((len(self), width), LAYOUT[name][0]))
        self.known_s, self.fresh_s, self.copy_s = np.zeros((3, len(self)))
        self.copy_us = np.zeros(len(self), np.int64)

    def pack(self) -> dict[str, bytes]:
        """Return the bytes of each array, for `unpack`."""
        return {name: getattr(self, name).tobytes() for name in LAYOUT}


def blank(n: int, width: int) -> TrackArray:
    """Return N tracks of zeros, with embeddings of length `width`."""
    return TrackArray(
        **{name: np.zeros((n, *_shape(name, width)), LAYOUT[name][0]) for name in LAYOUT}
    )


def unpack(packed: dict[str, bytes], width: int) -> TrackArray:
    """Return the tracks that `pack` wrote, bit for bit; raises DataError on anything else."""
    try:
        n = len(packed["id"]) // 8
        unset = blank(n, width).pack()
        packed = {name: unset[name] for name in LATER} | packed
        arrays: dict[str, Any] = {
            name: _column(packed[name], kind, (n, *_shape(name, width)))
            for name, (kind, _) in LAYOUT.items()
        }
    except (KeyError, ValueError) as error:
        raise DataError(f"not the state of a tracker: {error!r}") from None
    return TrackArray(**arrays)


def _column(packed: bytes, kind: type, shape: tuple[int, ...]) -> Array:
    """Return an array of this kind; older states have float16 where it is float32 now."""
    half = kind is np.float32 and len(packed) == 2 * math.prod(shape)
    return np.frombuffer(packed, np.float16 if half else kind).reshape(shape).astype(kind)


def _shape(name: str, width: int) -> tuple[int, ...]:
    return tuple(width if side == EMBEDDING_LENGTH else side for side in LAYOUT[name][1])
