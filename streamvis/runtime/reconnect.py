"""When a live source is connected again after it was lost."""

import msgspec

from streamvis.sources.spec import SourceSpec


class Reconnect(msgspec.Struct, frozen=True, kw_only=True):
    """The pauses between two attempts: 1, 2, 4, … s, each shortened by chance."""

    first_s: float = 1.0
    longest_s: float = 30.0
    open_s: float = 10.0  # in which an attempt has to connect
    read_s: float = 5.0  # silence after which the connection is given up
    give_up_s: float | None = None  # without a picture for so long, it has failed; None: never

    def pause_s(self, failed: int, chance: float) -> float:
        """Return the pause after `failed` attempts in a row, for a `chance` in [0, 1).

        Cameras behind one switch do not come back all at once.
        """
        return pause_s(failed, chance, self.first_s, self.longest_s)


def pause_s(failed: int, chance: float, first_s: float, longest_s: float) -> float:
    """Return the pause after `failed` attempts in a row, for a `chance` in [0, 1).

    Between half and all of min(longest_s, first_s · 2^(failed − 1)): those that failed together
    do not try again all at once.
    """
    pause = min(longest_s, first_s * 2 ** min(failed - 1, 30))
    return pause * (1 - chance / 2)


def reconnect_of(spec: SourceSpec, give_up_s: float | None = None) -> Reconnect | None:
    """Return how a source is connected again; None: it ends when it is lost."""
    if not spec.reconnects:
        return None
    return Reconnect(
        first_s=min(1.0, spec.retry_s),
        longest_s=spec.retry_s,
        open_s=spec.open_s,
        read_s=spec.read_s,
        give_up_s=give_up_s,
    )
