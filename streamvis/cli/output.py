"""Printing: data on stdout as text, JSON or a table; messages and errors on stderr."""

import errno
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import typer

from streamvis.errors import StreamvisError, UsageError
from streamvis.installation import imports_of_packages

if TYPE_CHECKING:
    from rich.table import Table as RenderableTable

    from streamvis.messages import Array
    from streamvis.runners.tables import Table

P = ParamSpec("P")
Text = Iterable["Table | str"]  # tables and lines, for people
PARTIAL = 5  # exit code: some of several files failed
INTERRUPTED = 130
UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def prepare_streams() -> None:
    """Open standard streams that are closed, whose numbers other files would take, on /dev/null.

    Characters that the encoding of a stream lacks are printed as escapes.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - for the whole process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def reported_errors() -> Iterator[None]:
    """A StreamvisError becomes one line on stderr and its exit code; Ctrl-C becomes 130."""
    try:
        with imports_of_packages():
            yield
        sys.stdout.flush()
    except StreamvisError as error:
        print(f"streamvis: {error}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        print("streamvis: interrupted", file=sys.stderr)  # noqa: T201
        raise typer.Exit(INTERRUPTED) from None
    except OSError as error:
        raise typer.Exit(code_of_output(error)) from None


def code_of_output(error: OSError) -> int:
    """Return the exit code for output that cannot be written, and say why; else raise the error."""
    if not isinstance(error, BrokenPipeError):  # whose reader has gone, which is no failure
        if error.errno not in UNWRITABLE or error.filename is not None:
            raise error
        say(f"streamvis: the output cannot be written: {error.strerror}")
    nowhere = os.open(os.devnull, os.O_WRONLY)  # takes what still waits to be written
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return int(not isinstance(error, BrokenPipeError))


def command(
    app: typer.Typer, name: str | None = None
) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Register a function as a command whose errors are reported."""

    def register(function: Callable[P, None]) -> Callable[P, None]:
        @reported_errors()
        @wraps(function)
        def run(*arguments: P.args, **options: P.kwargs) -> None:
            _check_finite(options)
            function(*arguments, **options)

        app.command(name, help=_paragraphs(function))(run)
        return function

    return register


def _check_finite(options: Mapping[str, object]) -> None:
    """Raise UsageError for a number that is infinite, or none, which passes limits of options."""
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, float) and not math.isfinite(one):
                option = name.strip("_").replace("_", "-")
                raise UsageError(f"--{option} {one}: expected a finite number")


def _paragraphs(function: Callable[P, None]) -> str:
    """Return the docstring with a line for each paragraph, which the terminal breaks."""
    return "\n\n".join(" ".join(part.split()) for part in (function.__doc__ or "").split("\n\n"))


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


def put_result(value: Any, text: Text, *, json: bool) -> None:
    """Print a result: the value as JSON where that is asked for, else its text."""
    if json:
        put_json(value)
    else:
        put_text(text)


def put_text(text: Text) -> None:
    """Data as tables and lines for people."""
    for part in text:
        if isinstance(part, str):
            put(part)
        else:
            put_table(*part)


def put_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Data as a table for people."""
    from rich.console import Console

    console = Console(markup=False, emoji=False)  # names of files may look like either
    if not console.is_terminal:  # piped into a file: as wide as it needs to be
        console = Console(markup=False, emoji=False, width=200)
    with console.capture() as text:  # which exits by itself when the reader of a pipe has gone
        console.print(rich_table(title, columns, rows))
    sys.stdout.write(text.get())


def rich_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> "RenderableTable":
    """Render a table: numbers are aligned right; None is a dash."""
    from rich import box
    from rich.table import Table

    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left")
    for index, name in enumerate(columns):
        numeric = rows and all(isinstance(row[index], int | float | None) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _cell(value: object) -> str:
    """Return shares with three decimals, larger numbers with one."""
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    return f"{value:.3f}" if abs(value) < 2 else f"{value:.1f}"


def begin(*results: Path | None) -> None:
    """Prepare for long work: check where its results go, and keep memory that is freed."""
    from streamvis.runtime.processes import keep_memory

    for path in filter(None, results):
        check_writable(path)
    keep_memory()


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
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    say(f"wrote {path}")
