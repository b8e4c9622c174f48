"""What a run leaves in its directory once it has ended."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from streamvis.errors import StreamvisError


@contextmanager
def finished(out: Path | None) -> Iterator[None]:
    """Leave what is made from the log; a run that fails leaves what it has seen until then."""
    try:
        yield
    except StreamvisError:
        if out:
            with suppress(StreamvisError):
                finish(out)
        raise
    if out:
        finish(out)


def finish(out: Path) -> None:
    """Write what is made from the log once a run has ended."""
    from streamvis.events.export import write_tracks

    if (out / "events.db").exists():
        write_tracks(out / "events.db", out)
