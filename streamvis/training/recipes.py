"""Reader of training recipes in YAML, and the types of their values."""

from pathlib import Path
from typing import Annotated, TypeVar

from msgspec import Meta

from streamvis.errors import ConfigError
from streamvis.parsing import convert, read_yaml
from streamvis.shipped import find

Share = Annotated[float, Meta(ge=0, le=1)]  # or a chance
Amount = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Span = tuple[Positive, Positive]  # smallest and largest
R = TypeVar("R")


def check_span(name: str, span: Span) -> None:
    """Raise ValueError unless the smallest of the setting `name` comes first."""
    if span[0] > span[1]:
        raise ValueError(
            f"`{name}` is {span[0]:g} to {span[1]:g}; expected the smallest, then the largest"
        )


def read_recipe(path: Path, kind: type[R]) -> R:
    """Read a recipe of this kind from a path, or a shipped one by name; ConfigError."""
    raw = read_yaml(find(path, "training file"), ConfigError)
    return convert(raw, kind, path, ConfigError)
