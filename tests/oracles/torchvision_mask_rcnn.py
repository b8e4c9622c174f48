"""What torchvision's own Mask R-CNN finds with our deterministic weights and images.

Run once, in an environment apart from ours (torchvision's wheels do not load beside a CPU torch):

    python -m venv apart
    apart/bin/pip install torch==2.14.1 torchvision==0.29.2 numpy
    apart/bin/python tests/oracles/torchvision_mask_rcnn.py

It writes tests/models/goldens/<architecture>.npz, which tests/models/test_torchvision_parity.py
compares with ours. Every case is computed in fp64 too: the two must agree far better than the
test asks, or the case hangs on rounding and says nothing.
"""

from pathlib import Path

import numpy as np
import torch
from deterministic import CASES, CELLS, Case, fill, picture
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.resnet import resnet50
from torchvision.ops.misc import FrozenBatchNorm2d

GOLDENS = Path(__file__).parents[1] / "models" / "goldens"
LIMITS = {"boxes": 5e-4, "scores": 5e-6, "masks": 5e-5}  # well inside what the test allows


def published_v1() -> nn.Module:
    """As `maskrcnn_resnet50_fpn(weights=COCO_V1)` builds it: frozen norms without an epsilon."""
    trunk = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    model = MaskRCNN(_resnet_fpn_extractor(trunk, 3), num_classes=91)
    overwrite_eps(model, 0.0)
    return model


def published_v2() -> nn.Module:
    return maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None)


BUILDERS = {"maskrcnn_resnet50_fpn": published_v1, "maskrcnn_resnet50_fpn_v2": published_v2}


def filled(name: str) -> nn.Module:
    model = BUILDERS[name]().eval()
    state = {
        key: torch.from_numpy(fill(key, tuple(value.shape)))
        for key, value in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    missing = model.load_state_dict(state, strict=False).missing_keys
    assert all(key.endswith("num_batches_tracked") for key in missing), missing
    return model


@torch.inference_mode()
def find(model: nn.Module, case: Case, dtype: torch.dtype) -> list[dict[str, Tensor]]:
    """Boxes in image pixels, scores, labels, and masks at a few cells of their 28×28 grids."""
    model.to(dtype)
    model.transform.min_size = (case.short_side,)
    model.rpn._post_nms_top_n["testing"] = case.proposals
    model.roi_heads.detections_per_img = case.most
    model.roi_heads.score_thresh = case.min_score
    grids: list[Tensor] = []

    def keep_masks(_module: nn.Module, _inputs: object, outputs: tuple[list[dict], dict]) -> None:
        grids.extend(found["masks"][:, 0].clone() for found in outputs[0])  # before pasting

    def cast(_module: nn.Module, _inputs: object, outputs: tuple[ImageList, None]) -> None:
        outputs[0].tensors = outputs[0].tensors.to(dtype)  # images are resized in fp32 anyhow

    hooks = (
        model.transform.register_forward_hook(cast),
        model.roi_heads.register_forward_hook(keep_masks),
    )
    found = model([torch.from_numpy(picture(*image)).float() / 255 for image in case.images])
    for hook in hooks:
        hook.remove()
    return [
        {**{key: f[key] for key in ("boxes", "scores", "labels")}, "masks": grid[:, *CELLS]}
        for f, grid in zip(found, grids, strict=True)
    ]


def main() -> None:
    for name, cases in CASES.items():
        model = filled(name)
        golden = {}
        for case in cases:
            plain, exact = find(model, case, torch.float32), find(model, case, torch.float64)
            for index, (p, e) in enumerate(zip(plain, exact, strict=True)):
                assert torch.equal(p["labels"], e["labels"]), f"{name} {case.name} hangs on ties"
                apart = {key: float((p[key] - e[key]).abs().max()) for key in LIMITS}
                print(name, case.name, index, "fp32 from fp64:", apart)  # noqa: T201
                assert all(apart[key] < limit for key, limit in LIMITS.items()), apart
                for key, value in p.items():
                    kind = np.uint8 if key == "labels" else np.float32
                    golden[f"{case.name}.{index}.{key}"] = value.numpy().astype(kind)
        GOLDENS.mkdir(exist_ok=True)
        np.savez_compressed(GOLDENS / f"{name}.npz", **golden)


if __name__ == "__main__":
    main()
