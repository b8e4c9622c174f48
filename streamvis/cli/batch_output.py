"""The progress bar and the table of `streamvis batch`; it imports rich, so import it when used."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from streamvis.batch.results import Result, line_of, printable, totals
from streamvis.cli.output import say
from streamvis.runners.tables import Table


class ProgressBar:
    """Shows the progress of a batch on stderr; without a terminal, one line per completed file."""

    def __init__(self, files: int) -> None:
        console = Console(stderr=True)
        self._files = files
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[fps]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._total = self._bar.add_task("files", total=files, fps="")

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def started(self, file: str) -> Any:
        return self._bar.add_task(printable(file), total=None, fps="")

    def advanced(self, handle: Any, frames: int, fps: float) -> None:
        self._bar.update(handle, completed=frames, fps=f"{fps:.1f} fps")

    def ended(self, handle: Any) -> None:
        self._bar.remove_task(handle)

    def completed(self, result: Result, number: int) -> None:
        self._bar.advance(self._total)
        if result.state != "skipped":
            say(f"[{number}/{self._files}] {line_of(result)}")

    def warn(self, text: str) -> None:
        say(f"streamvis: {text}")


def text_of(results: Sequence[Result], out: Path) -> Iterator[Table | str]:
    """Yield the results as a table, and a line of totals."""
    rows = [
        (
            *(printable(r.file), r.state),
            f"{r.frames} of {r.frames_promised}" if r.frames_promised else str(r.frames),
            f"{r.seconds:.1f}" if r.seconds else None,
            *(r.directory or None, printable(r.why)),
        )
        for r in results
    ]
    columns = ("file", "state", "frames", "seconds", "directory", "why")
    yield Table(f"in {out}", columns, rows)
    counts = ", ".join(f"{count} {state}" for state, count in totals(results).items())
    yield f"{len(results)} file{'s' * (len(results) != 1)}: {counts}"
