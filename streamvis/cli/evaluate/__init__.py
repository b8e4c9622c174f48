"""`streamvis eval`: accuracy on ground truth, one module a command."""

import typer

from streamvis.cli.evaluate.actions import actions
from streamvis.cli.evaluate.detect import detect
from streamvis.cli.evaluate.forecast import forecast
from streamvis.cli.evaluate.mot import mot
from streamvis.cli.evaluate.outliers import outliers
from streamvis.cli.evaluate.pose import pose
from streamvis.cli.evaluate.pose_3d import pose_3d
from streamvis.cli.evaluate.pose_video import pose_video
from streamvis.cli.evaluate.reid import reid
from streamvis.cli.evaluate.segment import segment
from streamvis.cli.evaluate.tracker_trials import tracker_trials
from streamvis.cli.evaluate.zones import zones
from streamvis.cli.output import command

app = typer.Typer(
    help="Score detectors, trackers, embedders and the other networks on ground truth.",
    no_args_is_help=True,
)
for function in (detect, mot, reid, actions, pose, segment, outliers, forecast, zones):
    command(app)(function)
command(app, "tracker-trials")(tracker_trials)
command(app, "pose-3d")(pose_3d)
command(app, "pose-video")(pose_video)
