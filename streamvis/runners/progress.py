"""Progress of a runner: a callable through which it passes what it iterates over."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Yields the items unchanged, and may show how many have been taken."""

    def __call__(
        self, items: Iterable[T], title: str, total: int | None = None, /
    ) -> Iterable[T]: ...


def silent(items: Iterable[T], title: str, total: int | None = None, /) -> Iterator[T]:
    """Yield the items and show nothing."""
    yield from items
