"""Types of settings that several kinds of stages have."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,64}$")]
Polygon = Annotated[list[tuple[Share, Share]], Meta(min_length=3)]  # corners [x, y] in order
Gate = Literal["auto"] | bool  # of a detector: whether it looks only where something has moved


def signed_area(polygon: Sequence[tuple[float, float]]) -> float:
    """Return the signed area of a polygon by the shoelace formula, in squared units of it."""
    following = [*polygon[1:], polygon[0]]
    return sum(x * v - u * y for (x, y), (u, v) in zip(polygon, following, strict=True)) / 2


def check_areas(polygons: Iterable[Polygon]) -> None:
    """Raise ValueError for a polygon of a setting `region` that encloses no area."""
    for polygon in polygons:
        if abs(signed_area(polygon)) < 5e-10:
            raise ValueError(
                f"the polygon {[list(corner) for corner in polygon]} in `region` encloses no "
                "area; list its corners in order, as you would walk around it"
            )
