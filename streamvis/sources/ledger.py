"""Counting the pictures that went into a decoder and never came out."""

import heapq

RESET_S = 1.0  # stamps that fall back further than any reordering start anew


class Ledger:
    """Notes the stamps of packets; a stamp that the decoder has passed over is a lost picture.

    Decoders drop damaged packets without always saying so, but they give pictures in the order
    of their stamps. Where a packet need not be one picture, or has no stamp, the ledger is not
    `trusted` and counts nothing.
    """

    def __init__(self, *, trusted: bool, ticks_per_s: float) -> None:
        self.trusted = trusted
        self._due: list[tuple[int, int]] = []  # a heap of (generation, stamp)
        self._sent = _Generation(RESET_S * ticks_per_s)
        self._come = _Generation(RESET_S * ticks_per_s)

    def sent(self, stamp: int | None) -> None:
        """A packet went into the decoder."""
        if stamp is None:
            self.trusted = False
        elif self.trusted:
            heapq.heappush(self._due, self._sent.key(stamp))

    def came(self, stamp: int | None) -> int:
        """A picture came out; how many before it were lost."""
        if not self.trusted or stamp is None:
            return 0
        key = self._come.key(stamp)
        lost = 0
        while self._due and self._due[0] <= key:
            lost += heapq.heappop(self._due) != key
        return lost

    def ended(self) -> int:
        """The decoder was flushed; how many pictures it still owed."""
        return len(self._due) if self.trusted else 0


class _Generation:
    """Numbers the stretches of a stream between two resets of its stamps."""

    def __init__(self, reset: float) -> None:
        self._reset = reset  # ticks
        self._number = 0
        self._latest: int | None = None

    def key(self, stamp: int) -> tuple[int, int]:
        """What a stamp is sorted by: (generation, stamp)."""
        if self._latest is not None and stamp < self._latest - self._reset:
            self._number += 1
            self._latest = stamp
        self._latest = stamp if self._latest is None else max(self._latest, stamp)
        return self._number, stamp
