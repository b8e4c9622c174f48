"""List the videos and images of directories and globs, in natural order.

Names that begin with a dot are never listed: file managers leave `._frame_000001.jpg` and the like
beside real files. Annotated videos of runs are not listed either. A directory is visited once,
regardless of links to it.
"""

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

_VIDEO = (
    "mp4 m4v mov avi mkv webm ts mts m2ts mpg mpeg mjpeg mjpg wmv flv 3gp ogv "
    "h264 264 h265 265 hevc y4m mxf asf vob gif"
)
_IMAGE = "jpg jpeg png bmp tif tiff webp ppm pgm pnm jp2 apng avif heic heif"
VIDEOS = frozenset(f".{name}" for name in _VIDEO.split())
IMAGES = frozenset(f".{name}" for name in _IMAGE.split())
CHECKS = "ground_plane.png"  # `streamvis calibrate` leaves these beside videos: not pictures of it
OF_A_RUN = ("summary.json", "run.json", "events.db")  # one of them is in each run's directory
MOST_FOLDERS = 1000  # visited to count videos that are not taken


def warn(text: str) -> None:
    """Print a warning on stderr; stdout is for data."""
    sys.stderr.write(f"streamvis: {text}\n")


def entries(folder: Path) -> list[Path]:
    """The entries of a directory, in natural order: 2 before 10."""
    return sorted((path for path in folder.iterdir() if not is_hidden(path)), key=_natural)


def is_hidden(path: Path) -> bool:
    """Whether a name begins with a dot."""
    return path.name.startswith(".")


def matches(pattern: str) -> list[Path]:
    """The matches of a glob, in natural order; `**` is any number of directories."""
    found = {path for path in map(Path, _expanded(pattern)) if not is_hidden(path)}
    return sorted(found, key=_natural)


def videos_in(paths: Iterable[Path]) -> list[Path]:
    """The videos among the paths, without annotated ones in output directories."""
    files = (path for path in paths if path.suffix.lower() in VIDEOS and path.is_file())
    return [path for path in files if not _is_annotated(path)]


def _is_annotated(path: Path) -> bool:
    """Whether a run has written this video: --out may lie among the recordings."""
    named = re.fullmatch(r"annotated([-.].*)?\.mp4", path.name)
    return bool(named) and any((path.parent / file).is_file() for file in OF_A_RUN)


def images_in(paths: Iterable[Path]) -> list[Path]:
    return [p for p in paths if p.suffix.lower() in IMAGES and not p.name.endswith(CHECKS)]


def images_of(uri: str) -> list[Path]:
    """The image files of a directory, glob or single path, in natural order."""
    path = Path(uri)
    if path.is_file():
        return [path] if path.suffix.lower() in IMAGES else []
    return images_in(entries(path) if path.is_dir() else matches(uri))


def folders(top: Path) -> Iterator[Path]:
    """A directory and those below it, each once; warns of those that cannot be listed."""
    seen: set[tuple[int, int]] = set()
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            below = [path for path in entries(folder) if path.is_dir()]
        except OSError as error:
            warn(f"directory '{folder}' cannot be read: {error.strerror}")
            continue
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            yield folder
            waiting += reversed(below)


def videos_below(top: Path) -> tuple[list[Path], bool]:
    """The videos in the directories below `top`, each file once; and whether all were visited."""
    lower = list(islice(folders(top), MOST_FOLDERS + 1))
    videos = [video for folder in lower[1:] for video in videos_in(entries(folder))]
    return distinct(videos), len(lower) <= MOST_FOLDERS


def distinct(paths: Iterable[Path]) -> list[Path]:
    """Each real file once, by its own name rather than by that of a link to it."""
    chosen: dict[Path, Path] = {}
    for path in paths:
        real = path.resolve()
        if real not in chosen or (chosen[real].is_symlink() and not path.is_symlink()):
            chosen[real] = path
    return list(chosen.values())


def _expanded(pattern: str) -> Iterator[str]:
    """As glob.glob with recursive=True, which follows links in circles and would not end."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from glob.iglob(pattern)
        return
    at = parts.index("**")
    rest = parts[at + 1 :]
    for base in glob.iglob(os.path.join(*parts[:at])) if at else ["."]:
        if not rest:
            yield base
        for folder in folders(Path(base)):
            yield from _expanded(os.path.join(glob.escape(str(folder)), *(rest or ("*",))))


def _natural(path: Path) -> list[tuple[int, str]]:
    pieces = re.split(r"(\d+)", path.name)
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in pieces] + [(-1, str(path.parent))]
