"""`streamvis run` and `streamvis batch`."""

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamvis.cli.output import INTERRUPTED, put_json, reported_errors, say, settings
from streamvis.cli.status_table import Show
from streamvis.errors import UsageError

if TYPE_CHECKING:
    from streamvis.config import Pipeline
    from streamvis.runtime.metrics import Summary
    from streamvis.runtime.output import OnUsed
    from streamvis.sources import SourceSpec

Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--source", "-s", help="Path, glob, directory, camera index, URL or synthetic:; repeatable."
    ),
]
PipelinePath = Annotated[
    Path | None,
    typer.Argument(help="A pipeline: a file, or the name of a shipped one (default: people)."),
]
On = Annotated[
    Path | None,
    typer.Option("--on", help="A placement, file or shipped name: which worker runs what, where."),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="stage.key=value, over the file's; repeatable.")
]
Annotate = Annotated[bool, typer.Option("--annotate", help="Also write annotated.mp4.")]
Status = Annotated[Show, typer.Option("--status", help="What stderr shows while it runs.")]
StartTime = Annotated[
    str | None,
    typer.Option(
        help="When the first picture of a file was taken, as in 2026-11-29T08:00:00+01:00 "
        "(without an offset: local time), or `container`: as the file says. For one source: "
        "FILE#start_time=TIME."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


class Engine(StrEnum):
    local = "local"  # worker processes
    inline = "inline"  # all in this process, for debugging


def run(
    source: Sources = None,
    pipeline: PipelinePath = None,
    on: On = None,
    out: Annotated[Path | None, typer.Option(help="Where events.db and the rest go.")] = None,
    set_: Settings = None,
    annotate: Annotate = False,
    engine: Annotated[Engine, typer.Option(help="Worker processes, or all in one.")] = Engine.local,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the unfinished run in --out.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run in --out.")
    ] = False,
    start_time: StartTime = None,
    status: Status = Show.auto,
    json: Json = False,
) -> None:
    """Run PIPELINE on the sources until they end, or until Ctrl-C."""
    with reported_errors():
        sources = _sources(source, pipeline)
        on_used = _on_used(out, resume, overwrite)
        loaded = load(pipeline, set_ or [], annotate)
        summary = start(loaded, on, sources, out, engine, status, on_used, start_time)
        for report in summary.sources:  # the others went on without it
            if report.error:
                say(f"streamvis: {report.error}")
        if json:
            put_json(summary)
        else:
            from streamvis.cli.status_table import put_summary

            put_summary(summary)
        if out:
            files = sorted(path.name for path in out.glob("[!.]*") if path.is_file())
            say(f"{out} holds {', '.join(files)}")
        if summary.interrupted == "SIGINT":  # SIGTERM is how a service is ended in good order
            raise typer.Exit(INTERRUPTED)


def _sources(given: list[str] | None, pipeline: Path | None) -> list[str]:
    """What --source said; UsageError where a source stands in the place of the pipeline."""
    from streamvis.shipped import names
    from streamvis.sources.credentials import told
    from streamvis.sources.spec import is_source

    named = re.sub(r":/+", "://", str(pipeline), count=1) if pipeline else ""  # a path has one
    if named and named not in names("pipeline") and is_source(named):
        raise UsageError(
            f"{told(named)} is a source, not a pipeline; did you mean: --source {told(named)}"
        )
    if not given:
        # a pipeline that is not there is the first mistake
        load(pipeline, [], annotate=False)
        raise UsageError(
            "a run needs --source: a path, glob, directory, camera index, URL or synthetic:, "
            "such as --source video.mp4"
        )
    return given


def _on_used(out: Path | None, resume: bool, overwrite: bool) -> "OnUsed":
    if (resume or overwrite) and out is None:
        option = "--resume" if resume else "--overwrite"
        raise UsageError(f"{option} needs --out: the directory of the run that is meant")
    if resume and overwrite:
        raise UsageError("--resume goes on with a run and --overwrite replaces it: choose one")
    return "resume" if resume else "overwrite" if overwrite else "refuse"


def load(path: Path | None, pairs: list[str], annotate: bool) -> "Pipeline":
    """The pipeline of a command line."""
    from streamvis import config

    loaded = config.load_pipeline(path, settings(pairs))
    return config.with_record(loaded, config.Record()) if annotate else loaded


def start(
    pipeline: "Pipeline",
    on: Path | None,
    sources: list[str],
    out: Path | None,
    engine: Engine = Engine.local,
    status: Show = Show.auto,
    on_used: "OnUsed" = "refuse",
    start_time: str | None = None,
) -> "Summary":
    """Run it to its end and leave its files in `out`."""
    from streamvis import config
    from streamvis.cli.status_table import shown
    from streamvis.sources import resolve, starting

    placement = config.load_placement(on, pipeline) if on else config.default_placement(pipeline)
    specs = resolve(sources)
    if start_time is not None:
        specs = starting(specs, start_time)
    with shown(status) as on_status:
        if engine is Engine.inline:
            from streamvis.build import build_stage
            from streamvis.runtime import inline

            return inline.run(pipeline, specs, build=build_stage, out=out, on_used=on_used)
        from streamvis.runtime import launch

        return launch.run(pipeline, placement, specs, out=out, on_used=on_used, on_status=on_status)


Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Also take what lies in directories below.")
]
Jobs = Annotated[int, typer.Option(min=1, help="Files at a time.")]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Skip what is done, go on with what is not, retry failures."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Process again what is there, done or not.")
]


def batch(
    paths: Annotated[list[str], typer.Argument(help="Video files, globs or directories.")],
    out: Annotated[Path, typer.Option(help="Each file has a directory NAME-KEY in here.")],
    pipeline: Annotated[
        Path | None, typer.Option(help="A pipeline: a file or a shipped name.")
    ] = None,
    on: On = None,
    set_: Settings = None,
    annotate: Annotate = False,
    recursive: Recursive = False,
    jobs: Jobs = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
    start_time: StartTime = None,
    json: Json = False,
) -> None:
    """Process video files one after another, or --jobs at a time.

    Results go to OUT/NAME-KEY. KEY, 12 hex digits, identifies the content of the file (size, first
    and last MiB), the settings of its source, and the pipeline: another recording of the same name
    and another pipeline have directories of their own; a file that was moved or renamed is known
    again. Nothing is overwritten without --overwrite: a directory that is used already is refused
    without --resume. OUT/batch.json lists, over all batches into OUT, what became of each file.

    Exit code 0: all done; 5: some failed or were refused; 130: interrupted.
    """
    with reported_errors():
        from streamvis import config
        from streamvis.batch import processes as batches
        from streamvis.batch.jobs import Plan
        from streamvis.batch.results import exit_code, put_results, totals
        from streamvis.runtime.output import make_directory

        on_used = _on_used(out, resume, overwrite)
        loaded = config.without_feed(load(pipeline, set_ or [], annotate))
        default = config.default_placement(loaded, jobs)
        placement = config.load_placement(on, loaded) if on else default
        specs = _recordings(paths, recursive, start_time)
        make_directory(out)
        results = batches.process(specs, Plan(loaded, placement, out, on_used), jobs)
        if json:
            put_json({"out": str(out), "totals": totals(results), "files": results})
        else:
            put_results(results, out)
        if code := exit_code(results):
            raise typer.Exit(code)


def _recordings(paths: list[str], recursive: bool, start_time: str | None) -> "list[SourceSpec]":
    from streamvis.sources import resolve, starting

    specs = resolve(paths, recursive=recursive)
    return specs if start_time is None else starting(specs, start_time, at_once=False)
