"""`streamvis eval pose-3d`: lifters of poses on labelled people and on synthetic ones."""

from typing import Annotated

from typer import Argument, Option

from streamvis.cli.options import Json
from streamvis.cli.output import put_result


def pose_3d(
    data: Annotated[
        list[str],
        Argument(
            help="Folders with keypoints and `world`, of streamvis label-poses; or synthetic:SEED, "
            "walking people whose true places are known."
        ),
    ],
    weights: Annotated[str, Option(help="A shipped name, or a path.")] = "pose-3d",
    source: Annotated[
        list[str] | None, Option(help="Only people of this source of the folders; repeatable.")
    ] = None,
    joints: Annotated[bool, Option("--joints", help="A table of the joints too.")] = False,
    json: Json = False,
) -> None:
    """Score 3D poses: mean distance of the joints (MPJPE), and after alignment (PA-MPJPE)."""
    from streamvis.runners.pose_lifting import evaluate, tables

    results = evaluate(weights, data, source or [])
    put_result(results, tables(results, joints=joints), json=json)
