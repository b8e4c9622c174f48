"""Types of settings that several kinds of stages have."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,64}$")]
Polygon = Annotated[list[tuple[Share, Share]], Meta(min_length=3)]  # corners [x, y] in order


def signed_area(polygon: Sequence[tuple[float, float]]) -> float:
    """Return the signed area of a polygon by the shoelace formula, in squared units of it."""
    following = [*polygon[1:], polygon[0]]
    return sum(x * v - u * y for (x, y), (u, v) in zip(polygon, following, strict=True)) / 2
