"""Where recordings are: `recordings/<source>/<date>/`, `clips/<source>/<date>/`, all in UTC."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

SEGMENTS, CLIPS = "recordings", "clips"  # in the output directory
NAME = re.compile(r"(\d{6})-[A-Za-z0-9._-]+\.mp4")
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def names(folder: Path, at_s: float, what: str) -> Iterator[Path]:
    """Yield paths for a recording of this time (seconds since 1970), best first."""
    at = datetime.fromtimestamp(at_s, UTC)
    home = folder / f"{at:%Y-%m-%d}"
    stem = f"{at:%H%M%S}-{re.sub('[^A-Za-z0-9._-]', '-', what)}"
    for number in count():
        yield home / (f"{stem}_{number}.mp4" if number else f"{stem}.mp4")


def time_of(path: Path) -> float | None:
    """Return the time in the name of a recording, seconds since 1970; None: it is none."""
    match = NAME.fullmatch(path.name)
    if match is None or not DATE.fullmatch(path.parent.name):
        return None
    try:
        text = f"{path.parent.name} {match[1]}+0000"
        return datetime.strptime(text, "%Y-%m-%d %H%M%S%z").timestamp()
    except ValueError:
        return None
