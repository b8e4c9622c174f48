"""A placement: which worker runs which stages of a pipeline, on which device, how many times.

placement = load_placement(Path("configs/one-gpu.yaml"), pipeline)
"""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from streamvis.config.machine import Machine, this_machine
from streamvis.config.pipeline import Pipeline, lender_of
from streamvis.errors import ConfigError
from streamvis.parsing import alternatives, convert, quoted, read_mapping
from streamvis.shipped import find
from streamvis.stages.publish import Publish
from streamvis.stages.record import Record

SLOTS = 8
MOST_REPLICAS = 8  # of networks: more take too much memory for what they gain
NETWORK_MB = 700  # of a process with networks
CORE_FPS = 12.0  # frames per second of a core, by detection and embedding of `people`
GPU_FPS = 300.0  # of a GPU: assumed
GPU_BATCH = 8  # frames; it fills while the batch before is at work, and never waits
LIGHT_BATCH = 4  # frames of files that stages without a network take together while they lag
LIGHT_FPS = 120.0  # of a process with all stages of `people` that run no network


class WorkerSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A worker group: the stages that one process hosts, its device, and its replicas."""

    stages: Annotated[list[str], Meta(min_length=1)]  # names of the stages, in pipeline order
    device: Annotated[str, Meta(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"  # device of the networks
    cores: list[Annotated[int, Meta(ge=0)]] = []  # CPU cores that the processes are pinned to;
    # empty: any
    replicas: Annotated[int, Meta(ge=1, le=256)] = 1  # number of processes
    batch: Annotated[int, Meta(ge=1, le=256)] = 1  # largest number of frames in one call
    wait_ms: Annotated[float, Meta(ge=0)] = 0.0  # how long an incomplete batch waits for more
    # frames, if they come often enough to fill it
    fallback: Literal["cpu"] | None = None  # device to use where `device` is absent; none: the run
    # ends with exit code 4
    threads: Annotated[int, Meta(ge=1)] | None = None  # threads of the numeric libraries in each
    # process; none: workers with networks share the cores, all others have one
    needs: dict[str, Annotated[float, Meta(gt=0)]] = {}  # with engine ray: resources of its node
    # that each process takes, such as `gpu_node: 0.01`; CPU and GPU replace what is counted else
    node: Literal["hub"] | None = None  # with engine ray: `hub` for the node that has the event log
    pixels: Literal["raw", "jpeg"] = "raw"  # with engine ray: how pixels come from another node


class DecodeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the sources are decoded that have no setting of their own."""

    hwaccel: Literal["auto", "none", "cuda", "qsv", "drm"] = "none"  # device that decodes;
    # auto: one that is there, or else the CPU


class LocalSpec(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="local"
):
    """Processes of this machine."""


class RaySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="ray"):
    """Actors of a Ray cluster."""

    address: str = "auto"  # of the cluster, such as 10.0.0.1:6379; auto: the one on this machine
    node_ip: str | None = None  # address of this machine in the cluster, where it has several
    start_s: Annotated[float, Meta(gt=0)] = 60.0  # how long a run waits for the resources it needs


class SourcesSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where sources are decoded, with engine ray."""

    spread: bool = True  # over all replicas of the workers that read pixels
    together: bool = True  # a source is decoded on the node of the workers that read its pixels
    needs: dict[str, Annotated[float, Meta(gt=0)]] = {}  # resources of the node, such as
    # `camera_lan: 0.01`


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The worker groups that run a pipeline, on this machine or on several."""

    workers: Annotated[list[WorkerSpec], Meta(min_length=1)]  # worker groups; every stage is in one
    slots: Annotated[int, Meta(ge=1, le=256)] = SLOTS  # frames of each source that may be in
    # flight at once: bounds memory and latency
    decode: DecodeSpec = DecodeSpec()  # decoding of files, cameras and streams
    engine: LocalSpec | RaySpec = LocalSpec()  # what starts the processes
    sources: SourcesSpec = SourcesSpec()  # with engine ray: where sources are decoded


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
    local = isinstance(placement.engine, LocalSpec)
    if local and placement.sources != SourcesSpec():
        raise ConfigError(f"{path}: `sources` is for engine ray; add `engine: {{kind: ray}}`")
    for worker in placement.workers:
        _check_worker(worker, pipeline, cores, path)
        if local and (worker.needs or worker.node is not None or worker.pixels != "raw"):
            raise ConfigError(
                f"{path}: worker {quoted(worker.stages)} has `needs`, `node` or `pixels`, "
                "which are for engine ray; add `engine: {kind: ray}`"
            )
        if not local and worker.cores:
            raise ConfigError(
                f"{path}: worker {quoted(worker.stages)} has `cores`, but engine ray does not pin "
                "processes; leave them out"
            )
    _check_lenders(placement, pipeline, path)
    return placement


def default_placement(
    pipeline: Pipeline,
    runs: int = 1,  # side by side, each of which takes its share of the cores
    *,
    sources: int | None = None,  # of each run; None: not known, or sources come and go
    live: bool = False,  # one of them may be live
    machine: Machine | None = None,  # None: this one
) -> Placement:
    """Place networks in workers of their own, and the stages without torch together in others.

    A network that is fed by one other network alone shares its worker. Stages without torch are
    split over several workers where a network runs between them. On a CPU a chain of networks has a
    process of one thread for each core, as far as its sources and the memory allow; those are
    faster than fewer processes of several threads. On GPUs it has one process and batches. Cores
    are not reserved for the hub and for decoding, which take a tenth of the CPU time.
    """
    machine = machine or this_machine()
    chains = _chains(pipeline)
    on_gpu = [chain for chain in chains if machine.gpus and _runs_on_gpu(pipeline, chain)]
    share = machine.cores // (runs * max(1, len(chains) - len(on_gpu)))
    most = min(MOST_REPLICAS, machine.memory_mb // (2 * NETWORK_MB * runs * max(1, len(chains))))
    heavy: list[WorkerSpec] = []
    for chain in chains:
        if chain in on_gpu:
            device = f"cuda:{on_gpu.index(chain) % machine.gpus}"
            heavy.append(WorkerSpec(chain, device=device, batch=GPU_BATCH, fallback="cpu"))
            continue
        remembers = any(pipeline.stage(name).run.keeps_state(live) for name in chain)
        replicas = max(1, min(share, most, sources if remembers and sources else share))
        heavy.append(WorkerSpec(chain, replicas=replicas, threads=max(1, share // replicas)))
    fps = GPU_FPS if on_gpu else CORE_FPS * machine.cores
    wanted = math.ceil(fps / (runs * LIGHT_FPS))
    replicas = max(1, min(wanted, sources or wanted, machine.cores // (2 * runs)))
    in_flight = 2 * max((w.replicas * w.batch for w in heavy), default=1)
    return Placement(
        workers=[*heavy, *_light(pipeline, replicas, 1 if live else LIGHT_BATCH)],
        slots=SLOTS if live else max(SLOTS, in_flight + LIGHT_BATCH + 2),
    )


def _chains(pipeline: Pipeline) -> list[list[str]]:
    """Return the networks that share a worker, each list in the order of the pipeline."""
    chains: list[list[str]] = []
    for stage in pipeline.stages:
        lender = lender_of(pipeline, stage.name)
        before = next((c for c in chains if stage.after == c[-1:] or lender in c), None)
        if stage.run.torch and before:
            before.append(stage.name)
        elif stage.run.torch:
            chains.append([stage.name])
    return chains


def _runs_on_gpu(pipeline: Pipeline, chain: Sequence[str]) -> bool:
    """Whether no setting keeps a network of the chain on the CPU, as the engine OpenVINO does."""
    return all(getattr(pipeline.stage(name).run, "engine", "") != "openvino" for name in chain)


def _light(pipeline: Pipeline, replicas: int, batch: int) -> Iterator[WorkerSpec]:
    """Yield the workers of the stages without torch; those that write files are one process."""
    levels: dict[str, int] = {}  # stage -> how many networks with light parents lie above it
    groups: dict[tuple[int, bool], list[str]] = {}  # level, whether replicas are ruled out
    for stage in pipeline.stages:
        waits = [levels[parent] for parent in stage.after]
        if stage.run.torch:
            fed = [not pipeline.stage(parent).run.torch for parent in stage.after]
            levels[stage.name] = max((w + f for w, f in zip(waits, fed, strict=True)), default=0)
        else:
            levels[stage.name] = level = max(waits, default=0)
            alone = replicas > 1 and isinstance(stage.run, Publish | Record)
            groups.setdefault((level, alone), []).append(stage.name)
    for (_, alone), names in groups.items():
        yield WorkerSpec(names, replicas=1 if alone else replicas, batch=batch)


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
