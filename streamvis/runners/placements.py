"""Where the stages of a pipeline would run on this machine."""

from collections.abc import Iterator

from streamvis.config import MaskRcnn, Pipeline, Placement, WorkerSpec
from streamvis.errors import DeviceError, ModelError
from streamvis.runners.tables import Table
from streamvis.stages.detect import AUTO_TILES, TILED_FROM


def devices_of(
    pipeline: Pipeline, placement: Placement
) -> tuple[list[str | None], DeviceError | None]:
    """Return where each worker would run, None for nowhere, and the error that a run ends with."""
    devices: list[str | None] = []
    absent = None
    for worker in placement.workers:
        device: str | None = worker.device
        networks = any(pipeline.stage(name).run.torch for name in worker.stages)
        if networks and worker.device != "cpu":  # or torch would be imported for nothing
            from streamvis.models.weights import check_device

            try:
                check_device(worker.device)
            except DeviceError as error:
                device = worker.fallback
                absent = absent or (error if device is None else None)
        devices.append(device)
    return devices, absent


def examine_files(pipeline: Pipeline) -> dict[str, str]:
    """Describe the files that stages have from elsewhere, by the stage's name.

    Raises ModelError, with the name of the stage, for a file that it could not use.
    """
    found = {}
    for stage in pipeline.stages:
        try:
            text = stage.run.examine_files()
        except ModelError as error:
            raise ModelError(f"stage '{stage.name}': {error}") from None
        if text is not None:
            found[stage.name] = f"{stage.name}: {text}"
    return found


def table(placement: Placement, devices: list[str | None]) -> Table:
    """Return the stages, the device and the processes of each worker."""
    rows = [
        (", ".join(w.stages), _shown(w, device), w.replicas, w.batch, str(w.cores or "any"))
        for w, device in zip(placement.workers, devices, strict=True)
    ]
    return Table("", ("stages", "device", "replicas", "batch", "cores"), rows)


def fallbacks(placement: Placement, devices: list[str | None]) -> Iterator[str]:
    """Yield a line for each worker that would run on another device than it is placed on."""
    for worker, device in zip(placement.workers, devices, strict=True):
        if device != worker.device:
            name = ", ".join(worker.stages)
            yield f"{worker.device} is not there: {name} would fall back to the {device}"


def costs(pipeline: Pipeline) -> Iterator[str]:
    """Yield a line for each detector that looks at tiles: how many looks a frame costs."""
    for stage in pipeline.stages:
        run = stage.run
        if not isinstance(run, MaskRcnn):
            continue
        if run.tiles == "auto":
            most = AUTO_TILES**2
            yield (
                f"{stage.name}: tiles: auto costs 1 look a frame below {TILED_FROM} px, and from "
                f"there on 1 to {1 + most}: 1 more for each of {most} tiles with small people"
            )
        elif run.tiles > 1:
            yield f"{stage.name}: tiles: {run.tiles} costs {1 + run.tiles**2} looks a frame"


def _shown(worker: WorkerSpec, device: str | None) -> str:
    if device is None:
        return f"{worker.device} (not here: refused)"
    return device if device == worker.device else f"{worker.device} -> {device} (not here)"
