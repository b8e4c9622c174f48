"""Training files: YAML that is one of the recipes."""

from pathlib import Path
from typing import TypeVar

import msgspec
import yaml

from streamvis.errors import ConfigError
from streamvis.shipped import find

R = TypeVar("R")


def read_recipe(path: Path, kind: type[R]) -> R:
    """Read a training file, or a shipped one by name; ConfigError in one line."""
    file = find(path, "training file")
    try:
        return msgspec.convert(yaml.safe_load(file.read_text(encoding="utf-8")), kind)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (msgspec.ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
