"""What the CPU can do, and how much of it a process may use; found without importing torch."""

import os
from pathlib import Path

INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})  # without them it gains little
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})  # without these flags bf16 is emulated and slow


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware."""
    return not BF16_FLAGS.isdisjoint(_cpu_flags())


def cpu_has_int8() -> bool:
    """Whether the CPU has instructions for sums of int8 products (VNNI or AMX)."""
    return not INT8_FLAGS.isdisjoint(_cpu_flags())


def _cpu_flags() -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    return next((line for line in text.splitlines() if line.startswith("flags")), "").split()


def thread_count() -> int:
    """Return the number of threads that numeric libraries have here: OMP_NUM_THREADS, or cores."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else len(os.sched_getaffinity(0))
