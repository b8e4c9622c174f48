"""The command line. Data goes to stdout, logs and progress to stderr.

Exit codes: 0 ok, 1 the run or the installation failed, 2 usage, configuration or data files,
3 source, 4 model or device, 5 some of several files failed, 130 interrupted, 143 ended at once by
a second SIGTERM.
Commands import what they need when they are called, so that --help is quick.
"""

import sys
from typing import Annotated

import typer
from typer import Option

import streamvis
from streamvis.cli import (
    batch,
    bench,
    bridge,
    calibrate,
    demo,
    evaluate,
    events,
    inspect,
    keys,
    label,
    label_poses,
    run,
    sources,
    status,
    track,
    train,
    web,
    weights,
    zones,
)
from streamvis.cli.arguments import hide_arguments
from streamvis.cli.output import code_of_output, command, prepare_streams

app = typer.Typer(
    help="streamvis finds, follows and reports the people in video.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["--help", "-h"]},  # of all subcommands too
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"streamvis {streamvis.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """streamvis finds, follows and reports the people in video."""


command(app)(run.run)
command(app)(status.status)
app.add_typer(sources.app, name="sources")
command(app)(batch.batch)
command(app)(demo.demo)
command(app)(track.track)
command(app)(track.track_clips)
app.add_typer(events.app, name="events")
app.add_typer(zones.app, name="zones")
command(app)(web.web)
app.add_typer(keys.app, name="keys")
app.add_typer(bridge.app, name="bridge")
command(app)(inspect.check)
command(app)(inspect.graph)
command(app)(inspect.probe)
command(app)(calibrate.calibrate)
command(app)(inspect.doctor)
app.add_typer(weights.app, name="weights")
app.add_typer(evaluate.app, name="eval")
command(app)(label.label)
command(app)(label_poses.label_poses)
app.add_typer(train.app, name="train")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """The `streamvis` program."""
    prepare_streams()
    hide_arguments()
    try:
        app()
    except OSError as error:  # help that is printed before a command begins
        sys.exit(code_of_output(error))
