"""OpenVINO without its telemetry, and its cores, which other modules compile networks with."""

import functools
import sys
from typing import Any

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # no telemetry

import openvino  # noqa: E402


@functools.cache
def core_of(precision: str, threads: int) -> Any:
    """Return a core of this precision, f32 or bf16, which is kept as long as the process runs.

    Each core installs a signal stack and restores the one before it when it is destroyed. Cores
    destroyed in the order of their creation leave freed memory installed, and the next signal,
    say a Ctrl-C, crashes the process (OpenVINO 2026).
    """
    core = openvino.Core()
    core.set_property(
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # the placement decides on cores
        },
    )
    return core
