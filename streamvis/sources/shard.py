"""Which of several hubs runs a source: rendezvous hashing of its id, without a coordinator.

Each shard has a weight for each id, and the largest one has the source. A weight does not depend on
the number of shards, so that one more shard takes 1/N of the sources and no other source moves
(Thaler and Ravishankar 1998, "Using name-based mappings to increase hit rates").
"""

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple, Self

from streamvis.errors import UsageError
from streamvis.sources.spec import SourceSpec

MOST_SHARDS = 1024
_PAIR = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


class Shard(NamedTuple):
    """The share of one of several hubs in the sources."""

    number: int  # from 1
    shards: int

    @classmethod
    def of(cls, text: str) -> Self:
        """Read `K/N`; UsageError when it is none."""
        pair = _PAIR.fullmatch(text)
        if pair is None or not 1 <= int(pair[1]) <= int(pair[2]) <= MOST_SHARDS:
            raise UsageError(
                f"--shard {text}: expected K/N, the number of the shard from 1 and how many there "
                f"are, at most {MOST_SHARDS}, such as 2/8"
            )
        return cls(int(pair[1]), int(pair[2]))

    def has(self, source: str) -> bool:
        """Whether the source with this id is in the shard."""
        return shard_of(source, self.shards) == self.number

    def among(self, specs: Iterable[SourceSpec]) -> list[SourceSpec]:
        """Return the sources that are in the shard."""
        return [spec for spec in specs if self.has(spec.id)]

    def __str__(self) -> str:
        return f"{self.number}/{self.shards}"


ALL = Shard(1, 1)


def shard_of(source: str, count: int) -> int:
    """Return the number of the shard, from 1 to `count`, that has the source with this id."""
    return max(range(1, count + 1), key=lambda number: _weight(number, source))


def _weight(number: int, source: str) -> bytes:
    return blake2b(f"{number}/{source}".encode(), digest_size=8).digest()
