"""Whole pipelines: `stream` in this process, `run` in processes of their own."""

import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec

from streamvis import config
from streamvis.api.checks import check_device, check_path, is_finite, plain
from streamvis.api.packet import StreamPacket
from streamvis.config import Pipeline
from streamvis.errors import UsageError
from streamvis.messages import Receipt
from streamvis.parsing import quoted, shown
from streamvis.runtime import inline, launch
from streamvis.runtime.metrics import Status, Summary
from streamvis.runtime.output import OnUsed
from streamvis.sources import resolve
from streamvis.sources.spec import SourceSpec

Source = str | int | os.PathLike[str]  # int: the index of a camera
Sources = Source | Sequence[Source]
Settings = Mapping[str, Any]  # "stage.key": value


def stream(
    sources: Sources,
    pipeline: str | os.PathLike[str] | Pipeline = "people",
    *,
    settings: Settings | None = None,
    device: str = "cpu",
    out: str | os.PathLike[str] | None = None,
    on_used: OnUsed = "refuse",
    give_up_s: float | None = None,
) -> Generator[StreamPacket, None, None]:
    """Run a pipeline in this process, and yield each frame with its pixels and parts.

    Nothing is decoded while the loop's body runs. When the loop is left, sources and stages are
    closed. A camera or stream that is lost, refused or absent is connected again, for ever or until
    there was no picture for `give_up_s`; other sources wait while it does not answer.

    The arguments are those of `run`; without `out`, stages that only write files or events, such as
    publish and record, are left out. device: of the networks. Exceptions of stages
    pass through. Raises ConfigError, UsageError and SourceError at once where it can.
    """
    _check_common(on_used, give_up_s)
    loaded, specs, folder = _pipeline(pipeline, settings), _sources(sources), _folder(out)
    if folder is None:
        loaded = _without_sinks(loaded)
    frames = inline.frames(
        loaded,
        specs,
        device=check_device(device, "stream"),
        out=folder,
        on_used=on_used,
        give_up_s=give_up_s,
    )
    return _packets(frames)


def _packets(
    frames: Generator[inline.CompletedFrame, None, Summary],
) -> Generator[StreamPacket, None, None]:
    try:
        for packet, pixels in frames:
            yield StreamPacket(frame=packet.frame, parts=packet.parts, pixels=pixels)
    finally:
        frames.close()


def run(
    pipeline: str | os.PathLike[str] | Pipeline = "people",
    sources: Sources = (),
    *,
    out: str | os.PathLike[str] | None = None,
    on: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    annotate: bool = False,
    on_used: OnUsed = "refuse",
    on_status: Callable[[Status], None] | None = None,
    give_up_s: float | None = None,
) -> Summary:
    """Run a pipeline in worker processes to the end of its sources, as `streamvis run` does.

    pipeline: people, actions, forecast, full, or the path of a file. sources: paths, globs,
    directories, URLs, camera indexes or `synthetic:` scenes. out: directory for events.db,
    tracks.txt and summary.json. on: a placement, by name or path. settings: changes of the
    pipeline, {"detect.min_score": 0.5}. annotate: write an annotated video, too. on_used: where
    `out` holds a run, `refuse`, `overwrite` or `resume` it. on_status: called about once a second.
    give_up_s: seconds without a picture after which a camera or stream has failed; without, it is
    connected again for ever.

    SIGINT and SIGTERM end the run in good order when it is called from the main thread. Raises
    StreamvisError: see `streamvis.errors`.
    """
    _check_common(on_used, give_up_s)
    if not isinstance(annotate, bool):
        raise UsageError(f"annotate is {shown(annotate)}; expected True or False")
    if not (on_status is None or callable(on_status)):
        raise UsageError(
            f"on_status is {shown(on_status)}; expected a function that takes a status, or None"
        )
    loaded, specs, folder = _pipeline(pipeline, settings), _sources(sources), _folder(out)
    if annotate:
        loaded = config.with_record(loaded, config.Record())
    live = any(spec.may_be_live for spec in specs)
    default = config.default_placement(loaded, sources=len(specs), live=live)
    placement = default if on is None else config.load_placement(_placement(on), loaded)
    return launch.run(
        *(loaded, placement, specs),
        out=folder,
        on_used=on_used,
        on_status=on_status,
        give_up_s=give_up_s,
    )


def _check_common(on_used: Any, give_up_s: Any) -> None:
    if not (isinstance(on_used, str) and on_used in get_args(OnUsed)):
        raise UsageError(f"on_used is {shown(on_used)}; expected one of {quoted(get_args(OnUsed))}")
    if give_up_s is not None and not (is_finite(give_up_s) and give_up_s >= 0):
        raise UsageError(f"give_up_s is {shown(give_up_s)}; expected seconds, or None: never")


def _folder(out: object) -> Path | None:
    return None if out is None else check_path(out, "out", "the path of a directory, or None")


def _placement(on: object) -> Path:
    return check_path(on, "on", "the name or path of a placement, or None")


def _pipeline(pipeline: str | os.PathLike[str] | Pipeline, settings: Settings | None) -> Pipeline:
    if isinstance(pipeline, Pipeline):
        if settings:
            raise UsageError("settings are for pipelines by name or path; this one is loaded")
        return pipeline
    if not isinstance(settings, Mapping | None):
        raise UsageError(
            f"settings is a {type(settings).__name__}; expected a mapping, such as "
            "{'detect.min_score': 0.5}"
        )
    for key in settings or {}:
        if not isinstance(key, str):
            raise UsageError(f"settings: the key {shown(key)} is no text; expected stage.key")
    texts = {key: _text_of(key, value) for key, value in (settings or {}).items()}
    path = check_path(pipeline, "pipeline", "a name, such as 'people', a path or a Pipeline")
    return config.load_pipeline(path, texts)


def _text_of(key: str, value: Any) -> str:
    """Return the value of a setting as JSON, which is YAML."""

    def plainer(inner: Any) -> Any:
        if isinstance(inner, os.PathLike):
            return os.fspath(inner)
        if (known := plain(inner)) is not inner:
            return known
        raise TypeError(f"it has a {type(inner).__name__}")

    try:
        return json.dumps(msgspec.to_builtins(value, enc_hook=plainer), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"settings: {key} is {shown(value)}: {error}; expected finite numbers, texts, lists, "
            "mappings, True, False or None"
        ) from None


def _sources(sources: Sources) -> list[SourceSpec]:
    given: list[Any] = [*sources] if isinstance(sources, list | tuple) else [sources]
    if not given:
        raise UsageError("there is no source; name at least one: sources=['video.mp4']")
    for source in given:
        if not isinstance(source, str | int | os.PathLike) or isinstance(source, bool):
            raise UsageError(
                f"sources: found a {type(source).__name__}; expected a path, an address, the "
                "index of a camera or a synthetic: scene, or a list of them"
            )
    return resolve([str(s) if isinstance(s, int) else os.fspath(s) for s in given])


def _without_sinks(pipeline: Pipeline) -> Pipeline:
    """Leave out the stages that only write files or events."""
    needed = {parent for stage in pipeline.stages for parent in stage.after}
    kept = [s for s in pipeline.stages if s.run.writes is not Receipt or s.name in needed]
    if not kept:
        raise UsageError("the pipeline only writes files: give `out`, the directory for them")
    return Pipeline(kept)
