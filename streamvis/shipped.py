"""Finds the pipelines, placements and training files of the package by name.

find(Path("actions"), "pipeline")  # …/streamvis/pipelines/actions.yaml
find(Path("my/own.yaml"), "pipeline")  # itself: a path takes precedence
"""

import re
from pathlib import Path
from typing import Literal

from streamvis.errors import ConfigError
from streamvis.parsing import alternatives

Kind = Literal["pipeline", "placement", "training file"]

HOME = Path(__file__).parent
FOLDERS: dict[Kind, Path] = {
    "pipeline": HOME / "pipelines",
    "placement": HOME / "configs",
    "training file": HOME / "configs/training",
}

SITE = HOME / "configs/site.yaml"  # a sample of a sources file, beside the placements


def names(kind: Kind) -> list[str]:
    """Return the names of the shipped files of this kind, sorted."""
    return sorted(path.stem for path in FOLDERS[kind].glob("*.yaml") if path != SITE)


def find(path: Path, kind: Kind) -> Path:
    """Return the file at this path or, if there is none, the shipped one of this name.

    Raises ConfigError, which lists the shipped names, when there is neither.
    """
    if path.exists() and not path.is_dir():
        return path
    if str(path) in names(kind):
        return FOLDERS[kind] / f"{path}.yaml"
    what = f"is a directory, not a {kind}" if path.is_dir() else "No such file"
    shown = re.sub(r"(?<=:/).*@", "", str(path))  # a URL in the wrong place may hold a password
    raise ConfigError(
        f"{shown}: {what}, and no {kind} of that name comes with "
        f"streamvis{alternatives(path.stem, names(kind))}"
    )
