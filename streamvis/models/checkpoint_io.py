"""Reading of checkpoint files without executing or trusting their content.

A file may be damaged or made to do harm. Nothing is unpickled but tensors, nothing is
decompressed, and no more memory is taken than the file is long.
"""

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from streamvis.errors import WeightsError

LARGEST = 2 << 30  # bytes of a file; a training checkpoint of Mask R-CNN takes 0.7 GB
NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
UNREADABLE = (  # what reading a damaged or hostile file has been seen to end in
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)
RENAMES = (  # torchvision's names before 0.14 -> after, which are ours
    (re.compile(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$"), r"\1.0.\2"),
    (re.compile(r"^rpn\.head\.conv\.(weight|bias)$"), r"rpn.head.conv.0.0.\1"),
)
PARALLEL = "module."
MASK_FCN = re.compile(r"^roi_heads\.mask_head\.mask_fcn(\d)\.(weight|bias)$")


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by our names, and metadata."""
    if path.suffix == ".onnx":
        raise WeightsError(
            f"{path} is an ONNX file; expected .safetensors, or a torch .pth that holds tensors "
            "only. A detector in ONNX runs as a stage of kind yolox: docs/own-detector.md"
        )
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise WeightsError(f"{path} has {size} bytes; a weights file has at most {LARGEST}")
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                metadata = dict(file.metadata() or {})
        else:
            state, metadata = _unpickle(path, size), {}
    except UNREADABLE as error:
        raise WeightsError(
            f"{path} is not a weights file that can be read ({reason(error)}); expected "
            ".safetensors, or a torch .pth that holds tensors only"
        ) from None
    state = rename(state)
    for name, value in state.items():
        if value.dtype not in NUMBERS or value.layout != torch.strided:
            raise WeightsError(
                f"{path}: {shown(name)} holds {value.dtype} ({value.layout}), expected one of "
                f"{', '.join(map(str, NUMBERS))} (torch.strided)"
            )
    if sum(value.nbytes for value in state.values()) > size:
        raise WeightsError(f"{path} is damaged: its tensors claim more bytes than the file has")
    return state, metadata


def _unpickle(path: Path, size: int) -> dict[str, Tensor]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        if not stored or sum(entry.file_size for entry in entries) > size:
            raise ValueError("a zip that unpacks to more than itself; torch writes none such")
    with warnings.catch_warnings(action="ignore"):  # what cannot be read is an error
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    for part in ("model", "state_dict"):  # of a training checkpoint
        if isinstance(state, dict) and isinstance(state.get(part), dict):
            state = state[part]
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}, not a dict of tensors")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor) or value.is_meta:
            raise ValueError(
                f"its entry {shown(str(key))} is a {type(value).__name__}, not a tensor"
            )
    return state


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's old names as new ones; counters of batch norms are left out.

    So is the prefix that torch's DataParallel gives every name.
    """
    renamed = {}
    wrapped = all(key.startswith(PARALLEL) for key in state)
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        if wrapped:
            key = key.removeprefix(PARALLEL)
        for pattern, replacement in RENAMES:
            key = pattern.sub(replacement, key)
        if match := MASK_FCN.match(key):
            key = f"roi_heads.mask_head.{int(match[1]) - 1}.0.{match[2]}"
        renamed[key] = value
    return renamed


def shown(name: str) -> str:
    """A name from a file, fit for a line of text."""
    return name if name.isprintable() and len(name) <= 120 else repr(name[:120]) + "…"


def reason(error: BaseException) -> str:
    """What is wrong with a file, in a line, by one of the errors that reading it ended in."""
    if isinstance(error, LookupError | AttributeError | TypeError | UnicodeError | struct.error):
        return "it is damaged"  # what went wrong inside says nothing to anybody
    # torch puts the fault last, after advice to allow the code that the file holds
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip() or type(error).__name__
    return shown(text.splitlines()[0].partition(" was not an allowed")[0])
