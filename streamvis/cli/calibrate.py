"""`streamvis calibrate`: where a camera's ground is, in metres."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from streamvis.cli.output import put, put_json, reported_errors, say
from streamvis.errors import SourceError, UsageError

if TYPE_CHECKING:
    from streamvis.calibration.ground_plane import Size
    from streamvis.calibration.inputs import Points
    from streamvis.messages import Array
    from streamvis.sources import SourceSpec

SUFFIX = ".ground_plane.json"


class Told(NamedTuple):
    """What the command line says of the place; at most one of the ways."""

    point: list[str]
    points: Path | None
    rectangle: str | None
    corner: list[str]
    camera: Path | None
    height: float | None
    tilt: float | None
    fov: float | None
    focal: float | None


class Found(NamedTuple):
    """A plane, and what it was made from."""

    H: "Array"  # (3, 3)
    way: str
    known: "Points | None" = None
    lens_px: float | None = None  # how far a distorting lens is from it at most
    made_for: "Size | None" = None  # the size of the picture it was made on, where its file tells


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
        float | None, typer.Option(help="Of the camera above ground, metres.")
    ] = None,
    tilt: Annotated[float | None, typer.Option(help="Of the camera below level, degrees.")] = None,
    fov: Annotated[float | None, typer.Option(help="Width of its view, degrees.")] = None,
    focal: Annotated[float | None, typer.Option(help="Its focal length, pixels.")] = None,
    camera: Annotated[
        Path | None, typer.Option(help="A calibrated camera: YAML or JSON with K, R and t.")
    ] = None,
    click: Annotated[
        bool, typer.Option("--click", help="Write a page to click the points on instead.")
    ] = False,
    at: Annotated[float, typer.Option(min=0, help="Seconds into the video: which picture.")] = 0.0,
    out: Annotated[Path | None, typer.Option(help="The file to write; else beside SOURCE.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a ground plane that is there.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the ground plane of SOURCE; without a way to, check the one that is there.

    Writes SOURCE.ground_plane.json, which runs of SOURCE then use, and a PNG to check it by eye.
    """
    with reported_errors():
        from streamvis.sources import resolve

        told = Told(
            *(point or [], points, rectangle, corner or [], camera, height, tilt, fov, focal)
        )
        specs = resolve([source])
        if len(specs) != 1:
            raise UsageError(f"{source} is {len(specs)} sources; calibrate them one by one")
        [spec] = specs
        path = out or _beside(spec)
        if path.suffix != ".json":
            raise UsageError(f"--out {path}: expected a name that ends in .json")
        pixels = _picture(spec, at)
        if click:
            page = path.with_suffix(".html")
            _write(page, _page(pixels, source, at, out).encode())
            say(f"open {page} in a browser, click, and run the command that it shows")
            put(str(page))
            return
        found = _found(told, (pixels.shape[1], pixels.shape[0])) or _there(spec, path)
        _settle(
            found, pixels, spec, path, fresh=found.way != "file", overwrite=overwrite, json=json
        )


def _settle(
    found: Found,
    pixels: "Array",
    spec: "SourceSpec",
    path: Path,
    *,
    fresh: bool,
    overwrite: bool,
    json: bool,
) -> None:
    """Write the plane and its picture, and say what they are worth."""
    from streamvis.calibration.quality import notes, report

    size = (pixels.shape[1], pixels.shape[0])
    result = report(found.H, size, found.known, found.lens_px)
    lines = notes(result, size)
    if found.made_for not in {None, size}:
        w, h = found.made_for or size
        lines.insert(0, f"made on pictures of {w}x{h}, but these are {size[0]}x{size[1]}: wrong")
    picture = path.with_suffix(".png")
    if picture.exists() and Path(spec.uri).exists() and picture.samefile(spec.uri):
        raise UsageError(f"--out {path}: the picture to check it by would replace {spec.uri}")
    if fresh:
        for there in (path, picture):
            if there.exists() and not overwrite:
                raise UsageError(
                    f"{there} is there; --overwrite replaces it, --out writes elsewhere"
                )
        _write(path, _document(found, spec, size))
    _write(picture, _drawn(found, pixels, [f"{spec.label}: {path.name}", *lines]))
    if json:
        put_json({"ground_plane": str(path), "picture": str(picture), "report": result})
        return
    for line in lines:
        put(line)
    say(f"{f'wrote {path}' if fresh else 'nothing was changed'}; now look at {picture}")


def _found(told: Told, size: "Size") -> Found | None:
    """The plane that the command line leads to; None when it tells of no way."""
    from streamvis.calibration import ground_plane, inputs

    view = (told.height, told.tilt, told.fov, told.focal)
    ways = {
        "--point": bool(told.point),
        "--points": told.points is not None,
        "--rectangle and --corner": bool(told.rectangle or told.corner),
        "--height, --tilt and --fov or --focal": any(value is not None for value in view),
        "--camera": told.camera is not None,
    }
    taken = [way for way, is_taken in ways.items() if is_taken]
    if len(taken) > 1:
        raise UsageError(f"{'; '.join(taken)} are {len(taken)} ways to one plane; take one")
    if told.camera is not None:
        camera, distortion = inputs.read_camera(told.camera)
        if not distortion.any():
            return Found(ground_plane.from_pinhole(camera, size), "camera")
        H, lens_px = ground_plane.from_lens(camera, distortion, size)
        return Found(H, "camera", lens_px=lens_px)
    if ways["--height, --tilt and --fov or --focal"]:
        return Found(_from_view(told, size), "view")
    if not taken:
        return None
    if told.points is not None:
        known = inputs.read_points(told.points)
    elif told.point:
        known = inputs.told_points(told.point)
    else:
        known = inputs.told_rectangle(told.rectangle or "", told.corner)
    return Found(ground_plane.fit(known.pixels, known.metres, size), "points", known)


def _from_view(told: Told, size: "Size") -> "Array":
    from streamvis.calibration.ground_plane import focal_px, from_view

    height, tilt, fov, focal = told.height, told.tilt, told.fov, told.focal
    if height is None or tilt is None or (fov is None) == (focal is None):
        raise UsageError("a camera's view needs --height, --tilt and one of --fov and --focal")
    return from_view(height, tilt, focal_px(fov, size) if fov is not None else focal or 0.0, size)


def _there(spec: "SourceSpec", path: Path) -> Found:
    """The plane that the source has already."""
    import numpy as np

    from streamvis.calibration.inputs import provenance
    from streamvis.geometry import read_ground_plane

    plane = read_ground_plane(path) if path.is_file() else spec.ground_plane
    if plane is None:
        raise UsageError(
            f"{path} is not there to be checked; to make it say --point four times, --rectangle, "
            "--height with --tilt and --fov, or --camera; --click writes a page to find points on"
        )
    own = provenance(path)
    H = np.reshape(plane, (3, 3))
    return Found(H, "file", own.known, made_for=own.image_size_px)


def _beside(spec: "SourceSpec") -> Path:
    """The file in which a run of this source will look for its plane."""
    if spec.kind in {"camera", "url"}:
        return Path(f"{spec.id}{SUFFIX}")
    if spec.kind == "synthetic":
        raise UsageError(f"{spec.label} lies in no directory; say where to write: --out FILE.json")
    path = Path(spec.uri)
    if (path.parent / "seqinfo.ini").is_file():
        return path.parent / SUFFIX[1:]
    if path.is_dir():
        return path.resolve().with_name(path.resolve().name + SUFFIX)
    if not path.exists():
        raise UsageError(f"{spec.label} is a glob; calibrate its directory, or say --out FILE.json")
    return path.with_name(path.stem + SUFFIX)


def _picture(spec: "SourceSpec", at_s: float) -> "Array":
    """The first picture (H, W, 3) at or after this time."""
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


def _document(found: Found, spec: "SourceSpec", size: "Size") -> bytes:
    """The file that `geometry.read_ground_plane` reads; the rest says where it comes from."""
    from datetime import UTC, datetime

    import msgspec
    import numpy as np

    import streamvis

    document = {
        "image_foot_to_world_m": found.H.tolist(),
        "image_size_px": size,
        "source": spec.label,
        "way": found.way,
        "made_by": f"streamvis calibrate {streamvis.__version__}",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if found.known is not None:
        document["points"] = np.column_stack(found.known).tolist()
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _drawn(found: Found, pixels: "Array", lines: list[str]) -> bytes:
    import cv2

    from streamvis.viz.ground_plane import NONE, check

    points, metres = found.known if found.known is not None else (NONE, NONE)
    picture = check(pixels, found.H, points, metres, lines)
    return bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1])


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    new = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(data)
        new.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
