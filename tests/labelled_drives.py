"""Made-up drives with labels, and untrained networks that read them."""

from pathlib import Path

import cv2
import numpy as np
import torch

from streamvis.datasets.classes import CAMVID
from streamvis.models import forecasting, swiftnet
from streamvis.models.weights import describe, save

SIZE = (48, 200)
ROAD, CAR, VOID = 3, 8, 11
FPS, FRAMES, SPEED, WIDE = 15, 24, 4, 30  # SPEED and WIDE in px


def truth_of(n: int) -> np.ndarray:
    """A car on its way to the right."""
    labels = np.full(SIZE, ROAD, np.uint8)
    labels[:10] = VOID
    labels[20:40, 5 + SPEED * n : 5 + SPEED * n + WIDE] = CAR
    return labels


def write_drive(folder: Path, labelled=range(FRAMES), frames=FRAMES) -> Path:
    """Pictures that show their classes in red, some of them labelled."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for n in range(frames):
        shown = np.where(truth_of(n) == VOID, ROAD, truth_of(n))
        cv2.imwrite(str(folder / f"images/{n:03}.png"), np.dstack([shown.astype(np.uint8)] * 3))
        if n in labelled:
            cv2.imwrite(str(folder / f"labels/{n:03}.png"), truth_of(n))
    return folder


def write_textured(folder: Path) -> Path:
    """A textured car on a textured road, on its way by 3 px in each picture."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    road, car = (
        np.kron(rng.integers(0, 256, n, np.uint8), np.ones((8, 8), np.uint8))
        for n in ((12, 24), (6, 8))
    )
    for n in range(FRAMES):
        shown, truth = road.copy(), np.full_like(road, ROAD)
        there = np.s_[24:72, 20 + 3 * n : 84 + 3 * n]
        shown[there], truth[there] = car, CAR
        cv2.imwrite(str(folder / f"images/{n:03}.png"), np.dstack([shown, shown, truth]))
        cv2.imwrite(str(folder / f"labels/{n:03}.png"), truth)
    return folder


def untrained_weights(folder: Path) -> list[Path]:
    """An untrained segmenter, a forecaster of its features, and one of another's."""
    torch.manual_seed(0)
    seen = swiftnet.SwiftNetConfig("seg", "efficientnet_lite0", CAMVID.names, (16, 16, 16), 64)
    save(swiftnet.SwiftNet(seen), folder / "seg.safetensors", {})
    sha = describe(str(folder / "seg.safetensors")).sha256
    about = forecasting.ForecasterConfig(
        name="near", kind="conv_f2f", channels=16, stride=4, width=16, depth=2, horizon_s=0.2
    )
    for name, segmenter in (("near", sha), ("stranger", "of another")):
        path = folder / f"{name}.safetensors"
        save(forecasting.Forecaster(about), path, {"segmenter": segmenter})
    return [folder / f"{name}.safetensors" for name in ("seg", "near", "stranger")]
