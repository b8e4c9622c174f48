"""Coloured people with identities: sequences on disk, crops in memory, and crops left unchanged."""

from pathlib import Path

import cv2
import numpy as np

from streamvis.training.reid.crop_dataset import CropAugment, CropDataset

UNCHANGED = CropAugment(
    jitter=0,
    flip=0,
    brightness=0,
    contrast=0,
    saturation=0,
    tint=0,
    coarse=0,
    blur=0,
    compress=0,
    erase=0,
    surround=0,
)
COLOURS = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40)], np.uint8)


def sequence(folder: Path, name: str, people: int = 4, frames: int = 8) -> Path:
    """Write a MOTChallenge folder of coloured people who walk past, at 10 pictures a second."""
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    lines = []
    for n in range(1, frames + 1):
        picture = np.full((120, 160, 3), 128, np.uint8)
        for i in range(people):
            x, y = 5 + 35 * i + n, 20 + 5 * i
            picture[y : y + 60, x : x + 24] = COLOURS[i][::-1]
            lines.append(f"{n},{i + 1},{x},{y},24,60,1,-1,-1,-1")
        cv2.imwrite(str(folder / "img1" / f"{n:06}.png"), picture)
    (folder / "gt/gt.txt").write_text("\n".join(lines))
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={name}\nimDir=img1\nframeRate=10\nseqLength={frames}\n"
        "imWidth=160\nimHeight=120\nimExt=.png\n"
    )
    return folder


def coloured(count: int, views: int, *, seed: int = 0) -> CropDataset:
    """Return people told apart by the tints of shirt and trousers, not by how bright they are.

    Each is in a video of its own.
    """
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(count), views)
    tints = rng.uniform(0.3, 1, (count, 2, 3))
    tints /= tints.sum(2, keepdims=True)
    light = rng.uniform(80, 480, (len(person), 1, 1, 1))
    crops = tints[person].repeat(40, axis=1)[:, :, None].repeat(40, axis=2) * light
    crops = np.clip(crops + rng.normal(0, 30, crops.shape), 0, 255)  # (N, 80, 40, 3)
    apart = [np.zeros((1, 1), bool)] * count
    return CropDataset(
        crops.astype(np.uint8),
        person,
        person,
        apart,
        np.arange(count + 1),
    )
