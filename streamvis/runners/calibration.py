"""Calibrates a camera on one of its pictures: writes the ground plane, and a picture to check."""

import shlex
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

import streamvis
from streamvis.calibration import plane_file, quality
from streamvis.calibration.plane_file import Calibration
from streamvis.calibration.quality import CalibrationReport
from streamvis.errors import SourceError, UsageError
from streamvis.files import is_same
from streamvis.messages import Array
from streamvis.sources import SourceSpec, open_source, resolve
from streamvis.sources.credentials import redacted
from streamvis.viz.click_page import click_page
from streamvis.viz.ground_plane import NONE, check


class WrittenPlane(NamedTuple):
    """The files of a ground plane, and its quality as numbers and as lines."""

    path: Path
    picture: Path
    report: CalibrationReport
    lines: list[str]
    written: bool  # False: the plane was read from its file

    def as_json(self) -> dict[str, object]:
        return {"ground_plane": str(self.path), "picture": str(self.picture), "report": self.report}


def the_source(text: str) -> SourceSpec:
    """Return the one source that is meant; UsageError for several."""
    specs = resolve([text])
    if len(specs) != 1:
        raise UsageError(f"{text} is {len(specs)} sources; expected one")
    return specs[0]


def first_picture(spec: SourceSpec, at_s: float) -> Array:
    """Return the first picture (H, W, 3) at or after this time."""
    source = open_source(spec)
    try:
        for picture in source:
            if picture.media_us >= at_s * 1e6:
                return np.array(picture.pixels)
    finally:
        source.close()
    raise SourceError(f"{spec.label} has no picture at {at_s:g} s or after")


def write_click_page(path: Path, pixels: Array, source: str, at_s: float, out: Path | None) -> None:
    """Write a page to click points on, which shows the command that takes them."""
    words = ["streamvis", "calibrate", redacted(source)]
    words += ["--at", f"{at_s:.12g}"] if at_s else []
    words += ["--out", str(out)] if out else []
    page = click_page(pixels, redacted(source), shlex.join(words))
    plane_file.write(path, page.encode())


def write_plane(
    found: Calibration, pixels: Array, spec: SourceSpec, path: Path, *, overwrite: bool
) -> WrittenPlane:
    """Write the plane, unless it was read, and the picture that shows it."""
    fresh = found.way != "file"
    size = (pixels.shape[1], pixels.shape[0])
    report = quality.assess(found.H, size, found.known, found.lens_px)
    lines = quality.notes(report, size)
    if found.made_for not in {None, size}:
        w, h = found.made_for or size
        lines.insert(0, f"made on pictures of {w}x{h}, but these are {size[0]}x{size[1]}: wrong")
    picture = path.with_suffix(".png")
    if is_same(picture, spec.uri):
        raise UsageError(f"--out {path}: the picture {picture} would replace the source {spec.uri}")
    if fresh:
        for existing in (path, picture):
            if existing.exists() and not overwrite:
                raise UsageError(
                    f"{existing} exists; --overwrite replaces it, --out writes elsewhere"
                )
        made_by = f"streamvis calibrate {streamvis.__version__}"
        plane_file.write(path, plane_file.document(found, spec, size, made_by))
    plane_file.write(picture, _drawn(found, pixels, [f"{spec.label}: {path.name}", *lines]))
    return WrittenPlane(path, picture, report, lines, fresh)


def _drawn(found: Calibration, pixels: Array, lines: list[str]) -> bytes:
    points, metres = found.known if found.known is not None else (NONE, NONE)
    picture = check(pixels, found.H, points, metres, lines)
    return bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1])
