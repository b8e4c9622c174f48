"""The pipelines, placements and training files that come with the package, found by name.

find(Path("actions"), "pipeline")  # …/streamvis/pipelines/actions.yaml
find(Path("my/own.yaml"), "pipeline")  # itself: a file goes before a name
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


def names(kind: Kind) -> list[str]:
    """What comes with the package, in order of the alphabet."""
    return sorted(path.stem for path in FOLDERS[kind].glob("*.yaml"))


def find(path: Path, kind: Kind) -> Path:
    """The file at this path or, where there is none, the shipped one of this name.

    ConfigError, naming those there are, when it is neither.
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
