"""Weights on disk: shipped by name, ours as safetensors, torchvision's COCO checkpoints by path.

A safetensors file of ours says in its metadata which architecture it is for and how it was
made, so a path is all that is needed to load it.
"""

import hashlib
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from streamvis.errors import DeviceError, WeightsError
from streamvis.models.mask_rcnn import ARCHITECTURES, Architecture, MaskRcnn

RENAMES = (  # torchvision's names before 0.14 -> after, which are ours
    (re.compile(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$"), r"\1.0.\2"),
    (re.compile(r"^rpn\.head\.conv\.(weight|bias)$"), r"rpn.head.conv.0.0.\1"),
)
MASK_FCN = re.compile(r"^roi_heads\.mask_head\.mask_fcn(\d)\.(weight|bias)$")


class Info(msgspec.Struct, frozen=True):
    """What a weights file says of itself."""

    path: str
    architecture: str
    tensors: int
    parameters: int
    bytes: int
    sha256: str
    metadata: dict[str, str]


def shipped() -> dict[str, Path]:
    """Names and paths of the weights that come with the package."""
    folder = Path(str(resources.files("streamvis"))) / "weights"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def find(name: str) -> Path:
    """A shipped name or a path; WeightsError lists what there is."""
    known = shipped()
    if name in known:
        return known[name]
    path = Path(name).expanduser()
    if not path.is_file():
        raise WeightsError(
            f"no weights '{name}': it is neither a file nor one of the shipped "
            f"{', '.join(known) or '(none)'}. List them with: streamvis weights list"
        )
    return path


def load_detector(name: str, device: str = "cpu") -> MaskRcnn:
    """The detector whose weights these are, ready to infer on the device."""
    check_device(device)
    path = find(name)
    state, metadata = read(path)
    model = MaskRcnn(architecture_of(path, state, metadata))
    _fit(model, state, path)
    model.short_side = int(metadata.get("short_side", model.short_side))
    model.long_side = int(metadata.get("long_side", model.long_side))
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval()


def check_device(device: str) -> None:
    """DeviceError, naming the devices there are, when this one is not there."""
    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    wanted = "cuda:0" if device == "cuda" else device
    if wanted not in there:
        raise DeviceError(
            f"device '{device}' is not there; this machine has {', '.join(there)}. "
            "Change `device`, or allow `fallback: cpu` in the placement."
        )


def load_into(model: MaskRcnn, path: Path) -> None:
    """Fill a model from a file that fits it."""
    _fit(model, read(path)[0], path)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by our names, and metadata. Nothing is unpickled but tensors."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                return state, dict(file.metadata() or {})
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise WeightsError(
            f"{path} is not a weights file that can be read ({_first_line(error)}); expected "
            ".safetensors, or a torch .pth that holds tensors only"
        ) from None
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} is damaged: {_first_line(error)}") from None
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]  # a training checkpoint
    if not (isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values())):
        raise WeightsError(f"{path} holds {type(state).__name__}, expected a dict of tensors")
    return rename(state), {}


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's old names as new ones; counters of batch norms are left out."""
    renamed = {}
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        for pattern, replacement in RENAMES:
            key = pattern.sub(replacement, key)
        if match := MASK_FCN.match(key):
            key = f"roi_heads.mask_head.{int(match[1]) - 1}.0.{match[2]}"
        renamed[key] = value
    return renamed


def architecture_of(
    path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Architecture:
    """The architecture a file names, or that its tensors show."""
    if text := metadata.get("architecture"):
        try:
            return msgspec.json.decode(text, type=Architecture)
        except msgspec.DecodeError as error:
            raise WeightsError(f"{path}: its metadata `architecture` is not one: {error}") from None
    logits = state.get("roi_heads.box_predictor.cls_score.weight")
    if logits is not None and "backbone.body.layer4.2.conv3.weight" in state:
        published = ARCHITECTURES["maskrcnn_resnet50_fpn"]
        return msgspec.structs.replace(published, classes=len(logits))
    raise WeightsError(
        f"{path} is for no architecture of {', '.join(ARCHITECTURES)}; its first tensor is "
        f"{next(iter(state), 'absent')}"
    )


def _fit(model: MaskRcnn, state: Mapping[str, Tensor], path: Path) -> None:
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise WeightsError(
                f"{path} does not fit {model.architecture.name}: {name} is "
                f"{found.get(name, 'absent')} in the file, "
                f"{expected.get(name, 'absent')} in the model"
            )
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise WeightsError(f"{path} is damaged: {name} holds NaN or infinite numbers")
    model.load_state_dict({name: value.float() for name, value in state.items()})


def save(model: MaskRcnn, path: Path, metadata: Mapping[str, str]) -> None:
    """Write kernels as fp16 and everything one-dimensional as fp32, with the architecture."""
    state = {
        name: (value.half() if value.dim() > 1 else value.float()).contiguous().cpu()
        for name, value in model.state_dict().items()
    }
    about = {"architecture": msgspec.json.encode(model.architecture).decode(), **metadata}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path.with_suffix(".tmp"), about)
    path.with_suffix(".tmp").chmod(0o644)  # safetensors makes files that only we could read
    os.replace(path.with_suffix(".tmp"), path)


def describe(name: str) -> Info:
    """Read a file and say what it is; WeightsError when it is none."""
    path = find(name)
    state, metadata = read(path)
    data = path.read_bytes()
    return Info(
        path=str(path),
        architecture=architecture_of(path, state, metadata).name,
        tensors=len(state),
        parameters=sum(v.numel() for k, v in state.items() if not _is_statistic(k)),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        metadata={k: v for k, v in metadata.items() if k != "architecture"},
    )


def verify(name: str) -> Info:
    """`describe`, after loading the file into its model: names, shapes and finite values hold."""
    load_detector(name)
    return describe(name)


def import_checkpoint(path: Path, out: Path) -> Info:
    """Convert a torchvision checkpoint to safetensors, without unpickling anything but tensors."""
    model = load_detector(str(path))
    save(model, out, {"imported_from": path.name})
    return verify(str(out))


def _is_statistic(key: str) -> bool:
    return key.endswith(("running_mean", "running_var"))


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
