"""Pipelines (*what*) and placements (*where*) as types. The tagged union is the registry.

    pipeline = load_pipeline(Path("pipelines/people.yaml"), {"detect.min_score": "0.6"})
    placement = load_placement(Path("configs/one-gpu.yaml"), pipeline)

Loading is quick and imports no model: a mis-wired graph is told within a tenth of a second.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

from streamvis.config.registry import (
    Alarm,
    Appearance,
    CameraMotion,
    Forecaster,
    Jipda,
    MaskRcnn,
    Name,
    OffActions,
    Publish,
    Record,
    Run,
    Segment,
    Zone,
)
from streamvis.errors import ConfigError, UsageError
from streamvis.parsing import alternatives, convert, read_yaml
from streamvis.shipped import find

__all__ = [  # what kinds there are is part of it
    "Alarm",
    "Appearance",
    "CameraMotion",
    "Forecaster",
    "Jipda",
    "MaskRcnn",
    "Name",
    "OffActions",
    "Pipeline",
    "Placement",
    "Publish",
    "Record",
    "Run",
    "Segment",
    "StageSpec",
    "WorkerSpec",
    "Zone",
    "default_pipeline",
    "default_placement",
    "inputs_of",
    "lacking",
    "lender_of",
    "load_pipeline",
    "load_placement",
    "to_dot",
    "to_text",
    "with_record",
    "without_feed",
]


class StageSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stage of a pipeline: its name, what feeds it, what it runs."""

    name: Name
    run: Run
    after: list[str] = []
    every_s: Annotated[float, Meta(ge=0)] = 0.0  # media seconds between runs; 0: every frame


class Pipeline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Stages in an order in which every stage comes after those that feed it."""

    stages: Annotated[list[StageSpec], Meta(min_length=1)]

    def stage(self, name: str) -> StageSpec:
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def hash(self) -> str:
        """A short name for exactly this configuration."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()[:12]


class WorkerSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of worker: which stages it hosts, on what, how many times."""

    stages: Annotated[list[str], Meta(min_length=1)]
    device: Annotated[str, Meta(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    cores: list[Annotated[int, Meta(ge=0)]] = []  # CPU cores to stay on; empty: any
    replicas: Annotated[int, Meta(ge=1, le=64)] = 1
    batch: Annotated[int, Meta(ge=1, le=256)] = 1  # most packets in one call
    wait_ms: Annotated[float, Meta(ge=0)] = 0.0  # how long an incomplete batch waits
    fallback: Literal["cpu"] | None = None  # where to run when the device is not there
    threads: Annotated[int, Meta(ge=1)] | None = None  # of the numeric libraries; None: all cores


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a pipeline runs on this machine."""

    workers: Annotated[list[WorkerSpec], Meta(min_length=1)]
    slots: Annotated[int, Meta(ge=1, le=256)] = 8  # frames in flight for each source


def default_pipeline() -> Pipeline:
    """People found, told apart, followed, published: `pipelines/people.yaml`, wherever we are."""
    return Pipeline(
        stages=[
            StageSpec("detect", MaskRcnn()),
            StageSpec("camera", CameraMotion()),
            StageSpec("embed", Appearance(), after=["detect"]),
            StageSpec("track", Jipda(), after=["embed", "camera"]),
            StageSpec("publish", Publish(), after=["track"]),
        ]
    )


def inputs_of(pipeline: Pipeline, name: str) -> tuple[str, ...]:
    """The stages above this one whose parts it reads, in pipeline order.

    Exactly these parts reach the stage, wherever it runs: results do not depend on the placement.
    """
    above = _above(pipeline, name)
    run = pipeline.stage(name).run
    reads = run.reads | run.may_read
    return tuple(s.name for s in pipeline.stages if s.name in above and s.run.writes in reads)


def _above(pipeline: Pipeline, name: str) -> set[str]:
    above: set[str] = set()
    open_ = list(pipeline.stage(name).after)
    while open_:
        parent = open_.pop()
        if parent not in above:
            above.add(parent)
            open_ += pipeline.stage(parent).after
    return above


def with_record(pipeline: Pipeline, record: Record) -> Pipeline:
    """The pipeline with a stage that writes an annotated video, if it has none."""
    if any(isinstance(stage.run, Record) for stage in pipeline.stages):
        return pipeline
    drawn = record.reads | record.may_read
    needs = [stage.name for stage in pipeline.stages if stage.run.writes in drawn]
    return Pipeline(_wired([*pipeline.stages, StageSpec("record", record, after=needs)], "record"))


def without_feed(pipeline: Pipeline) -> Pipeline:
    """The pipeline with event logs only: runs side by side cannot share an address."""
    replace = msgspec.structs.replace
    quiet = [
        replace(s, run=replace(s.run, bind=None)) if isinstance(s.run, Publish) else s
        for s in pipeline.stages
    ]
    return replace(pipeline, stages=quiet)


def load_pipeline(path: Path | None, settings: Mapping[str, str] | None = None) -> Pipeline:
    """Read a pipeline (None: the default one) under `stage.key=value` settings.

    The path may be the name of one that comes with streamvis. ConfigError says in one line what
    is wrong: YAML, fields, values, wiring.
    """
    raw = _read(find(path, "pipeline")) if path else msgspec.to_builtins(default_pipeline())
    where = path or "the default pipeline"
    for key, value in (settings or {}).items():
        _override(raw, key, value, where)
    _name_off(raw)
    pipeline = convert(raw, Pipeline, where, ConfigError)
    return msgspec.structs.replace(pipeline, stages=_wired(pipeline.stages, where))


def load_placement(path: Path, pipeline: Pipeline) -> Placement:
    """Read a placement, a file or a shipped one by name, and hold it against the pipeline."""
    placement = convert(_read(find(path, "placement")), Placement, path, ConfigError)
    placed = [name for worker in placement.workers for name in worker.stages]
    names = [stage.name for stage in pipeline.stages]
    for name in placed:
        if name not in names:
            raise ConfigError(
                f"{path}: places stage '{name}', which the pipeline does not have"
                f"{alternatives(name, names)}"
            )
        if placed.count(name) > 1:
            raise ConfigError(
                f"{path}: stage '{name}' is placed {placed.count(name)} times; place it once"
            )
    for name in names:
        if name not in placed:
            raise ConfigError(
                f"{path}: stage '{name}' has no worker; add it to one of the `stages` lists"
            )
    cores = os.sched_getaffinity(0)
    for worker in placement.workers:
        _check_worker(worker, pipeline, cores, path)
    _check_lenders(placement, pipeline, path)
    return placement


def lender_of(pipeline: Pipeline, name: str) -> str | None:
    """The stage whose worker this one has to share, for it is lent more than parts; or None."""
    stage = pipeline.stage(name)
    if not isinstance(stage.run, Forecaster):
        return None
    return next(p for p in stage.after if isinstance(pipeline.stage(p).run, Segment))


def default_placement(pipeline: Pipeline, runs: int = 1) -> Placement:
    """A network has a worker, and others that wait for it alone are in it; the rest shares one,
    but for stages that wait for a network that waits for some of the rest: they share the next.

    So torch is in memory once, and each network has all cores in its turn. With several runs side
    by side, the networks of each take their share of the cores.
    """
    threads = None if runs == 1 else max(1, len(os.sched_getaffinity(0)) // runs)
    chains: list[list[str]] = []
    for stage in pipeline.stages:
        lender = lender_of(pipeline, stage.name)
        before = next((c for c in chains if stage.after == c[-1:] or lender in c), None)
        if stage.run.torch and before:
            before.append(stage.name)
        elif stage.run.torch:
            chains.append([stage.name])
    heavy = [WorkerSpec(chain, threads=threads) for chain in chains]
    light: dict[int, list[str]] = {}  # turn -> stages
    turns: dict[str, int] = {}  # the turn that a stage has to wait for, or has
    for stage in pipeline.stages:
        waits = [turns[parent] for parent in stage.after]
        if stage.run.torch:
            fed = [not pipeline.stage(parent).run.torch for parent in stage.after]
            turns[stage.name] = max((w + f for w, f in zip(waits, fed, strict=True)), default=0)
        else:
            turns[stage.name] = max(waits, default=0)
            light.setdefault(turns[stage.name], []).append(stage.name)
    return Placement(workers=[*heavy, *(WorkerSpec(names) for names in light.values())])


def _check_lenders(placement: Placement, pipeline: Pipeline, path: Path) -> None:
    home = {name: worker.stages for worker in placement.workers for name in worker.stages}
    for stage in pipeline.stages:
        lender = lender_of(pipeline, stage.name)
        if lender is not None and stage.name not in home[lender]:
            raise ConfigError(
                f"{path}: stage '{stage.name}' works on the features of '{lender}', which never "
                f"leave its worker, but is placed in {_list(home[stage.name])}; write "
                f"`stages: [{', '.join([*home[lender], stage.name])}]`"
            )


def _check_worker(worker: WorkerSpec, pipeline: Pipeline, cores: set[int], path: Path) -> None:
    where = f"{path}: worker {_list(worker.stages)}"
    absent = [core for core in worker.cores if core not in cores]
    if absent:
        raise ConfigError(f"{where} wants cores {absent}; this process may use {sorted(cores)}")
    for name in worker.stages:
        if worker.replicas > 1 and isinstance(pipeline.stage(name).run, Publish | Record):
            raise ConfigError(
                f"{where}: stage '{name}' writes files and cannot have {worker.replicas} replicas"
            )


def _read(path: Path) -> Any:
    raw = read_yaml(path, ConfigError)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a mapping at the top, found {type(raw).__name__}")
    return raw


def _override(raw: Any, key: str, value: str, path: Path | str) -> None:
    name, _, field = key.partition(".")
    stages = raw.get("stages") if isinstance(raw.get("stages"), list) else []
    for stage in stages:
        if isinstance(stage, dict) and stage.get("name") == name and field:
            target = stage if field == "every_s" else stage.setdefault("run", {})
            try:
                target[field] = yaml.safe_load(value)
            except yaml.YAMLError:
                raise UsageError(f"--set {key}={value}: the value is not YAML") from None
            return
    known = [str(stage.get("name")) for stage in stages if isinstance(stage, dict)]
    if not field:
        raise UsageError(
            f"--set {key}={value}: expected stage.key=value; {path} has stages {_list(known)}"
        )
    raise UsageError(
        f"--set {key}={value}: {path} has no stage '{name}'{alternatives(name, known)}"
    )


def _name_off(raw: Any) -> None:
    """YAML 1.1 reads a plain `off` as false; here it is the name of a kind."""
    stages = raw.get("stages")
    for stage in stages if isinstance(stages, list) else []:
        run = stage.get("run") if isinstance(stage, dict) else None
        if isinstance(run, dict) and run.get("kind") is False:
            run["kind"] = "off"


def _wired(stages: list[StageSpec], path: Path | str) -> list[StageSpec]:
    """The stages in topological order, or a ConfigError that names the one that hangs."""
    names = [stage.name for stage in stages]
    for stage in stages:
        if names.count(stage.name) > 1:
            raise ConfigError(f"{path}: two stages are called '{stage.name}'")
        for parent in stage.after:
            if parent not in names:
                raise ConfigError(
                    f"{path}: stage '{stage.name}' comes after '{parent}', but there is no such "
                    f"stage{alternatives(parent, [name for name in names if name != stage.name])}"
                )
    ordered = _sorted(stages, path)
    written: dict[str, set[str]] = {}  # stage -> the parts at hand once it has run
    for stage in ordered:
        at_hand = set().union(*(written[parent] for parent in stage.after))
        for part in sorted(stage.run.reads - at_hand):
            raise ConfigError(
                f"{path}: stage '{stage.name}' reads {part.capitalize()}, "
                "but nothing above it writes them"
            )
        if stage.run.writes != "receipt" and stage.run.writes in at_hand:
            raise ConfigError(
                f"{path}: stage '{stage.name}' writes {stage.run.writes.capitalize()}, "
                "but a stage above it has written them already"
            )
        if isinstance(stage.run, Forecaster) and not any(
            isinstance(s.run, Segment) for s in ordered if s.name in stage.after
        ):
            raise ConfigError(
                f"{path}: stage '{stage.name}' works on the features of a stage of kind segment; "
                "name that one in its `after`"
            )
        if lack := lacking(stage.run, at_hand):
            raise ConfigError(f"{path}: stage '{stage.name}' {lack}")
        written[stage.name] = at_hand | {stage.run.writes}
    return ordered


def lacking(run: Run, at_hand: Set[str]) -> str | None:
    """What a stage's settings ask for and no part at hand gives, and what to do; None: nothing.

    A stage that may choose takes what there is.
    """
    match run:
        case Jipda():
            return _tracker_lacks(run, at_hand)
        case OffActions() if run.scope != "frame" and "tracks" not in at_hand:
            return (
                f"has scope {run.scope}, but nothing above it follows people; add "
                "{name: detect, run: {kind: mask_rcnn}} and "
                "{name: track, after: [detect], run: {kind: jipda}}, and name track in its "
                "`after`; or set its scope to frame"
            )
        case Publish() if at_hand.isdisjoint(run.may_read):
            return (
                "reads Tracks, but nothing above it writes them; Actions, Segmentation or "
                "Forecast would do too"
            )
        case Record() if at_hand.isdisjoint(run.may_read):
            return "has nothing to draw: no stage above it writes Tracks, Segmentation, …"
    return None


def _tracker_lacks(tracker: Jipda, at_hand: Set[str]) -> str | None:
    if tracker.mode in ("jipda_embed", "gnn_embed") and "embeddings" not in at_hand:
        return (
            f"has mode {tracker.mode}, but nothing above it says what people look like; add "
            "{name: embed, after: [detect], run: {kind: appearance}} and name embed in its `after`"
        )
    if tracker.camera == "moving" and "motion" not in at_hand:
        return (
            "has camera moving, but nothing above it measures how it moves; add "
            "{name: camera, run: {kind: camera_motion}} and name camera in its `after`"
        )
    return None


def _sorted(stages: list[StageSpec], path: Path | str) -> list[StageSpec]:
    ordered: list[StageSpec] = []
    left = list(stages)
    while left:
        done = {stage.name for stage in ordered}
        ready = [stage for stage in left if done.issuperset(stage.after)]
        if not ready:
            raise ConfigError(
                f"{path}: stages {_list(s.name for s in left)} wait for each other in a circle"
            )
        ordered += ready
        left = [stage for stage in left if stage not in ready]
    return ordered


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"


def to_text(pipeline: Pipeline) -> str:
    """One line for each stage: what feeds it, what it reads and writes."""
    width = max(len(stage.name) for stage in pipeline.stages)
    lines = []
    for stage in pipeline.stages:
        fed = ", ".join(stage.after) or "frames"
        inputs = inputs_of(pipeline, stage.name)
        reads = ", ".join(sorted({pipeline.stage(one).run.writes for one in inputs})) or "pixels"
        every = f", every {stage.every_s:g} s" if stage.every_s else ""
        lines.append(f"{stage.name:<{width}}  <- {fed}: {reads} -> {stage.run.writes}{every}")
    return "\n".join(lines)


def to_dot(pipeline: Pipeline) -> str:
    """The pipeline as Graphviz: `streamvis graph --dot | dot -Tsvg`."""
    lines = ["digraph streamvis {", "  rankdir=LR; node [shape=box, fontname=sans-serif];"]
    lines.append('  "frames" [shape=ellipse];')
    for stage in pipeline.stages:
        kind = type(stage.run).__name__
        lines.append(f'  "{stage.name}" [label="{stage.name}\\n{kind}"];')
        for parent in stage.after or ["frames"]:
            written = pipeline.stage(parent).run.writes if stage.after else "pixels"
            lines.append(f'  "{parent}" -> "{stage.name}" [label="{written}"];')
    return "\n".join([*lines, "}"])
