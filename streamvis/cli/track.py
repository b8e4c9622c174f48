"""`streamvis track`: the tracker alone, on a MOTChallenge file of detections.

Torch is imported only for appearance and camera motion, where there are pictures.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from streamvis.cli import options
from streamvis.cli.output import check_writable, put_json, say
from streamvis.errors import UsageError
from streamvis.files import is_same


class TrackSpace(StrEnum):
    """Where the tracker works: in the image, or on the ground."""

    auto = "auto"
    image = "image"
    ground = "ground"


def track(
    detections: Annotated[Path, Argument(metavar="DET.txt", help="frame,-1,x,y,w,h,score…")],
    out: Annotated[Path, Option(help="Write the tracks here, as MOTChallenge has them.")],
    seqinfo: Annotated[
        Path | None,
        Option(help="Rate, size and length; default: seqinfo.ini beside DET.txt or above."),
    ] = None,
    fps: Annotated[float | None, Option(min=0.01, help="Frames per second; unknown: 25.")] = None,
    size: Annotated[
        str | None, Option(metavar="W×H", help="Pixels, 1920x1080; unknown: as far as boxes reach.")
    ] = None,
    ground_plane: Annotated[
        Path | None, Option(help="Homography; default: ground_plane.json beside seqinfo.ini.")
    ] = None,
    space: Annotated[
        TrackSpace, Option(help="auto: ground on a plane that is not grazing.")
    ] = TrackSpace.auto,
    scores: options.Scores = options.ScoreScale.auto,
    video: Annotated[
        Path | None,
        Option(help="Video or images of the detections; default: what seqinfo.ini names."),
    ] = None,
    looks: options.Looks = options.LOOKS,
    camera: options.Camera = True,
    set_: options.TrackerSettings = None,
    json: options.Json = False,
) -> None:
    """Track the people of a file of detections; by appearance too, where there are pictures."""
    from streamvis.config import Jipda
    from streamvis.datasets import motchallenge
    from streamvis.runners.detection_files import beside, described
    from streamvis.runners.settings import configure
    from streamvis.runners.tracker_inputs import cues_for, from_detections
    from streamvis.runners.tracking import public_detections, run_tracker

    config = configure(Jipda, {"space": space.value}, set_ or [])
    check_writable(out)
    if is_same(out, detections):
        raise UsageError(f"--out {out}: the tracks would replace the detections")
    ini = seqinfo or beside(detections, "seqinfo.ini")
    own = motchallenge.read_info(ini) if ini else None
    frames = own.length if own else motchallenge.MOST_FRAMES
    rows = motchallenge.read_detections(detections, frames)
    video = video or (own.video if own else None)
    cues = cues_for(looks, camera, video, config)
    info, note = described(detections, rows, own, fps, size, video if cues.any else None)
    if note:
        say(note)
    plane = ground_plane or (beside(detections, "ground_plane.json") if ini else None)
    parts = public_detections(rows, info.length, calibrate=scores is options.ScoreScale.calibrate)
    inputs = from_detections(info, video, parts, cues)
    if inputs.note:
        say(inputs.note)
    run = run_tracker(info, plane, config, inputs.frames)
    motchallenge.write_results(out, run.rows)
    people = len(set(run.rows.ids.tolist()))
    if json:
        counts = {"frames": run.frames, "people": people, "rows": len(run.rows)}
        put_json({**counts, "hz": run.hz, **cues._asdict()})
    say(
        f"{out}: {people} people in {run.frames} frames{'' if video else options.NO_VIDEO}; the "
        f"tracker alone did {run.hz:.0f} frames/s"
    )


def track_clips(
    data: Annotated[
        Path,
        Argument(
            help="A CSV (path,label,source[,start,end]), a folder with clips.csv or a folder for "
            "each action."
        ),
    ],
    out: Annotated[Path, Option(help="Where clips.csv and tracks/ go.")],
    min_height: Annotated[
        float, Option(min=1, help="Pixels; people whose box is lower are left out.")
    ] = 48.0,
    min_s: Annotated[
        float, Option(min=0.1, help="Seconds; people followed for less are left out.")
    ] = 1.0,
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Follow the people of labelled action clips: each becomes a clip to train and score on."""
    from streamvis.cli.output import put_result
    from streamvis.runners.clip_tracks import ClipTracker, counts, tables, track_clips
    from streamvis.runtime.output import make_directory

    make_directory(out)
    people = track_clips(data, out, ClipTracker(device), min_height=min_height, min_s=min_s)
    put_result(counts(people), tables(counts(people)), json=json)
    say(f"{out / 'clips.csv'}: {len(people)} people in the clips of {data}")
