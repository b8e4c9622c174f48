"""A pipeline: which stages there are, with which settings, and which feeds which.

    pipeline = load_pipeline(Path("pipelines/people.yaml"), {"detect.min_score": "0.6"})

Loading imports no model: a graph that is wired wrongly is refused within a tenth of a second.
"""

import graphlib
import hashlib
from collections.abc import Hashable, Iterable, Mapping, Set
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import yaml
from msgspec import Meta

from streamvis.config.registry import (
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
)
from streamvis.errors import ConfigError, UsageError
from streamvis.parsing import alternatives, convert, quoted, read_mapping
from streamvis.shipped import find

Node = TypeVar("Node", bound=Hashable)


class StageSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stage of a pipeline: its name, its kind with settings, and the stages that feed it."""

    name: Name  # name in placements, `--set` and messages
    run: Run  # kind of the stage, in `kind`, and its settings
    after: list[str] = []  # stages whose output this stage gets; empty: frames only
    every_s: Annotated[float, Meta(ge=0)] = 0.0  # media time between two frames that the stage
    # processes; 0: every frame


class Pipeline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The stages in topological order: each comes after those that feed it."""

    stages: Annotated[list[StageSpec], Meta(min_length=1)]

    def stage(self, name: str) -> StageSpec:
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def hash(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of the configuration."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()[:12]

    @property
    def regions(self) -> tuple[tuple[tuple[float, float], ...], ...]:
        """The detection regions: polygons in shares of the frame's width and height."""
        detectors = (s.run for s in self.stages if isinstance(s.run, MaskRcnn))
        return tuple(tuple(polygon) for run in detectors for polygon in run.region)


def default_pipeline() -> Pipeline:
    """Return the pipeline of `pipelines/people.yaml`: detect, embed, track and publish people."""
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
    """Return the stages above this one whose parts it reads, in pipeline order.

    A stage gets exactly these parts, so that results do not depend on the placement.
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


def lender_of(pipeline: Pipeline, name: str) -> str | None:
    """Return the stage whose worker this one has to share, since it reads its features; or None."""
    stage = pipeline.stage(name)
    if not isinstance(stage.run, Forecaster):
        return None
    return next(p for p in stage.after if isinstance(pipeline.stage(p).run, Segment))


def with_record(pipeline: Pipeline, record: Record) -> Pipeline:
    """Add a stage that writes an annotated video, unless the pipeline has one."""
    if any(isinstance(stage.run, Record) for stage in pipeline.stages):
        return pipeline
    drawn = record.reads | record.may_read
    needs = [stage.name for stage in pipeline.stages if stage.run.writes in drawn]
    return Pipeline(_wired([*pipeline.stages, StageSpec("record", record, after=needs)], "record"))


def without_feed(pipeline: Pipeline) -> Pipeline:
    """Write event logs only, since runs side by side cannot publish on one address."""
    replace = msgspec.structs.replace
    quiet = [
        replace(s, run=replace(s.run, bind=None)) if isinstance(s.run, Publish) else s
        for s in pipeline.stages
    ]
    return replace(pipeline, stages=quiet)


def load_pipeline(path: Path | None, settings: Mapping[str, str] | None = None) -> Pipeline:
    """Read a pipeline (None: the default one) under `stage.key=value` settings.

    The path may be the name of a pipeline that comes with streamvis. Raises ConfigError, one line,
    for invalid YAML, fields, values or wiring.
    """
    raw = (
        read_mapping(find(path, "pipeline"), ConfigError)
        if path
        else msgspec.to_builtins(default_pipeline())
    )
    where = path or "the default pipeline"
    for key, value in (settings or {}).items():
        _override(raw, key, value, where)
    _name_off(raw)
    pipeline = convert(raw, Pipeline, where, ConfigError)
    return msgspec.structs.replace(pipeline, stages=_wired(pipeline.stages, where))


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
            f"--set {key}={value}: expected stage.key=value; {path} has stages {quoted(known)}"
        )
    raise UsageError(
        f"--set {key}={value}: {path} has no stage '{name}'{alternatives(name, known)}"
    )


def _name_off(raw: Any) -> None:
    """Undo YAML 1.1, which reads a plain `off` as false: here it is the name of a kind."""
    stages = raw.get("stages")
    for stage in stages if isinstance(stages, list) else []:
        run = stage.get("run") if isinstance(stage, dict) else None
        if isinstance(run, dict) and run.get("kind") is False:
            run["kind"] = "off"


def _wired(stages: list[StageSpec], path: Path | str) -> list[StageSpec]:
    """Return the stages in topological order; ConfigError names the stage that is wired wrongly."""
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
    written: dict[str, set[str]] = {}  # stage -> the parts that exist once it has run
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
        if lack := missing_input(stage.run, at_hand):
            raise ConfigError(f"{path}: stage '{stage.name}' {lack}")
        written[stage.name] = at_hand | {stage.run.writes}
    return ordered


def topological_order(parents: Mapping[Node, Iterable[Node]]) -> list[Node]:
    """Return the nodes so that each comes after its parents, and otherwise in the given order.

    Raises graphlib.CycleError, whose second argument is the nodes of a cycle.
    """
    place = {node: index for index, node in enumerate(parents)}
    sorter = graphlib.TopologicalSorter(parents)
    sorter.prepare()
    ordered: list[Node] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=place.__getitem__)
        ordered += ready
        sorter.done(*ready)
    return ordered


def _sorted(stages: list[StageSpec], path: Path | str) -> list[StageSpec]:
    by_name = {stage.name: stage for stage in stages}
    try:
        return [by_name[name] for name in topological_order({s.name: s.after for s in stages})]
    except graphlib.CycleError as error:
        cycle = quoted(name for name in by_name if name in error.args[1])
        raise ConfigError(
            f"{path}: stages {cycle} wait for each other in a cycle; remove one of these names "
            "from an `after`"
        ) from None


def missing_input(run: Run, at_hand: Set[str]) -> str | None:
    """Describe which part the settings of a stage require and no stage above writes, or None.

    `at_hand` are the parts that the stages above write. The text ends with the stage to add.
    """
    match run:
        case Jipda():
            return _tracker_misses(run, at_hand)
        case OffActions() if run.scope != "frame" and "tracks" not in at_hand:
            return (
                f"has scope {run.scope}, but no stage above it tracks people; add "
                "{name: detect, run: {kind: mask_rcnn}} and "
                "{name: track, after: [detect], run: {kind: jipda}}, and name track in its "
                "`after`; or set its scope to frame"
            )
        case Publish() if at_hand.isdisjoint(run.may_read):
            return (
                "reads Tracks, but nothing above it writes them; Actions, Segmentation or "
                "Forecast would do as well: name the stage that writes them in its `after`"
            )
        case Record() if at_hand.isdisjoint(run.may_read):
            return (
                "has nothing to draw: no stage above it writes Detections, Tracks, Actions, "
                "Segmentation or Forecast; name one that does in its `after`"
            )
    return None


def _tracker_misses(tracker: Jipda, at_hand: Set[str]) -> str | None:
    if tracker.mode in ("jipda_embed", "gnn_embed") and "embeddings" not in at_hand:
        return (
            f"has mode {tracker.mode}, but no stage above it writes Embeddings; add "
            "{name: embed, after: [detect], run: {kind: appearance}} and name embed in its `after`"
        )
    if tracker.camera == "moving" and "motion" not in at_hand:
        return (
            "has camera moving, but no stage above it measures camera motion; add "
            "{name: camera, run: {kind: camera_motion}} and name camera in its `after`"
        )
    return None


def to_text(pipeline: Pipeline) -> str:
    """Return one line for each stage: what feeds it, which parts it reads and writes."""
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
    """Return the pipeline as Graphviz source, for `streamvis graph --dot | dot -Tsvg`."""
    lines = ["digraph streamvis {", "  rankdir=LR; node [shape=box, fontname=sans-serif];"]
    lines.append('  "frames" [shape=ellipse];')
    for stage in pipeline.stages:
        kind = type(stage.run).__name__
        lines.append(f'  "{stage.name}" [label="{stage.name}\\n{kind}"];')
        for parent in stage.after or ["frames"]:
            written = pipeline.stage(parent).run.writes if stage.after else "pixels"
            lines.append(f'  "{parent}" -> "{stage.name}" [label="{written}"];')
    return "\n".join([*lines, "}"])
