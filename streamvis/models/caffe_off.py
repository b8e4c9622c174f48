"""Published OFF weights: the layers of the authors' Caffe network as the parameters of `Off`.

    model = from_caffe(state, Path("rgb_off.pth"))  # tensors by Caffe's layer names

The file holds each layer's `weight` and `bias`, by Caffe's layer names or with `/` and `-` written
`_`, as converters to PyTorch write them. Networks of all three modalities have this layout.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from streamvis.errors import WeightsError
from streamvis.models.bn_inception import TAPS, from_tsn
from streamvis.models.off import CHANNELS, Modality, Off, OffConfig

UNIT = "motion_conv_gen_3a"  # the layer by which such a file is recognised
LAYERS = {  # ours: Caffe's
    "head": "fc_action",
    "guided.classify.0": "fc_action_motion_28",
    "guided.classify.1": "fc_action_motion_14",
    "guided.classify.2": "fc_action_motion",
    "guided.fine.0": "motion_conv_trans_28",
    "guided.middle.0": "motion_conv_trans_14",
    "guided.coarse.0": "motion_conv_trans",
    "guided.fine.2.shortcut": "motion_conv_branch_28a",
    "guided.middle.2.shortcut": "motion_conv_expand_trans_14a",
    "guided.coarse.2.shortcut": "motion_conv_branch_trans",
}
BLOCKS = {  # ours: the end of Caffe's names
    "guided.fine.2": "_28a",
    "guided.fine.3": "_28b",
    "guided.fine.4": "_28c",
    "guided.middle.2": "_14a",
    "guided.middle.3": "_14b",
    "guided.coarse.2": "",
}
STACKS = ("guided.fine.0", "guided.middle.0", "guided.coarse.0")


def is_caffe(state: Mapping[str, Tensor]) -> bool:
    """Whether tensors are those of the authors' network, by the name of its first unit."""
    return any(_plain(name).startswith(UNIT) for name in state)


def from_caffe(state: Mapping[str, Tensor], path: Path) -> Off:
    """Return the published network with these weights; WeightsError names what is missing.

    path: of the file, for messages. The actions are numbered, for the file does not name them.
    """
    named = {_plain(name): value for name, value in state.items()}
    architecture = _architecture(named, path)
    model = Off(architecture)
    model.load_state_dict(_converted(named, architecture, model, path))
    return model.eval()


def input_order(taps: int, spatial: int, temporal: int, channels: int) -> Tensor:
    """Return the order (channels,) in which `Off` reads the input of a level in Caffe's order.

    Caffe concatenates the units of the taps, each with its gradients and then its differences;
    `Off` takes the gradients of all taps, and then the differences of all. What follows, the
    output of the finer level, is last in both.
    """
    units = torch.arange(taps * (spatial + temporal)).reshape(taps, spatial + temporal)
    rest = torch.arange(units.numel(), channels)
    return torch.cat([units[:, :spatial].flatten(), units[:, spatial:].flatten(), rest])


def _plain(name: str) -> str:
    name = name.replace("/", "_").replace("-", "_")
    return name.removeprefix("module.").removeprefix("base_model.")


def _architecture(named: Mapping[str, Tensor], path: Path) -> OffConfig:
    first = _tensor(named, "conv1_7x7_s2.weight", path)
    modality = {inputs: kind for kind, inputs in CHANNELS.items()}.get(
        first.shape[1] if first.dim() == 4 else 0
    )
    if modality is None:
        raise WeightsError(
            f"{path}: conv1_7x7_s2.weight is {tuple(first.shape)}; expected input "
            f"channels of one of {', '.join(f'{n} ({kind})' for kind, n in CHANNELS.items())}"
        )
    actions = len(_tensor(named, "fc_action_motion.bias", path))
    return OffConfig(
        name=f"off-{modality}",
        actions=tuple(str(i) for i in range(actions)),
        body="bn_inception",
        modality=cast(Modality, modality),
    )


def _converted(
    named: Mapping[str, Tensor], architecture: OffConfig, model: Off, path: Path
) -> dict[str, Tensor]:
    state = {f"body.{name}": value for name, value in from_tsn(named).items()}
    spatial = architecture.spatial if architecture.modality == "rgb" else 0
    names = dict(LAYERS)
    for ours, end in BLOCKS.items():
        names |= {f"{ours}.conv{i}": f"motion_conv{i}_trans{end}" for i in (1, 2, 3)}
    for kind in ("weight", "bias"):
        for ours, theirs in names.items():
            state[f"{ours}.{kind}"] = _tensor(named, f"{theirs}.{kind}", path)
        for i, tap in enumerate(tap for level in TAPS for tap in level):
            layers = [f"motion_conv_gen_{tap}", f"motion_spatial_down_{tap}"][: 1 + bool(spatial)]
            parts = [_tensor(named, f"{layer}.{kind}", path) for layer in layers]
            if len({part.shape[1:] for part in parts}) > 1 or not parts[0].dim():
                shapes = ", ".join(str(tuple(part.shape)) for part in parts)
                raise WeightsError(f"{path}: {' and '.join(layers)} are {shapes}, one tap's inputs")
            state[f"guided.reduce.{i}.{kind}"] = torch.cat(parts)
    _check_shapes(state, model, path)
    for stack, level in zip(STACKS, TAPS, strict=True):
        kernel = state[f"{stack}.weight"]
        order = input_order(len(level), spatial, architecture.temporal, kernel.shape[1])
        state[f"{stack}.weight"] = kernel[:, order]
    return state


def _check_shapes(state: Mapping[str, Tensor], model: Off, path: Path) -> None:
    for name, value in model.state_dict().items():
        found = tuple(state[name].shape) if name in state else "absent"
        if found != tuple(value.shape):
            raise WeightsError(
                f"{path} is not the published OFF network: {name} is {found}, expected "
                f"{tuple(value.shape)}"
            )


def _tensor(named: Mapping[str, Tensor], name: str, path: Path) -> Tensor:
    if name not in named:
        raise WeightsError(
            f"{path} holds units of OFF, but not the layer tensor {name}; expected all layers of "
            "the authors' network, from conv1/7x7_s2 to fc-action-motion"
        )
    return named[name]
