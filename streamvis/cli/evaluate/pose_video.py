"""`streamvis eval pose-video`: jitter of poses on videos, before and after smoothing."""

from typing import Annotated

from typer import Argument, Option

from streamvis.cli.options import Device, Json
from streamvis.cli.output import put_result, say


def pose_video(
    video: Annotated[list[str], Argument(help="Videos with people; they need no labels.")],
    weights: Annotated[str, Option(help="A shipped name, or a path.")] = "pose-lite",
    interval: Annotated[
        float, Option(help="Seconds of media time between two estimates of a person.", min=0.01)
    ] = 0.2,
    seconds: Annotated[
        float | None, Option(help="Only so many seconds of each video.", min=0.1)
    ] = None,
    min_height: Annotated[float, Option(help="px: smaller people are left out.", min=8)] = 48.0,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Measure the jitter of keypoints along tracks: their acceleration, raw and smoothed."""
    from streamvis.runners.pose_video import measure, report, tables
    from streamvis.stages.pose import PoseEstimation

    config = PoseEstimation(weights=weights, interval_s=interval, min_height=min_height, people=64)
    results = {}
    for one in video:
        say(f"{one}: detecting, tracking, estimating")
        results[one] = measure(one, config, seconds=seconds, device=device)
    put_result(report(results), tables(results), json=json)
