"""`streamvis run`: run a pipeline on sources."""

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from streamvis import logs
from streamvis.cli.options import (
    Annotate,
    Json,
    PipelinePath,
    PlacementPath,
    Settings,
    StartTime,
    ZonesFiles,
)
from streamvis.cli.output import INTERRUPTED, put_result, say
from streamvis.cli.status_table import Show, shown
from streamvis.errors import UsageError

if TYPE_CHECKING:
    from streamvis.config import Pipeline, Placement
    from streamvis.runtime.control_socket import ControlSettings
    from streamvis.runtime.metrics import Summary
    from streamvis.runtime.output import OnUsed
    from streamvis.sources.shard import Shard
    from streamvis.sources.spec import SourceSpec
    from streamvis.web.settings import WebSettings

MOST_NAMED = 5  # sources in a warning
Sources = Annotated[
    list[str] | None,
    Option(
        "--source", "-s", help="Path, glob, directory, camera index, URL or synthetic:; repeatable."
    ),
]
Status = Annotated[Show, Option("--status", help="What stderr shows while it runs.")]


class LogFormat(StrEnum):
    console = "console"  # for people
    json = "json"  # one object a line, for services


LogFormatOption = Annotated[
    LogFormat,
    Option("--log-format", envvar=logs.FORMAT, help="How stderr's log entries are written."),
]


Metrics = Annotated[
    str | None,
    Option(
        metavar="ADDRESS:PORT",
        help="Serve metrics for Prometheus, and health, at this address, such as 127.0.0.1:9100.",
    ),
]


Web = Annotated[
    str | None,
    Option(
        "--web",
        metavar="ADDRESS:PORT",
        help="Serve the pages of the run at this address, such as 127.0.0.1:8080.",
    ),
]
WebTokenFile = Annotated[
    Path | None,
    Option(help="File with the token that clients of --web need; it is created. Mode 0600."),
]


class Engine(StrEnum):
    local = "local"  # worker processes
    ray = "ray"  # actors of a Ray cluster
    inline = "inline"  # all in this process, for debugging


def run(
    source: Sources = None,
    pipeline: PipelinePath = None,
    sources: Annotated[
        Path | None,
        Option(help="A sources file: the run is a service, and SIGHUP has the file read again."),
    ] = None,
    shard: Annotated[
        str,
        Option(metavar="K/N", help="Run only the K-th of N shares of the sources, such as 2/8."),
    ] = "1/1",
    on: PlacementPath = None,
    out: Annotated[Path | None, Option(help="Where events.db and the rest go.")] = None,
    set_: Settings = None,
    annotate: Annotate = False,
    engine: Annotated[
        Engine | None,
        Option(help="Worker processes, a Ray cluster, or all in one; else as --on says."),
    ] = None,
    resume: Annotated[
        bool, Option("--resume", help="Go on with the unfinished run in --out.")
    ] = False,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace the run in --out.")] = False,
    start_time: StartTime = None,
    zones: ZonesFiles = None,
    status: Status = Show.auto,
    log_format: LogFormatOption = LogFormat.console,
    metrics: Metrics = None,
    web: Web = None,
    web_token_file: WebTokenFile = None,
    give_up_after: Annotated[
        float | None,
        Option(min=0, help="Seconds without a picture after which a live source has failed."),
    ] = None,
    json: Json = False,
) -> None:
    """Run PIPELINE on the sources until they end, or until Ctrl-C."""
    from streamvis.runners.summary_tables import tables
    from streamvis.sources.shard import Shard

    logs.configure(log_format.value)
    share = Shard.of(shard)
    given = _sources(source, pipeline, sources)
    on_used = on_used_directory(out, resume, overwrite)
    loaded = load(pipeline, set_ or [], annotate)
    control = _control(pipeline, sources, engine, zones or [], share)
    summary = start(
        *(loaded, on, given, out, engine, status, on_used, start_time, metrics),
        give_up_s=give_up_after,
        control=control,
        zones=zones or [],
        web=_web(web, web_token_file, out),
    )
    for report in summary.sources:  # the others went on without it
        if report.error:
            say(f"streamvis: {report.error}")
    empty = not summary.sources and share.shards > 1
    put_result(summary, [] if empty else tables(summary), json=json)
    if out and out.is_dir():
        files = sorted(path.name for path in out.glob("[!.]*") if path.is_file())
        say(f"{out} holds {', '.join(files)}")
    if summary.interrupted == "SIGINT":  # SIGTERM is how a service is ended in good order
        raise typer.Exit(INTERRUPTED)


def _control(
    pipeline: Path | None,
    sources: Path | None,
    engine: Engine | None,
    zones: list[str],
    shard: "Shard",
) -> "ControlSettings | None":
    """Return how the run can be controlled, with the sources file read; inline runs cannot."""
    from streamvis.config import given_zones, load_site
    from streamvis.runtime.control_socket import ControlSettings

    if engine is Engine.inline:
        if shard.shards > 1:
            raise UsageError(
                f"--shard {shard} is for runs in worker processes, one of several hubs; leave out "
                "--shard or --engine inline"
            )
        if sources is not None:
            raise UsageError(
                f"--sources {sources} is for runs in worker processes, where sources come and go; "
                "--engine inline runs the stages in this one. Leave out one of the two"
            )
        return None
    site = load_site(sources) if sources is not None else None
    return ControlSettings(
        pipeline=str(pipeline or "people"), site=site, zones=tuple(given_zones(zones)), shard=shard
    )


def _web(address: str | None, token_file: Path | None, out: Path | None) -> "WebSettings | None":
    """Return how the run is served; UsageError where there is nothing that could be."""
    from streamvis.web.settings import WebSettings

    if address is None:
        if token_file is not None:
            raise UsageError(f"--web-token-file {token_file} is for --web ADDRESS:PORT")
        return None
    if out is None:
        raise UsageError(f"--web {address} needs --out: its pages read what the run writes there")
    return WebSettings(out=out.absolute(), address=address, token_file=token_file)


def _sources(given: list[str] | None, pipeline: Path | None, file: Path | None = None) -> list[str]:
    """Return the values of --source; UsageError for a source in the place of the pipeline."""
    from streamvis.shipped import names
    from streamvis.sources.credentials import redacted
    from streamvis.sources.spec import is_source

    named = re.sub(r":/+", "://", str(pipeline), count=1) if pipeline else ""  # a path has one
    if named and named not in names("pipeline") and is_source(named):
        raise UsageError(
            f"{redacted(named)} is a source, not a pipeline; "
            f"did you mean: --source {redacted(named)}"
        )
    if file is not None:
        return given or []
    if not given:
        # a pipeline that is not there is the first mistake
        load(pipeline, [], annotate=False)
        raise UsageError(
            "a run needs --source: a path, glob, directory, camera index, URL or synthetic:, "
            "such as --source video.mp4; or --sources: a file that lists them"
        )
    return given


def on_used_directory(out: Path | None, resume: bool, overwrite: bool) -> "OnUsed":
    if (resume or overwrite) and out is None:
        option = "--resume" if resume else "--overwrite"
        raise UsageError(f"{option} needs --out: the directory of the run that is meant")
    if resume and overwrite:
        raise UsageError("--resume goes on with a run and --overwrite replaces it: choose one")
    return "resume" if resume else "overwrite" if overwrite else "refuse"


def load(path: Path | None, pairs: list[str], annotate: bool) -> "Pipeline":
    """Load the pipeline of a command line."""
    from streamvis import config

    for pair in pairs:
        if "=" not in pair:
            raise UsageError(f"--set {pair}: expected stage.key=value")
    loaded = config.load_pipeline(path, dict(pair.split("=", 1) for pair in pairs))
    return config.with_record(loaded, config.Record()) if annotate else loaded


def _on_engine(placement: "Placement", engine: Engine, on: Path | None) -> "Placement":
    """Return the placement with the engine that was named; UsageError where it is for another."""
    from msgspec.structs import replace

    from streamvis.config import RaySpec

    named = engine is Engine.ray
    if isinstance(placement.engine, RaySpec) == named:
        return placement
    if not named:
        raise UsageError(f"--engine local: {on} is a placement for engine ray; choose another --on")
    return replace(placement, engine=RaySpec())


def warn_without_zones(pipeline: "Pipeline", specs: "Sequence[SourceSpec]") -> None:
    """Warn of sources in which a stage counts people, but in no zone and over no line."""
    from streamvis import config

    if without := config.without_zones(pipeline, specs):
        shown = ", ".join(without[:MOST_NAMED]) + ", …" * (len(without) > MOST_NAMED)
        logs.warn("no zones and no lines, so nothing is counted; give --zones FILE", sources=shown)


def start(
    pipeline: "Pipeline",
    on: Path | None,
    sources: list[str],
    out: Path | None,
    engine: Engine | None = None,
    status: Show = Show.auto,
    on_used: "OnUsed" = "refuse",
    start_time: str | None = None,
    metrics: str | None = None,
    *,
    give_up_s: float | None = None,
    control: "ControlSettings | None" = None,
    zones: Sequence[str] = (),
    web: "WebSettings | None" = None,
) -> "Summary":
    """Run the pipeline to the end of its sources and write its files to `out`."""
    from streamvis import config
    from streamvis.runtime.metrics import Summary
    from streamvis.runtime.monitor import each_of, monitored
    from streamvis.runtime.output import MANIFEST
    from streamvis.runtime.systemd import notified
    from streamvis.sources import resolve, starting
    from streamvis.web.beside import beside

    if on and engine is Engine.inline:
        raise UsageError(
            f"--on {on} places stages in worker processes, but --engine inline runs them all in "
            "this one; leave out one of the two"
        )
    specs = resolve(sources)
    if start_time is not None:
        specs = starting(specs, start_time)
    site = control.site if control is not None else None
    if site is not None:
        specs += site.specs()
    specs = config.with_zones(specs, config.given_zones(zones))
    config.check_zones(pipeline, specs)
    if control is not None and control.shard.shards > 1:
        all_of, specs = len(specs), control.shard.among(specs)
        if not specs and site is None:
            if on_used == "resume" and out is not None and (out / MANIFEST).exists():
                raise UsageError(
                    f"{out} cannot be resumed: it holds another run, and shard {control.shard} has "
                    f"none of the {all_of} sources. Resume it with the sources and shard that it "
                    "was started with, or choose another --out"
                )
            say(f"shard {control.shard} has none of the {all_of} sources: nothing to run")
            return Summary(wall_s=0.0, sources=[], stages=[], shard=str(control.shard))
    live = site is not None or any(spec.may_be_live for spec in specs)
    count = len(specs) if site is None else None
    default = config.default_placement(pipeline, sources=count, live=live)
    placement = config.load_placement(on, pipeline) if on else default
    if engine in (Engine.local, Engine.ray):
        placement = _on_engine(placement, engine, on)
    warn_without_zones(pipeline, specs)
    with (
        monitored(metrics, out) as served,
        notified() as reported,
        shown(status) as show,
        beside(web, say) as watched,
    ):
        on_status = each_of(show, served, reported, watched)
        if engine is Engine.inline:
            from streamvis.runtime import inline
            from streamvis.runtime.host import build_stage

            return inline.run(
                *(pipeline, specs),
                build=build_stage,
                out=out,
                on_used=on_used,
                on_status=on_status,
                give_up_s=give_up_s,
            )
        from streamvis.runtime import launch

        return launch.run(
            *(pipeline, placement, specs),
            out=out,
            on_used=on_used,
            on_status=on_status,
            give_up_s=give_up_s,
            serve=site is not None,
            control=control,
        )
