"""Printing: data on stdout as text, JSON or a table; messages and errors on stderr."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from streamvis.errors import StreamvisError, UsageError
from streamvis.installation import imports_of_packages

if TYPE_CHECKING:
    from streamvis.messages import Array

T = TypeVar("T")
PARTIAL = 5  # exit code: some of several files failed
INTERRUPTED = 130


@contextmanager
def reported_errors() -> Iterator[None]:
    """A StreamvisError becomes one line on stderr and its exit code; Ctrl-C becomes 130."""
    try:
        with imports_of_packages():
            yield
    except StreamvisError as error:
        print(f"streamvis: {error}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        print("streamvis: interrupted", file=sys.stderr)  # noqa: T201
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # the reader of our output has gone
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115 - until the end of the process
        raise typer.Exit(0) from None


def say(text: str) -> None:
    """A line for the person at the terminal."""
    print(text, file=sys.stderr)  # noqa: T201


def put(text: str) -> None:
    """A line of data."""
    print(text)  # noqa: T201


def put_json(value: Any) -> None:
    """Data as one JSON document."""
    import msgspec

    put(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def put_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Data as a table for people; numbers are aligned right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left")
    for index, name in enumerate(columns):
        numeric = rows and all(isinstance(row[index], int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console = Console(markup=False, emoji=False)  # names of files may look like either
    if not console.is_terminal:  # piped into a file: as wide as it needs to be
        console = Console(markup=False, emoji=False, width=200)
    console.print(table)


def or_dash(value: T | None) -> T | str:
    """The value, or a dash where there is none."""
    return "-" if value is None else value


def check_writable(path: Path) -> None:
    """Raise UsageError, before the work, where its result could not be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path} cannot be written: it is a directory, or lies in a locked one")


def write_png(path: Path, image: "Array") -> None:
    """Write an image (H, W, 3) uint8 RGB, and say so."""
    import cv2

    _, data = cv2.imencode(".png", image[..., ::-1])
    path.write_bytes(data.tobytes())
    say(f"wrote {path}")


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3f}" if abs(value) < 2 else f"{value:.1f}"  # shares, and all else
