"""The local engine: a process for each source and for each replica of each worker group."""

import gc
import importlib.util
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from streamvis.config import LocalSpec, Pipeline, Placement, zones_of
from streamvis.errors import EndedEarlyError, RunError, UsageError
from streamvis.runtime.control_socket import Control, ControlSettings, controlled
from streamvis.runtime.engine import Engine, LocalEngine
from streamvis.runtime.errors import failure
from streamvis.runtime.hub import Hub, Program
from streamvis.runtime.metrics import Meter, Status, Summary, write_summary
from streamvis.runtime.output import OnUsed
from streamvis.runtime.plan import Group, group_stages
from streamvis.runtime.processes import discard_closed, open_terminals
from streamvis.runtime.reconnect import reconnect_of
from streamvis.runtime.resume import RunStart, claimed
from streamvis.runtime.routing import Core
from streamvis.runtime.supervision import Limits
from streamvis.sources.shard import ALL
from streamvis.sources.spec import SourceSpec
from streamvis.transport.sockets import private_directory


def run(
    pipeline: Pipeline,
    placement: Placement,
    sources: Sequence[SourceSpec],
    *,
    build: str = "streamvis.runtime.host:build_stage",
    open_source: str = "streamvis.sources:open_source",
    out: Path | None = None,
    on_used: OnUsed = "refuse",
    on_status: Callable[[Status], None] | None = None,
    limits: Limits | None = None,
    give_up_s: float | None = None,
    serve: bool = False,
    control: ControlSettings | None = None,
) -> Summary:
    """Run to the end of all sources, or until SIGINT, SIGTERM or SIGHUP.

    A camera or stream that is lost, refused or absent is connected again, for ever or until there
    was no picture for `give_up_s`. A run that serves goes on without any source. With `control` it
    has a control socket; if it follows a sources file, SIGHUP has it read again.

    The first signal drains the run within ten seconds: frames that workers have begun are
    finished, others are dropped and counted. A second one, other than SIGHUP, ends the run at once.
    `out/summary.json` and `out/tracks.txt` are written in any case.

    `on_used` applies where `out` holds a run already: `refuse`, `overwrite` it, or `resume` it,
    which starts a new run where there is none and changes nothing when the run is finished.
    `on_status` is called about once a second.

    Raises the exception of a stage's builder, UsageError when `out` is used, RunError when another
    run writes there or workers keep dying, EndedEarlyError after a second signal, and SourceError
    when every source failed.
    """
    specs = _by_id(sources, serve)
    live = serve or any(spec.may_be_live for spec in sources)
    groups = group_stages(pipeline, placement, live=live)
    shard = str(control.shard if control is not None else ALL)
    with claimed(out, pipeline, sources, on_used, serve=serve, shard=shard) as start:
        if start.finished is not None:
            return start.finished
        core = Core(
            groups,
            list(specs),
            placement.slots,
            limits,
            start.sources,
            reconnect={name: reconnect_of(spec, give_up_s) for name, spec in specs.items()},
            labels={name: spec.label for name, spec in specs.items()},
            zones=zones_of(pipeline, sources),
            serve=serve,
        )
        program = Program(
            pipeline=pipeline,
            sources=specs,
            build=build,
            opener=open_source,
            out=str(out) if out is not None else None,
            epoch=start.epoch,
            logged=start.logged,
            threads=_threads(groups),
            hwaccel=placement.decode.hwaccel,
            give_up_s=give_up_s,
            live=live,
        )
        with controlled(control, out, pipeline) as requests:
            return _run(core, program, placement, out, on_status, start, requests)


def _run(
    core: Core,
    program: Program,
    placement: Placement,
    out: Path | None,
    on_status: Callable[[Status], None] | None,
    start: RunStart,
    control: Control | None,
) -> Summary:
    meter = Meter(time.monotonic(), str(control.shard if control is not None else ALL))
    meter.findings.update(start.findings)
    with (
        private_directory() as home,
        closing(_engine(core, program, placement, f"ipc://{home}/hub")) as engine,
        closing(
            Hub(core, program, meter, f"ipc://{home}/hub", engine, on_status, start.save, control)
        ) as hub,
    ):
        try:
            with _signals(hub), _fewer_to_collect():
                hub.run()
        finally:
            error = failure(core) or (_ended_early(hub.signals) if hub.ended_early else None)
            summary = _summary(core, program, meter, hub, str(error or ""))
            if out is not None:
                _write_summary(summary, out)
    if error is not None:
        raise error
    return summary


def _engine(core: Core, program: Program, placement: Placement, endpoint: str) -> Engine[Any]:
    if isinstance(placement.engine, LocalSpec):
        return LocalEngine(endpoint, core.window)
    if importlib.util.find_spec("ray") is None:
        raise UsageError("engine ray needs Ray on all machines: pip install 'ray>=2.50,<3'")
    recorded = [spec.id for spec in program.sources.values() if spec.record is not None]
    if recorded:
        raise UsageError(
            f"source '{recorded[0]}' has `record`, but engine ray decodes on other machines, where "
            "the output directory is not; leave it out, or take engine local"
        )
    from streamvis.runtime.ray import RayEngine

    return RayEngine(placement.engine, placement, core.groups, endpoint, core.window)


def _ended_early(signals: Sequence[int]) -> EndedEarlyError:
    name = signal.Signals(signals[-1]).name
    return EndedEarlyError(
        f"the run was ended by a second signal ({name}) before it was finished: open tracks have "
        "no end in the event log, and frames in flight are lost",
        signals[-1],
    )


def _summary(core: Core, program: Program, meter: Meter, hub: Hub, error: str) -> Summary:
    summary = meter.summary(core, time.monotonic())
    return msgspec.structs.replace(
        summary,
        interrupted=signal.Signals(hub.signals[0]).name if hub.signals else "",
        error=error,
        refused_messages=hub.refused,
        pipeline=program.pipeline.hash,
        epoch=program.epoch,
    )


def _write_summary(summary: Summary, out: Path) -> None:
    """Write the summary; of a failed run, the first error matters more than a failed write."""
    try:
        write_summary(summary, out)
    except RunError:
        if not summary.error:
            raise


def _by_id(sources: Sequence[SourceSpec], serve: bool) -> dict[str, SourceSpec]:
    specs = {spec.id: spec for spec in sources}
    if not specs and not serve:
        raise UsageError("the run has no source; name at least one")
    if len(specs) < len(sources):
        ids = [spec.id for spec in sources]
        twice = next(name for name in ids if ids.count(name) > 1)
        raise UsageError(f"two sources are called '{twice}'; give each its own id")
    return specs


def _threads(groups: Sequence[Group]) -> dict[str, int]:
    """Return the threads of the numeric libraries by group, where the placement sets none.

    Workers with networks share the cores; the arrays of the others are too small for threads.
    """
    heavy = [group for group in groups if any(stage.run.torch for stage in group.stages)]
    share = len(os.sched_getaffinity(0)) // max(1, sum(g.worker.replicas for g in heavy))
    return {
        group.name: group.worker.threads
        or (len(group.worker.cores) or max(1, share) if group in heavy else 1)
        for group in groups
    }


@contextmanager
def _fewer_to_collect() -> Iterator[None]:
    """Leave what exists now, modules above all, to no collection of garbage during the run.

    The hub makes and forgets objects for each packet, and each full collection would take as long
    as hundreds of packets.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _signals(hub: Hub) -> Iterator[None]:
    """Send the signals that end a run to the hub; only the main thread may handle them.

    SIGHUP stays ignored where it was (nohup). Otherwise it means that the terminal was closed:
    further output is discarded, since writing it would fail.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    terminals = open_terminals()

    def interrupt(number: int, _: object) -> None:
        if number == signal.SIGHUP:
            discard_closed(terminals)
        hub.interrupt(number)

    taken = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        taken.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
