"""Reader of training recipes in YAML."""

from pathlib import Path
from typing import TypeVar

from streamvis.errors import ConfigError
from streamvis.parsing import convert, read_yaml
from streamvis.shipped import find

R = TypeVar("R")


def read_recipe(path: Path, kind: type[R]) -> R:
    """Read a recipe of this kind from a path, or a shipped one by name; ConfigError."""
    raw = read_yaml(find(path, "training file"), ConfigError)
    return convert(raw, kind, path, ConfigError)
