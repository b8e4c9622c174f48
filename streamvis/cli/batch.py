"""`streamvis batch`: many files, each a run of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from streamvis.cli.options import (
    Annotate,
    Json,
    PlacementPath,
    Settings,
    StartTime,
    ZonesFiles,
)
from streamvis.cli.output import INTERRUPTED, PARTIAL, put_result
from streamvis.cli.run import load, on_used_directory, warn_without_zones

if TYPE_CHECKING:
    from streamvis.batch.results import Result


def batch(
    paths: Annotated[list[str], Argument(help="Video files, globs or directories.")],
    out: Annotated[Path, Option(help="Each file has a directory NAME-KEY in here.")],
    pipeline: Annotated[Path | None, Option(help="A pipeline: a file or a shipped name.")] = None,
    on: PlacementPath = None,
    set_: Settings = None,
    annotate: Annotate = False,
    recursive: Annotated[
        bool, Option("--recursive", "-r", help="Also take what lies in directories below.")
    ] = False,
    jobs: Annotated[int, Option(min=1, help="Files at a time.")] = 1,
    resume: Annotated[
        bool, Option("--resume", help="Skip what is done, go on with what is not, retry failures.")
    ] = False,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Process again what is there, done or not.")
    ] = False,
    start_time: StartTime = None,
    zones: ZonesFiles = None,
    json: Json = False,
) -> None:
    """Process video files one after another, or --jobs at a time.

    Results go to OUT/NAME-KEY. KEY, 12 hex digits, identifies the content of the file (size, first
    and last MiB), the settings of its source, and the pipeline: another recording of the same name
    and another pipeline have directories of their own; a file that was moved or renamed keeps its
    directory. Nothing is overwritten without --overwrite: a directory that is used already is
    refused without --resume. OUT/batch.json lists the result of each file, over all batches into
    OUT.

    Exit code 0: all done; 5: some failed or were refused; 130: interrupted.
    """
    from streamvis import config
    from streamvis.batch.jobs import Plan
    from streamvis.batch.pool import process
    from streamvis.batch.results import Result, totals
    from streamvis.cli.batch_output import ProgressBar, text_of
    from streamvis.runtime.output import make_directory
    from streamvis.sources import Unusable, resolve, starting

    on_used = on_used_directory(out, resume, overwrite)
    loaded = config.without_feed(load(pipeline, set_ or [], annotate))
    default = config.default_placement(loaded, jobs, sources=1)
    placement = config.load_placement(on, loaded) if on else default
    unusable: list[Unusable] = []
    specs = resolve(paths, recursive=recursive, unusable=unusable)
    if start_time is not None:
        specs = starting(specs, start_time, at_once=False)
    specs = config.with_zones(specs, config.given_zones(zones or []))
    config.check_zones(loaded, specs)
    warn_without_zones(loaded, specs)
    make_directory(out)
    results = [Result(file=label, state="failed", why=str(error)) for label, error in unusable]
    with ProgressBar(len(specs)) as bar:
        results += process(specs, Plan(loaded, placement, out, on_used), jobs, bar)
    report = {"out": str(out), "totals": totals(results), "files": results}
    put_result(report, text_of(results, out), json=json)
    if code := exit_code(results):
        raise typer.Exit(code)


def exit_code(results: "Sequence[Result]") -> int:
    """0 when all is done, 130 when interrupted, 5 when some files failed or were refused."""
    states = {result.state for result in results}
    if "interrupted" in states:
        return INTERRUPTED
    return PARTIAL if states & {"failed", "refused"} else 0
