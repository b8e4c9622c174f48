"""Networks from ONNX files, run by ONNX Runtime with telemetry disabled."""

import os
from pathlib import Path
from typing import Any

from streamvis.errors import WeightsError


def open_session(path: Path, threads: int | None = None) -> Any:
    """Open a session on the CPU; raises WeightsError if runtime or file are absent or invalid."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # or it gathers reports from its import
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as refusals
    except ImportError as error:
        raise WeightsError(
            f"{path} is read by ONNX Runtime, which is not installed ({error}). "
            "Install it with: pip install onnxruntime"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0  # 0: all cores
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
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
