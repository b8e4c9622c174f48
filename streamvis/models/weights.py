"""Weights files: shipped ones by name, safetensors and torchvision checkpoints by path.

The metadata of our safetensors files contain the network's architecture and how it was trained, so
a path is enough to load one. There are seven kinds of networks: detectors (Mask R-CNN), embedders
(`models/embedding.py`), action networks (`models/off.py`), segmenters (`models/swiftnet.py`),
forecasters of segmentation (`models/forecasting.py`), pose networks (`models/hrnet.py`) and lifters
of poses to 3D (`models/pose_lifting.py`).
"""

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import TypeVar

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from streamvis.errors import DeviceError, ModelError, UsageError, WeightsError
from streamvis.files import drafted
from streamvis.models import embedding, forecasting, hrnet, off, pose_lifting, swiftnet
from streamvis.models.caffe_off import from_caffe, is_caffe
from streamvis.models.checkpoint_io import read, shown
from streamvis.models.embedding import Embedder
from streamvis.models.forecasting import Forecaster
from streamvis.models.hrnet import Hrnet
from streamvis.models.mask_rcnn import ARCHITECTURES, MaskRcnn, MaskRcnnConfig
from streamvis.models.off import Calibration, Off
from streamvis.models.pose_lifting import PoseLifterNetwork
from streamvis.models.swiftnet import SwiftNet
from streamvis.models.uninitialized import Uninitialized
from streamvis.models.warp_calibrator import WarpCalibrator, build_forecaster
from streamvis.parsing import alternatives

SIDES = range(32, 8193)  # px, valid input sizes in a file's metadata

Shape = tuple[int, ...]
AnyConfig = (
    MaskRcnnConfig
    | embedding.EmbedderConfig
    | off.OffConfig
    | swiftnet.SwiftNetConfig
    | forecasting.ForecasterConfig
    | hrnet.HrnetConfig
    | pose_lifting.LifterConfig
)
Network = (
    MaskRcnn | Embedder | Off | SwiftNet | Forecaster | WarpCalibrator | Hrnet | PoseLifterNetwork
)
A = TypeVar("A", bound=AnyConfig)
M = TypeVar("M", bound=nn.Module)
NAMES = (
    *ARCHITECTURES,
    *embedding.ARCHITECTURES,
    *hrnet.ARCHITECTURES,
    *pose_lifting.ARCHITECTURES,
    "actions",
    "segmenters",
    "forecasters",
)
DOES = {
    MaskRcnnConfig: "detects people",
    embedding.EmbedderConfig: "computes appearance embeddings",
    off.OffConfig: "recognises actions",
    swiftnet.SwiftNetConfig: "segments images",
    forecasting.ForecasterConfig: "forecasts segmentation",
    hrnet.HrnetConfig: "estimates poses",
    pose_lifting.LifterConfig: "lifts poses to 3D",
}


class Info(msgspec.Struct, frozen=True):
    """The description of a weights file."""

    path: str
    architecture: str
    tensors: int
    parameters: int
    bytes: int
    sha256: str
    metadata: dict[str, str]


class Difference(msgspec.Struct, frozen=True):
    """The differences of a weights file from another one, or from its architecture."""

    file: str
    other: str
    missing: list[str]  # only in the other
    unexpected: list[str]  # only in the file
    shapes: dict[str, tuple[Shape, Shape]]  # different ones: in the file, in the other
    numbers: dict[
        str, float
    ]  # largest absolute differences of tensors of equal shape, without zeros


def shipped() -> dict[str, Path]:
    """Return names and paths of the weights in the package."""
    folder = Path(str(resources.files("streamvis"))) / "weights"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def find(name: str) -> Path:
    """Resolve a shipped name or a path; WeightsError suggests close names."""
    known = shipped()
    if name in known:
        return known[name]
    path = Path(os.path.expanduser(name))
    if not os.path.isfile(path):  # unlike pathlib's, False for whatever cannot be a path
        raise WeightsError(
            f"no weights '{name}': neither a file nor the name of any that are shipped"
            f"{alternatives(name, known)}. List them with: streamvis weights list"
        )
    return path


def load_detector(name: str, device: str = "cpu") -> MaskRcnn:
    """Load a detector for inference on the device."""
    expected = f"a detector: {', '.join(ARCHITECTURES)}"
    path, state, metadata, architecture = _opened(name, device, MaskRcnnConfig, expected)
    model = _filled(MaskRcnn, architecture, state, path, device)
    model.source = path
    model.short_side = _side(path, metadata, "short_side", architecture.short_side)
    model.long_side = _side(path, metadata, "long_side", architecture.long_side)
    return model


def load_embedder(name: str, device: str = "cpu") -> Embedder:
    """Load an embedder, or a published ResNet-18 as one, for inference on the device."""
    expected = f"an embedder: {', '.join(embedding.ARCHITECTURES)}"
    path, state, _, architecture = _opened(name, device, embedding.EmbedderConfig, expected)
    return _filled(Embedder, architecture, embedder_state(state, architecture), path, device)


def load_actions(name: str, device: str = "cpu") -> Off:
    """Load an action network with its calibration for inference on the device."""
    expected = "an action network, as made by `train actions`"
    path, state, metadata, architecture = _opened(name, device, off.OffConfig, expected)
    model = _filled(Off, architecture, state, path, device)
    model.calibration = _calibration(path, metadata, len(architecture.actions))
    return model


def load_segmenter(name: str, device: str = "cpu") -> SwiftNet:
    """Load a segmenter for inference on the device."""
    expected = "a segmenter, as made by `train segmenter`"
    path, state, _, architecture = _opened(name, device, swiftnet.SwiftNetConfig, expected)
    return _filled(SwiftNet, architecture, state, path, device)


def load_forecaster(name: str, device: str = "cpu") -> Forecaster | WarpCalibrator:
    """Load a forecaster for inference on the device."""
    expected = "a forecaster, as made by `train forecaster`"
    path, state, _, architecture = _opened(name, device, forecasting.ForecasterConfig, expected)
    return _filled(build_forecaster, architecture, state, path, device)


def load_pose(name: str, device: str = "cpu") -> Hrnet:
    """Load a pose network, or a published HRNet as one, for inference on the device."""
    expected = f"a pose network: {', '.join(hrnet.ARCHITECTURES)}"
    path, state, _, architecture = _opened(name, device, hrnet.HrnetConfig, expected)
    return _filled(Hrnet, architecture, state, path, device)


def load_lifter(name: str, device: str = "cpu") -> PoseLifterNetwork:
    """Load a lifter of poses to 3D for inference on the device."""
    expected = "a lifter of poses, as made by `train pose-3d`"
    path, state, _, architecture = _opened(name, device, pose_lifting.LifterConfig, expected)
    return _filled(PoseLifterNetwork, architecture, state, path, device)


def _opened(
    name: str, device: str, kind: type[A], expected: str
) -> tuple[Path, dict[str, Tensor], dict[str, str], A]:
    """Return path, tensors, metadata and architecture; WeightsError for another kind."""
    check_device(device)
    path = find(name)
    state, metadata = read(path)
    found = architecture_of(path, state, metadata)
    if not isinstance(found, kind):
        raise WeightsError(
            f"{path} is for {shown(found.name)}, which {DOES[type(found)]}; expected {expected}"
        )
    return path, state, metadata, found


def _filled(
    build: Callable[[A], M], architecture: A, state: Mapping[str, Tensor], path: Path, device: str
) -> M:
    """Return the network of an architecture with the tensors of a file; WeightsError otherwise."""
    check(architecture, state, path)  # before memory is allocated for the model
    with Uninitialized():
        model = build(architecture)
    model.load_state_dict(state, strict=False)  # counters of norms are not saved
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval()


def _calibration(path: Path, metadata: Mapping[str, str], actions: int) -> Calibration:
    try:
        found = msgspec.json.decode(metadata.get("calibration", "{}"), type=Calibration)
    except (msgspec.DecodeError, RecursionError) as error:
        raise WeightsError(
            f"{path}: its metadata `calibration` is not one: {shown(str(error))}"
        ) from None
    if len(found.shift) not in (0, actions) or not all(map(math.isfinite, found.shift)):
        raise WeightsError(
            f"{path}: its metadata `calibration` shifts {len(found.shift)} actions, "
            f"expected {actions} finite numbers"
        )
    return found


def embedder_state(
    state: Mapping[str, Tensor], architecture: embedding.EmbedderConfig
) -> dict[str, Tensor]:
    """Return the tensors of a ResNet-18 that the embedder uses, without counters."""
    beyond = (*(f"layer{n}." for n in range(architecture.layers + 1, 5)), "fc.")
    return {
        key: value
        for key, value in state.items()
        if not key.startswith(beyond) and not key.endswith("num_batches_tracked")
    }


def _side(path: Path, metadata: Mapping[str, str], key: str, default: int) -> int:
    text = metadata.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) in SIDES):
        raise WeightsError(
            f"{path}: its metadata `{key}` is {shown(text)}, expected "
            f"{SIDES.start}..{SIDES.stop - 1} pixels"
        )
    return int(text)


def check_device(device: str) -> None:
    """Raise DeviceError, naming the available devices, if this one is absent."""
    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    wanted = "cuda:0" if device == "cuda" else device
    if wanted not in there:
        raise DeviceError(
            f"device '{device}' is not there; this machine has {', '.join(there)}. "
            "Change `device`, or allow `fallback: cpu` in the placement."
        )


def load_into(model: Network, path: Path) -> None:
    """Load a file into a model of the same architecture."""
    state = read(path)[0]
    if isinstance(model, Embedder):
        state = embedder_state(state, model.architecture)
    check(model.architecture, state, path)
    model.load_state_dict(state, strict=False)  # counters of norms are not saved


def architecture_of(
    path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> AnyConfig:
    """Return the architecture from the metadata, or inferred from tensor names."""
    if text := metadata.get("architecture"):
        try:
            raw = msgspec.json.decode(text)
            body = raw.get("body") if isinstance(raw, dict) else None
            kind: type[AnyConfig] = (
                embedding.EmbedderConfig if body == "resnet18" else MaskRcnnConfig
            )
            if isinstance(raw, dict) and "actions" in raw:
                kind = off.OffConfig
            if isinstance(raw, dict) and "segments" in raw:
                kind = swiftnet.SwiftNetConfig
            if isinstance(raw, dict) and "horizon_s" in raw:
                kind = forecasting.ForecasterConfig
            if isinstance(raw, dict) and "keypoints" in raw:
                kind = hrnet.HrnetConfig
            if isinstance(raw, dict) and "rate_hz" in raw:
                kind = pose_lifting.LifterConfig
            return msgspec.convert(raw, kind)
        except (msgspec.DecodeError, RecursionError) as error:
            raise WeightsError(
                f"{path}: its metadata `architecture` is not one: {shown(str(error))}"
            ) from None
    if "backbone.body.layer4.2.conv3.weight" in state:
        v2 = "backbone.fpn.inner_blocks.0.1.weight" in state  # a norm of the neck
        published = ARCHITECTURES["maskrcnn_resnet50_fpn_v2" if v2 else "maskrcnn_resnet50_fpn"]
        logits = state.get("roi_heads.box_predictor.cls_score.bias")
        classes = published.classes if logits is None else logits.numel()
        return msgspec.structs.replace(published, classes=classes)
    if "layer2.1.bn2.weight" in state and "layer2.1.bn3.weight" not in state:
        return embedding.ARCHITECTURES["person-r18"]
    if hrnet.LAST_BRANCH in state and "final_layer.weight" in state:
        return hrnet.published(state["final_layer.weight"])
    raise WeightsError(
        f"{path} is for no architecture of {', '.join(NAMES)}; its first tensor is "
        f"{shown(next(iter(state), 'absent'))}"
    )


def shapes_of(architecture: AnyConfig) -> dict[str, Shape]:
    """Return names and shapes of a model's tensors without allocating it."""
    with torch.device("meta"), Uninitialized():
        model: Network
        match architecture:
            case MaskRcnnConfig():
                model = MaskRcnn(architecture)
            case embedding.EmbedderConfig():
                model = Embedder(architecture)
            case off.OffConfig():
                model = Off(architecture)
            case swiftnet.SwiftNetConfig():
                model = SwiftNet(architecture)
            case forecasting.ForecasterConfig():
                model = build_forecaster(architecture)
            case hrnet.HrnetConfig():
                model = Hrnet(architecture)
            case pose_lifting.LifterConfig():
                model = PoseLifterNetwork(architecture)
    return {
        name: tuple(value.shape)
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def check(architecture: AnyConfig, state: Mapping[str, Tensor], path: Path) -> None:
    """Raise WeightsError at the first wrong name, wrong shape or nonfinite tensor."""
    expected = shapes_of(architecture)
    found = {name: tuple(value.shape) for name, value in state.items()}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise WeightsError(
                f"{path} does not fit {shown(architecture.name)}: {shown(name)} is "
                f"{found.get(name, 'absent')} in the file, "
                f"{expected.get(name, 'absent')} in the model. "
                f"List the rest with: streamvis weights diff {path}"
            )
    for name, value in state.items():
        if not torch.isfinite(value.float()).all():
            raise WeightsError(f"{path} is damaged: {name} holds NaN or infinite numbers")


def save(model: Network, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a model: kernels as fp16, one-dimensional tensors as fp32, with its architecture."""
    state = {
        name: _packed(value).contiguous().cpu()
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    about = {"architecture": msgspec.json.encode(model.architecture).decode(), **metadata}
    if isinstance(model, Off):
        about["calibration"] = msgspec.json.encode(model.calibration).decode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with drafted(path) as draft:
            save_file(state, draft, about)
            draft.chmod(0o644)  # safetensors makes files that only the owner can read
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be written: {error}") from None


def _packed(value: Tensor) -> Tensor:
    half = value.half()
    return half if value.dim() > 1 and torch.isfinite(half).all() else value.float()


def describe(name: str) -> Info:
    """Describe a weights file; raises WeightsError if it is not one."""
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


def sight(name: str) -> str:
    """Return a digest of the tensors that determine a segmenter's features and classes.

    Segmenters that differ in the outlier head alone have the same digest and share forecasters.
    """
    state, _ = read(find(name))
    digest = hashlib.sha256()
    for key in sorted(key for key in state if not key.startswith("unknown.")):
        value = state[key].contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_origin(name: str, segmenter: str) -> None:
    """Raise ModelError unless a forecaster was trained on the features of this segmenter."""
    learnt = describe(name).metadata.get("segmenter", "")
    if learnt not in (describe(segmenter).sha256, sight(segmenter)):
        whose = f" ({shown(learnt[:12])}…)" if learnt else ", which they do not name"
        raise ModelError(
            f"weights '{name}' were trained on the features of another segmenter than "
            f"'{segmenter}'{whose}; use that one, or train them for this one: "
            "streamvis train forecaster --help"
        )


LOADERS: Mapping[type[AnyConfig], Callable[[str], Network]] = {
    MaskRcnnConfig: load_detector,
    embedding.EmbedderConfig: load_embedder,
    off.OffConfig: load_actions,
    swiftnet.SwiftNetConfig: load_segmenter,
    forecasting.ForecasterConfig: load_forecaster,
    hrnet.HrnetConfig: load_pose,
    pose_lifting.LifterConfig: load_lifter,
}


def verify(name: str) -> Info:
    """Describe a file after loading it: names, shapes and finite values are checked."""
    path = find(name)
    LOADERS[type(architecture_of(path, *read(path)))](name)
    return describe(name)


def import_checkpoint(path: Path, out: Path | None = None) -> Info:
    """Convert a published checkpoint to safetensors, beside it without `out`.

    Torchvision's Mask R-CNN, HRNet for poses, or the layers of the authors' OFF network. Only
    tensors are unpickled.
    """
    source = find(str(path))
    out = out or source.with_suffix(".safetensors")
    if out.suffix != ".safetensors" or out.resolve() == path.resolve():
        raise UsageError(f"--out {out}: expected another .safetensors file than is imported")
    state, _ = read(source)
    model: Network
    if is_caffe(state):
        model = from_caffe(state, path)
    elif hrnet.LAST_BRANCH in state:
        model = load_pose(str(path))
    else:
        model = load_detector(str(path))
    save(model, out, {"imported_from": path.name})
    return verify(str(out))


def difference(name: str, other: str | None = None) -> Difference:
    """Compare a file with another one, or by default with its architecture."""
    path = find(name)
    state, metadata = read(path)
    found = {key: tuple(value.shape) for key, value in state.items()}
    if other is None:
        architecture = architecture_of(path, state, metadata)
        return _difference(str(path), found, architecture.name, shapes_of(architecture), {})
    second = find(other)
    against, _ = read(second)
    expected = {key: tuple(value.shape) for key, value in against.items()}
    alike = [key for key, shape in found.items() if expected.get(key) == shape]
    apart = {key: _largest(state[key], against[key]) for key in alike}
    numbers = {key: value for key, value in apart.items() if value != 0}
    return _difference(str(path), found, str(second), expected, numbers)


def _difference(
    file: str,
    found: Mapping[str, Shape],
    other: str,
    expected: Mapping[str, Shape],
    numbers: dict[str, float],
) -> Difference:
    both = [(key, shape, expected[key]) for key, shape in found.items() if key in expected]
    return Difference(
        file=file,
        other=other,
        missing=[key for key in expected if key not in found],
        unexpected=[key for key in found if key not in expected],
        shapes={key: (ours, theirs) for key, ours, theirs in both if ours != theirs},
        numbers=numbers,
    )


def _largest(a: Tensor, b: Tensor) -> float:
    return float((a.float() - b.float()).abs().max()) if a.numel() else 0.0


def _is_statistic(key: str) -> bool:
    return key.endswith(("running_mean", "running_var"))
