"""When each of many items is due next, without a look at all of them."""

from collections.abc import Callable, Hashable, Iterable
from heapq import heappop, heappush
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class Timers(Generic[Item]):
    """The times at which items are due.

    `due_of` computes the time of one item. It may become later without a word: an item is looked
    at again when its earlier time has come. Items whose time may have become earlier are passed to
    `change`.
    """

    def __init__(self, due_of: Callable[[Item], float]) -> None:
        self._due_of = due_of
        self._changed: dict[Item, None] = {}  # items to look at, in order
        self._heap: list[tuple[float, int, Item]] = []
        self._times: dict[Item, float] = {}  # of the entry that counts; others are stale
        self._count = 0

    def change(self, items: Iterable[Item]) -> None:
        """Have these items looked at."""
        self._changed.update(dict.fromkeys(items))

    def due(self) -> float:
        """Return the time at which the first item is due; infinity without any."""
        self._look_at_changed()
        while self._heap:
            time, _, item = self._heap[0]
            if self._times.get(item) == time:
                if (now := self._due_of(item)) <= time:
                    return time
                heappop(self._heap)
                self._set(item, now)
            else:
                heappop(self._heap)
        return float("inf")

    def take(self, at: float) -> list[Item]:
        """Return the items that are due at a time; each is looked at again after this."""
        taken: list[Item] = []
        while self.due() <= at:
            item = heappop(self._heap)[2]
            del self._times[item]
            taken.append(item)
        self.change(taken)
        return taken

    def _look_at_changed(self) -> None:
        for item in self._changed:
            time = self._due_of(item)
            if time < self._times.get(item, float("inf")):
                self._set(item, time)
        self._changed.clear()

    def _set(self, item: Item, time: float) -> None:
        if time == float("inf"):
            self._times.pop(item, None)
            return
        self._times[item] = time
        self._count += 1
        heappush(self._heap, (time, self._count, item))
