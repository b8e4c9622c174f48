"""Checks zones files and draws them on a still: what `streamvis zones check` does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from streamvis.config import load_site, read_zones
from streamvis.config.zones import on_ground
from streamvis.errors import ConfigError, SourceError, UsageError
from streamvis.messages import Array
from streamvis.parsing import alternatives, read_mapping
from streamvis.runners.tables import Table
from streamvis.sources import SourceSpec, open_source, resolve
from streamvis.sources.privacy import hide
from streamvis.viz.zones import Label, Sides, Size, ZonesDrawing
from streamvis.zone_layout import Line, Zone, ZoneLayout

GREY = 96  # of a still without a picture
COLUMNS = ("source", "name", "shape", "space", "anchor", "counts", "publishes")


class CheckedZones(NamedTuple):
    """The zones and lines of a file, or of a source in a sources file."""

    source: str | None
    file: str  # zones file; or the sources file that has them
    layout: ZoneLayout
    spec: SourceSpec | None

    def as_json(self) -> dict[str, Any]:
        return {"source": self.source, "file": self.file, **msgspec.to_builtins(self.layout)}


def checked(path: Path, source: str | None) -> list[CheckedZones]:
    """Read a zones file, or the zones of a sources file; raises an error with file and place.

    `source` is one as of `run --source`; of a sources file the id of one in it.
    """
    if path.is_file() and "sources" in read_mapping(path, ConfigError, secret=True):
        return _in_site(path, source)
    layout = read_zones(path)
    spec = None if source is None else _only(source)
    if spec is not None and spec.kind != "synthetic" and spec.ground_plane is None:
        _refuse_metres(path, layout)
    return [CheckedZones(None if spec is None else spec.id, str(path), layout, spec)]


def _in_site(path: Path, source: str | None) -> list[CheckedZones]:
    specs = load_site(path.absolute()).specs()
    if source is not None:
        ids = [spec.id for spec in specs]
        if source not in ids:
            raise UsageError(f"{path} has no source '{source}'{alternatives(source, ids)}")
        specs = [spec for spec in specs if spec.id == source]
    found = [
        CheckedZones(spec.id, spec.zones_file or str(path), spec.zones, spec)
        for spec in specs
        if spec.zones is not None
    ]
    if not found:
        raise UsageError(f"{path} has no `zones` of a source; add them, or give a zones file")
    return found


def _only(source: str) -> SourceSpec:
    specs = resolve([source])
    if len(specs) != 1:
        raise UsageError(f"--source {source} is {len(specs)} sources; expected one")
    return specs[0]


def _refuse_metres(path: Path, layout: ZoneLayout) -> None:
    if wrong := on_ground(layout):
        raise ConfigError(f"{path}: {wrong}")


def table(found: Sequence[tuple[str | None, ZoneLayout]], title: str = "") -> Table:
    """Return a row for each zone and line of these sources."""
    rows: list[list[object]] = []
    for source, layout in found:
        rows += [_zone_row(source, zone) for zone in layout.zones]
        rows += [_line_row(source, line) for line in layout.lines]
    if any(row[0] is not None for row in rows):
        return Table(title, COLUMNS, rows)
    return Table(title, COLUMNS[1:], [row[1:] for row in rows])


def _zone_row(source: str | None, zone: Zone) -> list[object]:
    where = "outside of" if zone.outside else "inside of"
    shape = f"zone, {where} {len(set(zone.polygon))} corners"  # a closed ring repeats one
    crowd = [] if zone.crowd is None else [f"crowd of {zone.crowd} for {zone.crowd_s:g} s"]
    dwell = [f"dwell {', '.join(f'{s:g}' for s in zone.dwell_s)} s"] if zone.dwell_s else []
    after = f"enter {zone.enter_s:g} s, exit {zone.exit_s:g} s"
    rules = "; ".join([after, *dwell, *crowd])
    return [source, zone.name, shape, zone.space, zone.anchor, _counts(zone), rules]


def _line_row(source: str | None, line: Line) -> list[object]:
    start, end = (f"{x:g},{y:g}" for x, y in (line.start, line.end))
    rules = f"band {line.band:g}, settle {line.settle_s:g} s"
    shape = f"line from {start} to {end}"
    return [source, line.name, shape, line.space, line.anchor, _counts(line), rules]


def _counts(shape: Zone | Line) -> str:
    least = f", height ≥ {shape.min_height:g}" if shape.min_height else ""
    return f"{', '.join(shape.classes)}, p ≥ {shape.min_p_exist:g}{least}"


def still(one: CheckedZones, size: Size | None) -> Array:
    """Return a picture (H, W, 3) with the zones: the source's first, or a grey one of this size."""
    pixels, plane = _pixels(one, size)
    height, width = pixels.shape[:2]
    drawing = ZonesDrawing(one.layout, (width, height), plane)
    image = np.array(pixels, np.uint8, order="C")
    labels = drawing.draw(
        image,
        {zone.name: Label("outside" if zone.outside else "") for zone in one.layout.zones},
        {line.name: Sides() for line in one.layout.lines},
    )
    for label in labels:
        drawing.style.write_label(image, label)
    return image


def _pixels(one: CheckedZones, size: Size | None) -> tuple[Array, Array | None]:
    """Return the pixels to draw on, and the plane from their pixels to metres."""
    if one.spec is None or size is not None:
        if one.layout.needs_ground:
            raise UsageError(
                f"{one.file} cannot be drawn on grey, since it has metres on the ground; draw it "
                "on a picture of a source with a ground plane: --source"
            )
        width, height = size or (1280, 720)
        return np.full((height, width, 3), GREY, np.uint8), None
    source = open_source(one.spec)
    try:
        first = next(iter(source), None)
        if first is None:
            raise SourceError(f"{one.spec.label} has no picture")
        pixels = np.array(first.pixels, order="C")
        hide(pixels, one.spec.privacy_masks)
        rows = source.info.ground_plane
        return pixels, None if rows is None else np.reshape(rows, (3, 3))
    finally:
        source.close()
