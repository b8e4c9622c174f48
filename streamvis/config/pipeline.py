"""A pipeline: which stages there are, with which settings, and which feeds which.

    pipeline = load_pipeline(Path("pipelines/people.yaml"), {"detect.min_score": "0.6"})

Loading imports no model: a graph that is wired wrongly is refused within a tenth of a second.
"""

import graphlib
import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union

import msgspec
from msgspec import Meta

from streamvis.errors import ConfigError, UsageError
from streamvis.fields import Name
from streamvis.messages import Receipt
from streamvis.parsing import alternatives, convert, quoted, read_mapping, yaml_value
from streamvis.shipped import find
from streamvis.stages import installed_kinds
from streamvis.stages.camera_motion import CameraMotion
from streamvis.stages.detect import MaskRcnn
from streamvis.stages.embed import Appearance
from streamvis.stages.protocol import StageConfig, kind_name, part_name
from streamvis.stages.publish import Publish
from streamvis.stages.record import Record
from streamvis.stages.track import Jipda

Node = TypeVar("Node", bound=Hashable)
if TYPE_CHECKING:
    Run = StageConfig
else:  # a tagged union of the kinds that are installed here
    Run = Union[installed_kinds().kinds]  # noqa: UP007


class StageSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stage of a pipeline: its name, its kind with settings, and the stages that feed it."""

    name: Name  # name in placements, `--set` and messages
    run: Run  # kind of the stage, in `kind`, and its settings
    after: list[str] = []  # stages whose output this stage gets; empty: frames only
    every_s: Annotated[float, Meta(ge=0)] = 0.0  # media time between two frames that the stage
    # processes; 0: every frame
    skip_suspect: bool = False  # whether frames that may be damaged are skipped, since data before
    # them was lost


class Pipeline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The stages in topological order: each comes after those that feed it."""

    stages: Annotated[list[StageSpec], Meta(min_length=1)]

    def stage(self, name: str) -> StageSpec:
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def hash(self) -> str:
        """The first 12 hexadecimal digits of the SHA-256 of the configuration.

        Every setting counts, defaults included. ConfigError for a value that no file may have.
        """
        read = [_as_read(stage) for stage in self.stages]
        data = msgspec.json.encode({"stages": read}, order="deterministic")
        return hashlib.sha256(data).hexdigest()[:12]


def _as_read(stage: StageSpec) -> StageSpec:
    """Return the stage as it is read from a file or by a worker.

    Python code may have set a number of seconds to `0`, which they have as 0.0.
    """
    run = stage.run
    read = convert(msgspec.to_builtins(run), type(run), f"stage '{stage.name}'", ConfigError)
    return msgspec.structs.replace(stage, run=read, every_s=float(stage.every_s))


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
    run = pipeline.stage(name).run
    return tuple(s for s in ancestors_of(pipeline, name) if run.uses(pipeline.stage(s).run))


def ancestors_of(pipeline: Pipeline, name: str) -> tuple[str, ...]:
    """Return all stages above this one, in pipeline order."""
    above: set[str] = set()
    open_ = list(pipeline.stage(name).after)
    while open_:
        parent = open_.pop()
        if parent not in above:
            above.add(parent)
            open_ += pipeline.stage(parent).after
    return tuple(stage.name for stage in pipeline.stages if stage.name in above)


def lender_of(pipeline: Pipeline, name: str) -> str | None:
    """Return the stage whose worker this one has to share, since it reads its features; or None."""
    stage = pipeline.stage(name)
    if stage.run.borrows is None:
        return None
    return next(p for p in stage.after if pipeline.stage(p).run.lends is stage.run.borrows)


def with_record(pipeline: Pipeline, record: Record) -> Pipeline:
    """Add a stage that writes an annotated video, unless the pipeline has one."""
    if any(isinstance(stage.run, Record) for stage in pipeline.stages):
        return pipeline
    needs = [stage.name for stage in pipeline.stages if record.uses(stage.run)]
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
    _check_kinds(raw, where)
    given = ", ".join(f"{key}={value}" for key, value in (settings or {}).items())
    whole = f"{where} with the settings {given}" if given else where
    pipeline = convert(raw, Pipeline, whole, ConfigError)
    return msgspec.structs.replace(pipeline, stages=_wired(pipeline.stages, where))


def _override(raw: Any, key: str, value: str, path: Path | str) -> None:
    name, _, field = key.partition(".")
    stages = raw.get("stages") if isinstance(raw.get("stages"), list) else []
    for stage in stages:
        if isinstance(stage, dict) and stage.get("name") == name and field:
            target = stage if field in ("every_s", "skip_suspect") else stage.setdefault("run", {})
            try:
                found = yaml_value(value)
            except ValueError:
                raise UsageError(f"setting {key}={value}: the value is not YAML") from None
            if isinstance(target, dict):  # otherwise the file is refused for it
                target[field] = found
            return
    known = [str(stage.get("name")) for stage in stages if isinstance(stage, dict)]
    if not field:
        raise UsageError(
            f"setting {key}={value}: expected stage.key=value; {path} has stages {quoted(known)}"
        )
    raise UsageError(
        f"setting {key}={value}: {path} has no stage '{name}'{alternatives(name, known)}"
    )


def _name_off(raw: Any) -> None:
    """Undo YAML 1.1, which reads a plain `off` as false: here it is the name of a kind."""
    stages = raw.get("stages")
    for stage in stages if isinstance(stages, list) else []:
        run = stage.get("run") if isinstance(stage, dict) else None
        if isinstance(run, dict) and run.get("kind") is False:
            run["kind"] = "off"


def _check_kinds(raw: Any, path: Path | str) -> None:
    """Raise ConfigError for a kind of stage that no package provides, or only a broken one."""
    stages, installed = raw.get("stages"), installed_kinds()
    known = [kind_name(kind) for kind in installed.kinds]
    for stage in stages if isinstance(stages, list) else []:
        run = stage.get("run") if isinstance(stage, dict) else None
        kind = run.get("kind") if isinstance(run, dict) else None
        if not isinstance(kind, str) or kind in known:
            continue
        where = f"{path}: stage '{stage.get('name')}'"
        if kind in installed.problems:
            raise ConfigError(f"{where} has kind '{kind}' of {installed.problems[kind]}")
        raise ConfigError(
            f"{where} has kind '{kind}', which neither streamvis nor another installed package "
            f"provides{alternatives(kind, known)}. If a package provides it, install that one; "
            "`streamvis doctor` lists the packages found"
        )


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
    above: dict[str, dict[str, StageSpec]] = {}  # stage -> itself and those above it
    for stage in ordered:
        over: dict[str, StageSpec] = {}
        for parent in stage.after:
            over |= above[parent]
        _check_inputs(stage, list(over.values()), path)
        above[stage.name] = {**over, stage.name: stage}
    return ordered


def _check_inputs(stage: StageSpec, above: Sequence[StageSpec], path: Path | str) -> None:
    """Raise ConfigError when the stages above do not give what this one reads or borrows."""
    run, where = stage.run, f"{path}: stage '{stage.name}'"
    parts = {other.run.writes for other in above}
    for part in sorted(run.reads - parts, key=part_name):
        raise ConfigError(f"{where} reads {part.__name__}, but nothing above it writes them")
    if run.writes is not Receipt and run.writes in parts:
        raise ConfigError(
            f"{where} writes {run.writes.__name__}, but a stage above it has written them already"
        )
    if run.borrows is not None and not any(
        other.run.lends is run.borrows for other in above if other.name in stage.after
    ):
        lenders = quoted(kind_name(k) for k in installed_kinds().kinds if k.lends is run.borrows)
        raise ConfigError(
            f"{where} works on the features of a stage of kind {lenders}; name that one in its "
            "`after`"
        )
    if lack := run.missing([other.run for other in above]):
        raise ConfigError(f"{where} {lack}")


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


def to_text(pipeline: Pipeline) -> str:
    """Return one line for each stage: what feeds it, which parts it reads and writes."""
    width = max(len(stage.name) for stage in pipeline.stages)
    lines = []
    for stage in pipeline.stages:
        fed = ", ".join(stage.after) or "frames"
        inputs = inputs_of(pipeline, stage.name)
        parts = {part_name(pipeline.stage(one).run.writes) for one in inputs}
        reads = ", ".join(sorted(parts)) or "pixels"
        every = f", every {stage.every_s:g} s" if stage.every_s else ""
        every += ", no suspect frames" if stage.skip_suspect else ""
        lines.append(
            f"{stage.name:<{width}}  <- {fed}: {reads} -> {part_name(stage.run.writes)}{every}"
        )
    return "\n".join(lines)


def to_dot(pipeline: Pipeline) -> str:
    """Return the pipeline as Graphviz source, for `streamvis graph --dot | dot -Tsvg`."""
    lines = ["digraph streamvis {", "  rankdir=LR; node [shape=box, fontname=sans-serif];"]
    lines.append('  "frames" [shape=ellipse];')
    for stage in pipeline.stages:
        kind = type(stage.run).__name__
        lines.append(f'  "{stage.name}" [label="{stage.name}\\n{kind}"];')
        for parent in stage.after or ["frames"]:
            written = part_name(pipeline.stage(parent).run.writes) if stage.after else "pixels"
            lines.append(f'  "{parent}" -> "{stage.name}" [label="{written}"];')
    return "\n".join([*lines, "}"])
