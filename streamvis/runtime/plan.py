"""The groups of a pipeline under a placement: one for each worker spec, connected as a DAG."""

import graphlib

import msgspec

from streamvis.config import (
    Pipeline,
    Placement,
    StageSpec,
    WorkerSpec,
    inputs_of,
    topological_order,
)
from streamvis.errors import ConfigError


class Group(msgspec.Struct, frozen=True):
    """The stages that run together in one process, and the groups that feed them and are fed."""

    index: int  # place in the topological order of groups
    stages: tuple[StageSpec, ...]  # in topological order
    names: tuple[str, ...]
    stateful: tuple[str, ...]  # its stages that keep a state of each source
    inputs: tuple[str, ...]  # stages of other groups whose parts are read here, in pipeline order
    parents: tuple[int, ...]
    children: tuple[int, ...]
    worker: WorkerSpec
    reads_pixels: bool  # whether one of the stages does

    @property
    def follows_status(self) -> bool:
        """Whether one of the stages begins a source before it was ever open."""
        return any(stage.run.follows_status for stage in self.stages)

    @property
    def name(self) -> str:
        return "+".join(self.names)


def group_stages(
    pipeline: Pipeline, placement: Placement, *, live: bool = False
) -> tuple[Group, ...]:
    """Return the groups in topological order; ConfigError when two of them wait for each other.

    live: one of the sources may be live.
    """
    home = {name: i for i, worker in enumerate(placement.workers) for name in worker.stages}
    parents: dict[int, set[int]] = {i: set() for i in range(len(placement.workers))}
    for stage in pipeline.stages:
        parents[home[stage.name]] |= {home[parent] for parent in stage.after} - {home[stage.name]}
    order = _sorted(parents, placement)
    place = {spec: index for index, spec in enumerate(order)}
    return tuple(
        _group(
            pipeline,
            placement.workers[spec],
            index,
            tuple(sorted(place[p] for p in parents[spec])),
            tuple(sorted(place[c] for c in parents if spec in parents[c])),
            live,
        )
        for index, spec in enumerate(order)
    )


def one_stage_per_worker(pipeline: Pipeline) -> Placement:
    """Place every stage in a group of its own, in the order of the pipeline."""
    return Placement(workers=[WorkerSpec(stages=[stage.name]) for stage in pipeline.stages])


def _group(
    pipeline: Pipeline,
    worker: WorkerSpec,
    index: int,
    parents: tuple[int, ...],
    children: tuple[int, ...],
    live: bool,
) -> Group:
    stages = tuple(stage for stage in pipeline.stages if stage.name in worker.stages)
    names = tuple(stage.name for stage in stages)
    needed = {source for name in names for source in inputs_of(pipeline, name)} - set(names)
    return Group(
        index=index,
        stages=stages,
        names=names,
        stateful=tuple(stage.name for stage in stages if stage.run.keeps_state(live)),
        inputs=tuple(stage.name for stage in pipeline.stages if stage.name in needed),
        parents=parents,
        children=children,
        worker=worker,
        reads_pixels=any(stage.run.reads_pixels for stage in stages),
    )


def _sorted(parents: dict[int, set[int]], placement: Placement) -> list[int]:
    try:
        return topological_order(parents)
    except graphlib.CycleError as error:
        cycle = [placement.workers[i].stages for i in parents if i in error.args[1]]
        raise ConfigError(
            "the placement makes workers wait for each other in a cycle: "
            + ", ".join(f"[{', '.join(names)}]" for names in cycle)
            + ". A worker runs its stages in one go; put the stages between them in it too, "
            "or give them workers of their own"
        ) from None
