"""Labelled clips of moving and of still things, and tiny recipes of networks that tell them."""

from pathlib import Path

import av
import cv2
import msgspec
import numpy as np
import torch

from streamvis.training.actions.clip_augment import ClipAugment
from streamvis.training.actions.recipe import ActionRecipe, NetworkSettings, TrainingStage
from streamvis.training.actions.ridge import Ridge
from streamvis.training.loop import Schedule

SIZE = (64, 64)
RECIPE = ActionRecipe(
    name="tiny",
    start="none",
    network=NetworkSettings(size=SIZE, every_s=0.1, classifier="motion"),
    ridge=Ridge(strengths=(0.1, 1.0)),
    views=2,
    augment=ClipAugment(scales=(1.0, 0.875)),
    precision="fp32",
)
STAGE = TrainingStage(
    schedule=Schedule(steps=2, warmup=1), clips=2, moments=2, body=1e-3, frozen_blocks=3
)
STAGED = msgspec.structs.replace(
    RECIPE,
    network=NetworkSettings(spatial=2, temporal=8, widths=(4, 4, 8), size=SIZE, every_s=0.1),
    ridge=None,
    frames=STAGE,
    guided=msgspec.structs.replace(STAGE, body=0.0),
    flow=STAGE,
    fit_to_taps=True,
)


def drawn_filters(body: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a trunk without ImageNet: filters drawn at random respond to motion too."""
    torch.manual_seed(1)
    return {
        name: torch.randn_like(v) * (2 / v[0].numel()) ** 0.5 if v.dim() == 4 else v
        for name, v in body.state_dict().items()
    }


def film(path: Path, moves: bool, seed: int, fps: int = 10, frames: int = 10) -> None:
    """A textured square on a texture of its own; it wanders about, or it does not."""
    random = np.random.default_rng(seed)
    back = cv2.resize(random.integers(60, 200, (12, 12, 3), np.uint8), (96, 96))
    thing = cv2.resize(random.integers(0, 255, (6, 6, 3), np.uint8), (40, 40))
    x, y = random.integers(10, 40, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.bit_rate = 96, 96, 2_000_000
        for _ in range(frames):
            if moves:
                x, y = np.clip(np.add((x, y), random.choice([-9, 9], 2)), 2, 54)
            picture = back.copy()
            picture[y : y + 40, x : x + 40] = thing
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def write_clips(root: Path) -> Path:
    """Write ten sources of one moving and one still clip each, of a second, and their list."""
    rows = ["path,label,source"]
    for i in range(10):
        for label in ("moving", "still"):
            name = f"{label}/{i}.avi"
            film(root / name, label == "moving", seed=i)
            rows.append(f"{name},{label},{i}")
    (root / "clips.csv").write_text("\n".join(rows))
    return root
