"""`streamvis calibrate`: the ground plane of a camera, in metres."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import streamvis
from streamvis.cli.options import Json
from streamvis.cli.output import put, put_json, reported_errors, say
from streamvis.errors import SourceError, UsageError

if TYPE_CHECKING:
    from streamvis.calibration.plane_file import Calibration
    from streamvis.messages import Array
    from streamvis.sources import SourceSpec


def calibrate(
    source: Annotated[str, typer.Argument(help="Path, camera index, URL or synthetic:")],
    point: Annotated[
        list[str] | None,
        typer.Option(metavar="U,V=X,Y", help="A point: pixels = metres; four times or more."),
    ] = None,
    points: Annotated[
        Path | None, typer.Option(help="Points in a file: CSV, YAML or JSON of u, v, x, y.")
    ] = None,
    rectangle: Annotated[
        str | None, typer.Option(metavar="AxB", help="Sides of a rectangle on the ground, metres.")
    ] = None,
    corner: Annotated[
        list[str] | None,
        typer.Option(metavar="U,V", help="Its corners in order, counter-clockwise; four times."),
    ] = None,
    height: Annotated[
        float | None, typer.Option(help="Height of the camera above ground, metres.")
    ] = None,
    tilt: Annotated[
        float | None, typer.Option(help="Tilt of the camera below level, degrees.")
    ] = None,
    fov: Annotated[float | None, typer.Option(help="Horizontal field of view, degrees.")] = None,
    focal: Annotated[float | None, typer.Option(help="Focal length, pixels.")] = None,
    camera: Annotated[
        Path | None, typer.Option(help="A calibrated camera: YAML or JSON with K, R and t.")
    ] = None,
    click: Annotated[
        bool, typer.Option("--click", help="Write a page to click the points on instead.")
    ] = False,
    at: Annotated[float, typer.Option(min=0, help="Seconds into the video: which picture.")] = 0.0,
    out: Annotated[Path | None, typer.Option(help="The file to write; else beside SOURCE.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing ground plane.")
    ] = False,
    json: Json = False,
) -> None:
    """Find the ground plane of SOURCE; without options for it, check the existing one.

    Writes SOURCE.ground_plane.json, which runs of SOURCE then use, and a PNG to check it by eye.
    """
    with reported_errors():
        from streamvis.calibration import plane_file
        from streamvis.calibration.definition import Given, fitted
        from streamvis.sources import resolve

        given = Given(
            *(point or [], points, rectangle, corner or [], camera, height, tilt, fov, focal)
        )
        specs = resolve([source])
        if len(specs) != 1:
            raise UsageError(f"{source} is {len(specs)} sources; expected one")
        [spec] = specs
        path = out or plane_file.path_for(spec)
        if path.suffix != ".json":
            raise UsageError(f"--out {path}: expected a name that ends in .json")
        pixels = _picture(spec, at)
        if click:
            page = path.with_suffix(".html")
            plane_file.write(page, _page(pixels, source, at, out).encode())
            say(f"open {page} in a browser, click, and run the command that it shows")
            put(str(page))
            return
        found = fitted(given, (pixels.shape[1], pixels.shape[0])) or plane_file.read(spec, path)
        if found is None:
            raise UsageError(
                f"{path} does not exist, so there is no plane to check; to make one give --point "
                "four times, --rectangle, --height with --tilt and --fov, or --camera; --click "
                "writes a page to find points on"
            )
        _finish(found, pixels, spec, path, overwrite=overwrite, json=json)


def _finish(
    found: "Calibration",
    pixels: "Array",
    spec: "SourceSpec",
    path: Path,
    *,
    overwrite: bool,
    json: bool,
) -> None:
    """Write the plane, unless it was read, and its picture; print its quality."""
    from streamvis.calibration import plane_file, quality

    fresh = found.way != "file"
    size = (pixels.shape[1], pixels.shape[0])
    result = quality.assess(found.H, size, found.known, found.lens_px)
    lines = quality.notes(result, size)
    if found.made_for not in {None, size}:
        w, h = found.made_for or size
        lines.insert(0, f"made on pictures of {w}x{h}, but these are {size[0]}x{size[1]}: wrong")
    picture = path.with_suffix(".png")
    if picture.exists() and Path(spec.uri).exists() and picture.samefile(spec.uri):
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
    if json:
        put_json({"ground_plane": str(path), "picture": str(picture), "report": result})
        return
    for line in lines:
        put(line)
    say(f"{f'wrote {path}' if fresh else 'nothing was changed'}; now look at {picture}")


def _picture(spec: "SourceSpec", at_s: float) -> "Array":
    """Return the first picture (H, W, 3) at or after this time."""
    import numpy as np

    from streamvis.sources import open_source

    source = open_source(spec)
    try:
        for picture in source:
            if picture.media_us >= at_s * 1e6:
                return np.array(picture.pixels)
    finally:
        source.close()
    raise SourceError(f"{spec.label} has no picture at {at_s:g} s or after")


def _page(pixels: "Array", source: str, at_s: float, out: Path | None) -> str:
    from streamvis.sources.credentials import redacted
    from streamvis.viz.click_page import click_page

    words = ["streamvis", "calibrate", redacted(source)]
    words += ["--at", f"{at_s:g}"] if at_s else []
    words += ["--out", str(out)] if out else []
    return click_page(pixels, redacted(source), shlex.join(words))


def _drawn(found: "Calibration", pixels: "Array", lines: list[str]) -> bytes:
    import cv2

    from streamvis.viz.ground_plane import NONE, check

    points, metres = found.known if found.known is not None else (NONE, NONE)
    picture = check(pixels, found.H, points, metres, lines)
    return bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1])
