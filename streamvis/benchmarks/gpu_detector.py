"""Benchmark of the detector on a GPU: frames per second by batch, and where the time goes."""

import statistics
import time
from collections.abc import Callable, Sequence

import msgspec
import torch
from torch import Tensor

from streamvis.benchmarks.detector import MIN_SCORE, SCENE, pictures
from streamvis.models.inference.device import DeviceTimes
from streamvis.models.inference.device_detector import DeviceDetector
from streamvis.models.inference.select import accelerate_detector
from streamvis.models.weights import load_detector

BATCHES = (1, 2, 4, 8, 16)  # pictures of a call
WARM_UP = 3  # calls: one without a graph, one that captures it, one with it


class BatchSpeed(msgspec.Struct, frozen=True, kw_only=True):
    """The speed of calls with so many pictures; the shares overlap."""

    fps: float
    ms: float  # median of a call
    plain_fps: float  # of the model itself, which waits for the GPU many times
    write_share: float  # of a call, in which the host writes to pinned memory
    upload_share: float
    compute_share: float
    download_share: float


class GpuReport(msgspec.Struct, frozen=True, kw_only=True):
    """The speed of the detector on a device."""

    weights: str
    device: str
    precision: str
    size: str
    masks: bool
    graphs: bool  # False: a capture failed, see the log
    repeated: float  # share of pictures that were computed twice
    batches: dict[str, BatchSpeed]  # by pictures of a call


def measure(
    weights: str = "person-lite",
    source: str | None = None,
    device: str = "cuda:0",
    rounds: int = 15,
    masks: bool = True,
) -> GpuReport:
    """Time `rounds` calls for each number of pictures; DeviceError if there is no such device."""
    model = load_detector(weights, device)
    model.roi_heads.min_score = MIN_SCORE
    detector = accelerate_detector(model, device, engine="torch")
    if not isinstance(detector, DeviceDetector):
        detector = DeviceDetector(model, device)  # on the CPU, to try the benchmark out
    images = pictures(source or SCENE)
    batches = {
        str(count): _speed(detector, [images[i % len(images)] for i in range(count)], rounds, masks)
        for count in BATCHES
    }
    return GpuReport(
        weights=weights,
        device=torch.cuda.get_device_name(device) if device != "cpu" else device,
        precision=str(model.backbone.dtype).removeprefix("torch."),
        size=f"{images[0].shape[2]}x{images[0].shape[1]}",
        masks=masks,
        graphs=detector.runs[masks].graphs,
        repeated=round(detector.repeated / (sum(BATCHES) * (WARM_UP + rounds)), 4),
        batches=batches,
    )


def _speed(
    detector: DeviceDetector, images: Sequence[Tensor], rounds: int, masks: bool
) -> BatchSpeed:
    run = detector.runs[masks]
    _timed(lambda: detector(images, masks), WARM_UP)
    run.times = DeviceTimes()
    calls = _timed(lambda: detector(images, masks), rounds)
    shares = {
        f"{name}_share": round(ms / (1e3 * sum(calls)), 3)
        for name, ms in msgspec.structs.asdict(run.times).items()
    }
    plain = _timed(lambda: _plain(detector, images, masks), WARM_UP + rounds)[WARM_UP:]
    return BatchSpeed(
        fps=round(len(images) * rounds / sum(calls), 1),
        ms=round(1e3 * statistics.median(calls), 2),
        plain_fps=round(len(images) * rounds / sum(plain), 1),
        **shares,
    )


@torch.inference_mode()
def _plain(detector: DeviceDetector, images: Sequence[Tensor], masks: bool) -> None:
    """Detect with the model itself, and fetch what it found."""
    for found in detector.model([image.to(detector.device) for image in images], masks):
        for part in found:
            part.cpu()


def _timed(call: Callable[[], object], times: int) -> list[float]:
    """Return the seconds of each call."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return seconds
