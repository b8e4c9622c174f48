"""Training files: YAML that is one of the recipes."""

from pathlib import Path
from typing import TypeVar

import msgspec
import yaml

from streamvis.errors import ConfigError

R = TypeVar("R")


def read_recipe(path: Path, kind: type[R]) -> R:
    """Read a training file; ConfigError in one line."""
    try:
        return msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), kind)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (msgspec.ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
