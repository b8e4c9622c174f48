"""`streamvis calibrate`: the ground plane of a camera, in metres."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from streamvis.cli.options import Json
from streamvis.cli.output import put, put_result, say
from streamvis.errors import UsageError


def calibrate(
    source: Annotated[str, Argument(help="Path, camera index, URL or synthetic:")],
    point: Annotated[
        list[str] | None,
        Option(metavar="U,V=X,Y", help="A point: pixels = metres; four times or more."),
    ] = None,
    points: Annotated[
        Path | None, Option(help="Points in a file: CSV, YAML or JSON of u, v, x, y.")
    ] = None,
    rectangle: Annotated[
        str | None, Option(metavar="AxB", help="Sides of a rectangle on the ground, metres.")
    ] = None,
    corner: Annotated[
        list[str] | None,
        Option(metavar="U,V", help="Its corners in order, counter-clockwise; four times."),
    ] = None,
    height: Annotated[
        float | None, Option(help="Height of the camera above ground, metres.")
    ] = None,
    tilt: Annotated[float | None, Option(help="Tilt of the camera below level, degrees.")] = None,
    fov: Annotated[float | None, Option(help="Horizontal field of view, degrees.")] = None,
    focal: Annotated[float | None, Option(help="Focal length, pixels.")] = None,
    camera: Annotated[
        Path | None, Option(help="A calibrated camera: YAML or JSON with K, R and t.")
    ] = None,
    click: Annotated[
        bool, Option("--click", help="Write a page to click the points on instead.")
    ] = False,
    at: Annotated[float, Option(min=0, help="Seconds into the video: which picture.")] = 0.0,
    out: Annotated[Path | None, Option(help="The file to write; else beside SOURCE.")] = None,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace an existing ground plane.")
    ] = False,
    json: Json = False,
) -> None:
    """Find the ground plane of SOURCE; without options for it, check the existing one.

    Writes SOURCE.ground_plane.json, which runs of SOURCE then use, and a PNG to check it by eye.
    """
    from streamvis.calibration import plane_file
    from streamvis.calibration.definition import Given, fitted
    from streamvis.runners import calibration

    given = Given(*(point or [], points, rectangle, corner or [], camera, height, tilt, fov, focal))
    spec = calibration.the_source(source)
    path = out or plane_file.path_for(spec)
    if path.suffix != ".json":
        raise UsageError(f"--out {path}: expected a name that ends in .json")
    pixels = calibration.first_picture(spec, at)
    if click:
        page = path.with_suffix(".html")
        calibration.write_click_page(page, pixels, source, at, out)
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
    plane = calibration.write_plane(found, pixels, spec, path, overwrite=overwrite)
    put_result(plane.as_json(), plane.lines, json=json)
    if not json:
        done = f"wrote {path}" if plane.written else "nothing was changed"
        say(f"{done}; now look at {plane.picture}")
