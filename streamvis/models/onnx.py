"""Networks from ONNX files, run by ONNX Runtime with telemetry disabled."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamvis.errors import DeviceError, WeightsError


def import_runtime(path: Path) -> Any:
    """Import ONNX Runtime; WeightsError says how to install it for this file."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or it gathers reports from its import
    try:
        import onnxruntime
    except ImportError as error:
        raise WeightsError(
            f"{path} is read by ONNX Runtime, which is not installed ({error}). "
            "Install it with: pip install onnxruntime"
        ) from None
    return onnxruntime


def open_session(path: Path, threads: int | None = None, device: str = "cpu") -> Any:
    """Open a session; raises WeightsError if runtime or file are absent or invalid.

    Raises DeviceError for a device that this build of ONNX Runtime cannot use.
    """
    onnxruntime = import_runtime(path)
    from onnxruntime.capi import onnxruntime_pybind11_state as refusals

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0  # 0: all cores
    options.log_severity_level = 3  # errors
    providers = _providers(device, onnxruntime.get_available_providers())
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except (
        refusals.Fail,
        refusals.InvalidArgument,
        refusals.InvalidGraph,
        refusals.InvalidProtobuf,
        refusals.NoSuchFile,
        refusals.NotImplemented,
        refusals.RuntimeException,
    ) as error:
        why = str(error).strip().rpartition(":")[2].strip()
        raise WeightsError(
            f"{path} is not an ONNX file that can be read ({why or type(error).__name__})"
        ) from None
    if device != "cpu" and "CUDAExecutionProvider" not in session.get_providers():
        raise DeviceError(  # it has warned and would run on the CPU
            f"device '{device}': ONNX Runtime cannot use it, for CUDA or cuDNN do not fit its "
            "version; install those that it asks for, or place the stage on a worker with "
            "`device: cpu`"
        )
    return session


def _providers(device: str, available: Sequence[str]) -> list[Any]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in available:
        raise DeviceError(
            f"device '{device}': ONNX Runtime has {', '.join(available)} here, expected "
            "CUDAExecutionProvider; install onnxruntime-gpu in place of onnxruntime, or place the "
            "stage on a worker with `device: cpu`"
        )
    number = int(device.partition(":")[2] or 0)
    return [("CUDAExecutionProvider", {"device_id": number}), "CPUExecutionProvider"]
