"""Self-training: a segmenter labels driving video, and learns from its labels where they hold.

    label_videos([Path("driving")], "street-seg", SelfTraining(), Path("runs/street/labelled"))

A picture is looked at in several sizes and mirrored, and the probabilities are averaged. A pixel is
labelled where the class is certain, and where it agrees with that of a picture just before, moved
by optical flow; all others stay void. Of each class at least a share of the pixels is labelled,
else rare classes would vanish (class-balanced self-training; Zou et al. 2018, §4.2).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch.nn import functional

from streamvis.datasets.classes import CAMVID, VOID
from streamvis.datasets.driving import DriveSampling, read_drives, sample_drive
from streamvis.errors import ConfigError, DataError, RunError
from streamvis.files import replace
from streamvis.messages import Array
from streamvis.models.flow_warp import FlowFrame, flow_frame, warp_image
from streamvis.models.inference.segmentation import SegmentationNetwork, accelerate_segmenter
from streamvis.models.swiftnet import full_size
from streamvis.models.weights import load_segmenter
from streamvis.training.progress import progress
from streamvis.training.recipes import Share

LEVELS = 255  # of a probability, as it is kept
UNLABELLED = 11  # of the files: CamVid's void
Lines = Annotated[int, Meta(ge=64, le=2160)]


class SelfTraining(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which pixels of which pictures of unlabelled video are learnt from."""

    every: Annotated[int, Meta(ge=1)] = 2  # samples from one labelled picture to the next
    lag_s: Annotated[float, Meta(gt=0, le=2)] = 0.2  # between two samples; labels have to agree
    lines: Annotated[tuple[Lines, ...], Meta(min_length=1)] = (288, 360, 448)  # heights looked at
    certain: Share = 0.9  # least probability of a class,
    share: Share = 0.5  # or less, for so large a share of the class's pixels,
    least: Share = 0.6  # but at least this


class VideoLabels(NamedTuple):
    """One picture with the classes that the network gives it."""

    name: str
    pixels: Array  # (H, W, 3) uint8 RGB
    classes: Array  # (H, W) uint8, VOID where two samples differ
    sure: Array  # (H, W) uint8, LEVELS times the probability of the class


class Segmenters:
    """One segmenter at several heights: pictures to mean probabilities."""

    def __init__(self, weights: str, lines: Sequence[int]) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.head = load_segmenter(weights, device)
        self.head.eval().requires_grad_(False)
        self.networks: list[SegmentationNetwork] = [
            accelerate_segmenter(load_segmenter(weights, device), device, lines=one)
            for one in lines
        ]

    @torch.inference_mode()
    def __call__(self, pixels: Array) -> Array:
        """Return the probabilities (K, H, W) of the classes in a picture (H, W, 3)."""
        height, width = pixels.shape[:2]
        views = [pixels, np.ascontiguousarray(pixels[:, ::-1])]
        total = torch.zeros(0)
        for network in self.networks:
            for mirrored, view in enumerate(views):
                found = network.segment(view)
                logits = self.head.logits(found.features.float())
                inside = full_size(logits, (found.classes.shape[0], found.classes.shape[1]))
                p = inside.softmax(1)
                p = functional.interpolate(p, (height, width), mode="bilinear")[0].cpu()
                total = (p.flip(2) if mirrored else p) + (total if total.numel() else 0)
        return (total / (len(self.networks) * len(views))).numpy()


def label_videos(
    data: Sequence[Path], weights: str, how: SelfTraining, size: tuple[int, int], out: Path
) -> Path:
    """Label the videos of folders, in CamVid's layout in `out`, which is returned.

    Labels that an earlier call has completed there are kept. ConfigError for weights with other
    classes, DataError for videos that are too short.
    """
    done = out / "labelled.json"
    if done.exists():
        return out
    paths = read_drives(data)
    segmenters = Segmenters(weights, how.lines)
    known = segmenters.head.architecture.segments
    if known != CAMVID.names:
        raise ConfigError(
            f"start: {weights} knows other classes than CamVid's ({', '.join(known[:3])}, …), and "
            f"self-training writes labels of these alone; expected {', '.join(CAMVID.names)}"
        )
    found = [
        one
        for path in progress(paths, "labelling")
        for one in _labelled(path, segmenters, how, size)
    ]
    if not found:
        raise DataError(
            f"{', '.join(map(str, data))}: no video is longer than "
            f"{how.every * how.lag_s:g} s, the time to the first picture that is labelled "
            "(`unlabelled: {every, lag_s}`)"
        )
    limits = limits_of(found, len(CAMVID.names), how)
    for name in ("images", "labels"):
        (out / name).mkdir(parents=True, exist_ok=True)
    labelled = 0.0  # pictures' shares of pixels, added
    for one in found:
        labels = believed(one, limits)
        labelled += float((labels != VOID).mean())
        labels[labels == VOID] = UNLABELLED
        _write(out / f"images/{one.name}.png", cv2.cvtColor(one.pixels, cv2.COLOR_RGB2BGR))
        _write(out / f"labels/{one.name}.png", labels)
    report = {
        "pictures": len(found),
        "labelled": round(labelled / len(found), 4),
        "least": {
            name: round(float(limit) / LEVELS, 3)
            for name, limit in zip(CAMVID.names, limits, strict=True)
        },
    }
    replace(done, msgspec.json.format(msgspec.json.encode(report)))
    return out


def _write(path: Path, pixels: Array) -> None:
    try:
        path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from None


def limits_of(found: Sequence[VideoLabels], classes: int, how: SelfTraining) -> Array:
    """Return the least probability (K,), in LEVELS, from which a label of each class counts."""
    counts = np.zeros((classes, LEVELS + 1), np.int64)
    for one in found:
        there = one.classes != VOID
        np.add.at(counts, (one.classes[there], one.sure[there]), 1)
    above = counts[:, ::-1].cumsum(1)[:, ::-1]  # (K, LEVELS + 1) pixels that are as sure, or surer
    enough = above >= how.share * above[:, :1]
    highest = LEVELS - enough[:, ::-1].argmax(1)  # the last level with enough of them
    return np.clip(highest, round(how.least * LEVELS), round(how.certain * LEVELS))


def believed(one: VideoLabels, limits: Array) -> Array:
    """Return the classes (H, W) that are learnt from, VOID elsewhere."""
    known = one.classes != VOID
    needed = limits[np.where(known, one.classes, 0)]
    return np.where(known & (one.sure >= needed), one.classes, np.uint8(VOID))


def _labelled(
    path: Path, segmenters: Segmenters, how: SelfTraining, size: tuple[int, int]
) -> Iterator[VideoLabels]:
    """Yield every n-th sample of a video, compared with the sample before it."""
    sampling = DriveSampling(size=size, every_s=how.lag_s)
    before: list[tuple[Array, FlowFrame]] = []
    for n, sample in enumerate(sample_drive(path, sampling)):
        if (n + 1) % how.every > 1:  # neither it nor the next one is labelled
            continue
        now = []
        for place, pixels in enumerate(sample.views):
            p = segmenters(pixels)
            classes = p.argmax(0).astype(np.uint8)
            last = before[place] if place < len(before) else None
            flow = flow_frame(pixels, None if last is None else last[1], size)
            now.append((classes, flow))
            if n % how.every == 0 and last is not None:
                sure = np.round(p.max(0) * LEVELS).astype(np.uint8)
                name = f"{path.stem}_{n:05}_{place}"
                yield VideoLabels(name, pixels, agreed(classes, last[0], flow), sure)
        before = now


def agreed(classes: Array, before: Array, flow: FlowFrame) -> Array:
    """Return the classes (H, W) that are those of the picture before, moved; VOID elsewhere."""
    height, width = classes.shape
    if flow.flow is None:
        return np.full_like(classes, VOID)
    shift = 2 * cv2.resize(flow.flow, (width, height), interpolation=cv2.INTER_LINEAR)
    places = np.dstack(np.meshgrid(np.arange(width), np.arange(height))).astype(np.float32)
    moved = warp_image(before, places + shift)
    return np.where(moved == classes, classes, np.uint8(VOID))
