"""Training files: YAML that is one of the recipes."""

from pathlib import Path
from typing import TypeVar

from streamvis.errors import ConfigError
from streamvis.parsing import convert, read_yaml
from streamvis.shipped import find

R = TypeVar("R")


def read_recipe(path: Path, kind: type[R]) -> R:
    """Read a training file, or a shipped one by name; ConfigError in one line."""
    raw = read_yaml(find(path, "training file"), ConfigError)
    return convert(raw, kind, path, ConfigError)
