"""A placement: which worker runs which stages of a pipeline, on which device, how many times.

placement = load_placement(Path("configs/one-gpu.yaml"), pipeline)
"""

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from streamvis.config.pipeline import Pipeline, lender_of
from streamvis.errors import ConfigError
from streamvis.parsing import alternatives, convert, quoted, read_mapping
from streamvis.shipped import find
from streamvis.stages.publish import Publish
from streamvis.stages.record import Record


class WorkerSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A worker group: the stages that one process hosts, its device, and its replicas."""

    stages: Annotated[list[str], Meta(min_length=1)]  # names of the stages, in pipeline order
    device: Annotated[str, Meta(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"  # device of the networks
    cores: list[Annotated[int, Meta(ge=0)]] = []  # CPU cores that the processes are pinned to;
    # empty: any
    replicas: Annotated[int, Meta(ge=1, le=64)] = 1  # number of processes
    batch: Annotated[int, Meta(ge=1, le=256)] = 1  # largest number of frames in one call
    wait_ms: Annotated[float, Meta(ge=0)] = 0.0  # how long an incomplete batch waits for more
    # frames
    fallback: Literal["cpu"] | None = None  # device to use where `device` is absent; none: the run
    # ends with exit code 4
    threads: Annotated[int, Meta(ge=1)] | None = None  # threads of the numeric libraries in each
    # process; none: workers with networks share the cores, all others have one


class DecodeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the sources are decoded that have no setting of their own."""

    hwaccel: Literal["auto", "none", "cuda", "qsv", "drm"] = (
        "none"  # device that decodes; auto: one
    )
    # that is there, or else the CPU


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The worker groups that run a pipeline on this machine."""

    workers: Annotated[list[WorkerSpec], Meta(min_length=1)]  # worker groups; every stage is in one
    slots: Annotated[int, Meta(ge=1, le=256)] = 8  # frames of each source that may be in flight at
    # once: bounds memory and latency
    decode: DecodeSpec = DecodeSpec()  # decoding of files, cameras and streams


def load_placement(path: Path, pipeline: Pipeline) -> Placement:
    """Read a placement, a file or a shipped one by name, and check that it fits the pipeline."""
    placement = convert(
        read_mapping(find(path, "placement"), ConfigError), Placement, path, ConfigError
    )
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


def default_placement(pipeline: Pipeline, runs: int = 1) -> Placement:
    """Place each network in a worker of its own, and the stages without torch together in another.

    A network that is fed by one other network alone shares its worker. Stages without torch are
    split over several workers where a network runs between them. So torch is loaded once for each
    chain of networks, and each network has all cores in its turn. With several `runs` side by
    side, each takes its share of the cores.
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
    light: dict[int, list[str]] = {}  # level -> stages
    levels: dict[str, int] = {}  # stage -> how many networks with light parents lie above it
    for stage in pipeline.stages:
        waits = [levels[parent] for parent in stage.after]
        if stage.run.torch:
            fed = [not pipeline.stage(parent).run.torch for parent in stage.after]
            levels[stage.name] = max((w + f for w, f in zip(waits, fed, strict=True)), default=0)
        else:
            levels[stage.name] = max(waits, default=0)
            light.setdefault(levels[stage.name], []).append(stage.name)
    return Placement(workers=[*heavy, *(WorkerSpec(names) for names in light.values())])


def _check_lenders(placement: Placement, pipeline: Pipeline, path: Path) -> None:
    home = {name: worker.stages for worker in placement.workers for name in worker.stages}
    for stage in pipeline.stages:
        lender = lender_of(pipeline, stage.name)
        if lender is not None and stage.name not in home[lender]:
            raise ConfigError(
                f"{path}: stage '{stage.name}' works on the features of '{lender}', which never "
                f"leave its worker, but is placed in {quoted(home[stage.name])}; write "
                f"`stages: [{', '.join([*home[lender], stage.name])}]`"
            )


def _check_worker(worker: WorkerSpec, pipeline: Pipeline, cores: set[int], path: Path) -> None:
    where = f"{path}: worker {quoted(worker.stages)}"
    absent = [core for core in worker.cores if core not in cores]
    if absent:
        raise ConfigError(f"{where} wants cores {absent}; this process may use {sorted(cores)}")
    for name in worker.stages:
        if worker.replicas > 1 and isinstance(pipeline.stage(name).run, Publish | Record):
            raise ConfigError(
                f"{where}: stage '{name}' writes files and cannot have {worker.replicas} replicas"
            )
