"""The progress of a training's preparations, on a terminal."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def progress(items: Iterable[T], title: str, total: float | None = None) -> Iterator[T]:
    """Yield items, with a bar on stderr where that is a terminal. total: where it has no len."""
    console = Console(stderr=True)
    yield from track(items, title, total, console=console, disable=not console.is_terminal)
