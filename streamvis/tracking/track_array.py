"""The tracks of one source as a struct of arrays, and its exact bytes."""

from typing import Any

import msgspec
import numpy as np

from streamvis.errors import DataError
from streamvis.messages import Array

EMBEDDING_LENGTH = -1  # stands for the length of an embedding, 0 while there are none
LAYOUT: dict[str, tuple[type, tuple[int, ...]]] = {
    "id": (np.int64, ()),
    "x": (np.float64, (6,)),
    "P": (np.float64, (6, 6)),
    "r": (np.float64, ()),
    "first_us": (np.int64, ()),
    "seen_us": (np.int64, ()),
    "apart_s": (np.float64, ()),
    "known": (np.float16, (EMBEDDING_LENGTH,)),
    "known_s": (np.float64, ()),
    "fresh": (np.float16, (EMBEDDING_LENGTH,)),
    "fresh_s": (np.float64, ()),
    "look_us": (np.int64, ()),
    "came_in": (np.bool_, ()),
    "group": (np.int64, ()),
    "doubt_us": (np.int64, ()),
}


class TrackArray(msgspec.Struct, kw_only=True):
    """N tracks, the oldest first."""

    id: Array  # (N,) 0 while tentative
    x: Array  # (N, 6) see spaces
    P: Array  # (N, 6, 6)
    r: Array  # (N,) probability of existence
    first_us: Array  # (N,) media time of the first detection
    seen_us: Array  # (N,) and of the last one that was probably the track's
    apart_s: Array  # (N,) for how long it was seen apart from older tracks
    known: Array  # (N, D) what the person with this id looks like, unit length; or zeros
    known_s: Array  # (N,) for how many seconds that was seen
    fresh: Array  # (N, D) what whom the track follows looks like since its id came in doubt
    fresh_s: Array  # (N,)
    look_us: Array  # (N,) when it was last looked at
    came_in: Array  # (N,) whether it began at the edge of the picture
    group: Array  # (N,) tracks with the same number may have exchanged persons; 0: not in doubt
    doubt_us: Array  # (N,) since when

    def __len__(self) -> int:
        return len(self.id)

    @property
    def width(self) -> int:
        """Length D of the embeddings."""
        return int(self.known.shape[1])

    def take(self, rows: Array) -> "TrackArray":
        return TrackArray(**{name: getattr(self, name)[rows] for name in LAYOUT})

    def join(self, other: "TrackArray") -> "TrackArray":
        both = {name: (getattr(self, name), getattr(other, name)) for name in LAYOUT}
        return TrackArray(**{name: np.concatenate(pair) for name, pair in both.items()})

    def widen(self, width: int) -> None:
        """Forget all looks: those to come have this length."""
        self.known, self.fresh = np.zeros((2, len(self), width), LAYOUT["known"][0])
        self.known_s, self.fresh_s = np.zeros((2, len(self)))

    def pack(self) -> dict[str, bytes]:
        return {name: getattr(self, name).tobytes() for name in LAYOUT}


def blank(n: int, width: int) -> TrackArray:
    """N tracks of which nothing is known."""
    return TrackArray(
        **{name: np.zeros((n, *_shape(name, width)), LAYOUT[name][0]) for name in LAYOUT}
    )


def unpack(packed: dict[str, bytes], width: int) -> TrackArray:
    """The bank that `pack` wrote, bit for bit; DataError on anything else."""
    try:
        n = len(packed["id"]) // 8
        arrays: dict[str, Any] = {
            name: np.frombuffer(packed[name], kind).reshape(n, *_shape(name, width)).copy()
            for name, (kind, _) in LAYOUT.items()
        }
    except (KeyError, ValueError) as error:
        raise DataError(f"not the state of a tracker: {error!r}") from None
    return TrackArray(**arrays)


def _shape(name: str, width: int) -> tuple[int, ...]:
    return tuple(width if side == EMBEDDING_LENGTH else side for side in LAYOUT[name][1])
