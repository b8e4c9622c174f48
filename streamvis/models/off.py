"""Action recognition by optical-flow-guided features, OFF (Sun et al. 2018).

If a feature f is constant along the motion v, then f_x·v_x + f_y·v_y + f_t = 0: the gradients of
feature maps contain the information of optical flow at little cost.

    model = load_actions("fight-off")
    scores = model(model.normalise(clip))          # (B, T, H, W, 3) -> stream -> (B, T or T−1, K)
    p = model.calibration.probabilities(consensus(scores))

or, one sampled frame at a time, with the same result:

    now = model.project(model.normalise(picture[None]))
    levels = model.pair(before, now)               # before: `project` of the previous frame
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.messages import Array
from streamvis.models.bn_inception import BnInception
from streamvis.models.efficientnet import EfficientNetLite0
from streamvis.models.layers import constant
from streamvis.models.resnet import ResNet18Whole, ResNet50

Modality = Literal["rgb", "diff", "flow"]
Gradients = Literal["diag", "sobel_xy"]
Body = Literal["bn_inception", "efficientnet_lite0", "resnet18", "resnet50"]
Width = Annotated[int, Meta(ge=1, le=1024)]
Side = Annotated[int, Meta(ge=64, le=1024, multiple_of=32)]

CHANGES, MOTIONS = 4, 7  # statistics of `MotionClassifier` per channel, and per tap
MOVING = 2  # levels with motion statistics; at stride 32 there is hardly any motion
LEAST = 1e-3  # added before logarithms
FLAT = 0.1  # share of the mean channel variance that regularises normalisation
DOUBT = 0.05  # share of the mean squared gradient that regularises the motion
LEVELS = ("fine", "middle", "coarse")  # strides 8, 16, 32
CHANNELS = {"rgb": 3, "diff": 15, "flow": 10}  # input channels of the trunk
PAPERS = {"frame": 1.0, "coarse": 2.0, "middle": 1.0}  # weights of streams
FLOW_STD = 16.0 / 255  # of flow written as bytes, 128 for none
KERNELS = {  # correlations, x to the right and y down
    "diag": [[[0.0, 1, 0], [-1, 0, 1], [0, -1, 0]]],  # right − left + up − down
    "sobel_xy": [  # per pixel
        [[-1 / 8, 0, 1 / 8], [-2 / 8, 0, 2 / 8], [-1 / 8, 0, 1 / 8]],
        [[-1 / 8, -2 / 8, -1 / 8], [0, 0, 0], [1 / 8, 2 / 8, 1 / 8]],
    ],
}


class OffConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The architecture of an action network, stored in weights files."""

    name: str
    actions: Annotated[tuple[str, ...], Meta(min_length=2, max_length=1000)]
    body: Body = "efficientnet_lite0"
    modality: Modality = "rgb"
    guided: bool = True  # False: the frame classifier alone
    gradients: Gradients = "diag"
    spatial: Width = 32  # channels of a tap for spatial gradients, rgb only
    temporal: Width = 128  # channels of a tap for temporal differences
    widths: tuple[Width, Width, Width] = (
        64,
        128,
        256,
    )  # of the OFF stacks; outputs have four times as many channels
    classifier: Literal["paper", "motion"] = "paper"
    size: tuple[Side, Side] = (224, 224)  # height and width of a crop in px
    every_s: Annotated[float, Meta(gt=0, le=10)] = 0.1  # sampling interval
    window: Annotated[int, Meta(ge=1, le=1000)] = 24  # pairs that a stream's score averages


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fusion of streams to probabilities: softmax(scale · weighted mean + shift)."""

    weights: dict[str, float] = msgspec.field(default_factory=PAPERS.copy)
    scale: float = 1.0
    shift: tuple[float, ...] = ()  # per action; empty: no shift

    def logits(self, streams: Mapping[str, Tensor]) -> Tensor:
        """Fuse streams (…, K), as from `consensus`, to logits (…, K)."""
        used = {name: w for name, w in self.weights.items() if name in streams}
        total = torch.stack([w * streams[name].float() for name, w in used.items()]).sum(0)
        fused = self.scale * total / max(sum(used.values()), 1e-9)
        return fused + fused.new_tensor(self.shift) if self.shift else fused

    def probabilities(self, streams: Mapping[str, Tensor]) -> Tensor:
        """Fuse streams (…, K) to probabilities (…, K)."""
        return self.logits(streams).softmax(-1)


class FrameFeatures(NamedTuple):
    """The features of one frame, kept until the next. The first axis is the batch."""

    frame: Tensor  # (B, K) logits of the frame classifier
    features: tuple[Tensor, ...]  # per level: concatenated channels of its taps
    gradients: tuple[Tensor, ...]  # per level: their spatial gradients


class Gradient(nn.Module):
    """Spatial gradients by fixed filters: (B, C, h, w) -> (B, C·maps, h, w)."""

    kernel: Tensor

    def __init__(self, kind: Gradients, channels: int) -> None:
        super().__init__()
        kernel = torch.tensor(KERNELS[kind])[:, None]  # (maps, 1, 3, 3)
        self.channels, self.outputs = channels, channels * len(kernel)
        self.register_buffer("kernel", kernel.repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        groups = x.shape[1]
        kernel = self.kernel.to(x.dtype).repeat(groups // self.channels, 1, 1, 1)
        return F.conv2d(x, kernel, padding=1, groups=groups)


class Residual(nn.Module):
    """A residual block of 1×1, 3×3 and a last convolution; OFF has no norms."""

    def __init__(
        self, inputs: int, width: int, *, project: bool = False, last: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv3 = nn.Conv2d(width, outputs, last, padding=last // 2)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if project else nn.Identity()
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        # x (B, inputs, h, w)
        y = self.conv3(F.relu(self.conv2(F.relu(self.conv1(x))))) + self.shortcut(x)
        return F.relu(y) if self.relu else y  # (B, 4·width, h, w)


class Standardise(nn.Module):
    """Standardise (N, D) by mean and deviation of the training data."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("deviation", torch.ones(numbers))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean.to(x.dtype)) / self.deviation.to(x.dtype)


class OffSubnetwork(nn.Module):
    """The OFF sub-network: units on every tap, a stack and a classifier per resolution."""

    def __init__(self, levels: Sequence[Sequence[int]], architecture: OffConfig) -> None:
        super().__init__()
        a = architecture
        self.temporal = a.temporal
        self.spatial = a.spatial if a.modality == "rgb" else 0
        self.counts = [len(level) for level in levels]
        taps = [channels for level in levels for channels in level]
        self.reduce = nn.ModuleList(nn.Conv2d(c, self.temporal + self.spatial, 1) for c in taps)
        self.gradient = Gradient(a.gradients, self.spatial) if self.spatial else None
        unit = self.temporal + (self.gradient.outputs if self.gradient else 0)
        fine, middle, coarse = (unit * count for count in self.counts)
        w1, w2, w3 = a.widths
        self.fine = nn.Sequential(
            nn.Conv2d(fine, w1, 7, 2, 3),
            nn.ReLU(),
            Residual(w1, w1, project=True),
            Residual(4 * w1, w1),
            Residual(4 * w1, w1),
        )
        self.middle = nn.Sequential(
            nn.Conv2d(middle + 4 * w1, w2, 5, 2, 2),
            nn.ReLU(),
            Residual(w2, w2, project=True),
            Residual(4 * w2, w2, last=3),
        )
        self.coarse = nn.Sequential(
            nn.Conv2d(coarse + 4 * w2, w3, 3, 1, 1),
            nn.ReLU(),
            Residual(w3, w3, project=True, relu=False),
        )
        self.classify = nn.ModuleList(nn.Linear(4 * w, len(a.actions)) for w in a.widths)
        self.fade = nn.Dropout(0.8)  # of gradients
        self.drop = nn.Dropout(0.8)
        _initialise(self, xavier=a.modality == "diff")

    def project(self, maps: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return features and gradients per level from the taps' maps (B, C, h, w)."""
        features, gradients = [], []
        first = 0
        for count in self.counts:
            units = range(first, first + count)
            both = [self.reduce[i](maps[i]) for i in units]
            features.append(F.relu(torch.cat([x[:, : self.temporal] for x in both], 1)))
            if self.gradient is not None:
                raw = torch.cat([x[:, self.temporal :] for x in both], 1)
                gradients.append(self.gradient(raw))
            first += count
        return tuple(features), tuple(gradients)

    def pair(
        self, before: FrameFeatures, now: FrameFeatures, earlier: FrameFeatures | None = None
    ) -> tuple[Tensor, ...]:
        """Return logits (B, K) per level from temporal differences and spatial gradients."""
        x: Tensor | None = None
        logits = []
        for i, stack in enumerate((self.fine, self.middle, self.coarse)):
            change = now.features[i] - before.features[i]
            parts = [change]
            if self.gradient is not None:
                parts.insert(0, self.fade(before.gradients[i]))
            x = stack(torch.cat(parts if x is None else [*parts, x], 1))
            logits.append(self.classify[i](self.drop(_pooled(x, finest=i == 0))))
        return tuple(logits)

    @torch.no_grad()
    def fit_to(self, spreads: Sequence[float]) -> None:
        """Scale the initial weights by the taps' standard deviations."""
        for conv, spread in zip(self.reduce, spreads, strict=True):
            conv.weight.div_(max(spread, 1e-6))  # type: ignore[operator]


def _pooled(x: Tensor, finest: bool) -> Tensor:
    return (F.max_pool2d(x, 3, 2, ceil_mode=True) if finest else x).mean((2, 3))


class MotionClassifier(nn.Module):
    """OFF without stacks: motion statistics of features and a linear classifier.

    Small data sets cannot train the stacks. Per channel of the taps: mean and maximum of first and
    second temporal differences. Per tap of the finer levels: statistics of the motion v that best
    solves f_x·v_x + f_y·v_y + f_t = 0 over all channels and 3×3 places (Lucas & Kanade 1981 on
    features): its speed, residual and spread. All as logarithms.
    """

    kernel: Tensor

    def __init__(self, levels: Sequence[Sequence[int]], architecture: OffConfig) -> None:
        super().__init__()
        self.levels = [list(level) for level in levels]
        self.register_buffer("kernel", torch.tensor(KERNELS["sobel_xy"])[:, None], persistent=False)
        moving = [len(level) for level in levels[:MOVING]]
        self.motions = [MOTIONS * taps for taps in (*moving, *[0] * (len(levels) - MOVING))]
        seen = [
            CHANGES * sum(level) + motions
            for level, motions in zip(levels, self.motions, strict=True)
        ]
        self.standard = nn.ModuleList(Standardise(n) for n in seen)
        self.classify = nn.ModuleList(nn.Linear(n, len(architecture.actions)) for n in seen)
        for linear in self.classify:
            nn.init.normal_(linear.weight, std=0.001)  # type: ignore[arg-type]
            nn.init.zeros_(linear.bias)  # type: ignore[arg-type]

    def project(self, maps: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Concatenate the taps' maps (B, C, h, w) of each level."""
        taps = iter(maps)
        return tuple(torch.cat([next(taps) for _ in level], 1) for level in self.levels), ()

    def pair(
        self, before: FrameFeatures, now: FrameFeatures, earlier: FrameFeatures | None = None
    ) -> tuple[Tensor, ...]:
        """Return logits (B, K) per level; without `earlier` no motion until `before` is assumed."""
        return self.logits(self.statistics(before, now, earlier))

    def logits(self, numbers: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Classify the output of `statistics`: logits (B, K) per level."""
        layers = zip(self.classify, self.standard, numbers, strict=True)
        return tuple(classify(standard(x)) for classify, standard, x in layers)

    def statistics(
        self, before: FrameFeatures, now: FrameFeatures, earlier: FrameFeatures | None = None
    ) -> list[Tensor]:
        """Return the motion statistics (B, N) of each level."""
        maps = zip((earlier or before).features, before.features, now.features, strict=True)
        return [self.level(i, b, c - b, b - a) for i, (a, b, c) in enumerate(maps)]

    def level(self, index: int, f: Tensor, change: Tensor, last: Tensor) -> Tensor:
        """Return the statistics of one level: maps (B, C, h, w), changes after and before."""
        f, change, last = f.float(), change.float(), last.float()
        sizes = (change.abs(), (change - last).abs())
        numbers = [pool(x) for x in sizes for pool in (_mean, _largest)]
        if self.motions[index]:
            channels = self.levels[index]
            taps = zip(f.split(channels, 1), change.split(channels, 1), strict=True)
            numbers.append(_motions(torch.stack([self._products(*tap) for tap in taps], 1)))
        return (torch.cat(numbers, 1) + LEAST).log()

    def _products(self, f: Tensor, ft: Tensor) -> Tensor:
        """Sum f_x², f_x·f_y, f_y², …, f_t² of a tap (B, C, h, w) over channels: (B, 6, h, w).

        Channels are weighted by their inverse variance.
        """
        around = F.pad(f, (1, 1, 1, 1), "replicate")
        fx, fy = (
            F.conv2d(around, kernel.expand(f.shape[1], 1, 3, 3), groups=f.shape[1])
            for kernel in self.kernel.split(1)
        )
        places, mean = f.shape[2] * f.shape[3], f.mean((2, 3))
        spread = ((f * f).mean((2, 3)) - mean * mean) * (places / (places - 1))  # var: a pass less
        even = 1 / (spread + FLAT * spread.mean(1, keepdim=True) + 1e-12)
        gx, gy, gt = (even[..., None, None] * x for x in (fx, fy, ft))
        pairs = ((fx, gx), (fx, gy), (fy, gy), (fx, gt), (fy, gt), (ft, gt))
        return torch.cat([(x * y).sum(1, keepdim=True) for x, y in pairs], 1)

    def prior(self) -> list[Tensor]:
        """Return the prior variance of the classifier weights of each level.

        Channels and motions have equal total weight, and so has every tap.
        """
        taps, motions = sum(map(len, self.levels)), sum(self.motions)
        return [
            torch.tensor(
                [1 / (taps * CHANGES * c) for _ in range(CHANGES) for c in level for _ in range(c)]
                + [1 / motions] * count
            )
            for level, count in zip(self.levels, self.motions, strict=True)
        ]


def _motions(products: Tensor) -> Tensor:
    """Return motion statistics (B, taps·MOTIONS) of the products (B, taps, 6, h, w) of a level.

    The motion, in places per step, is solved by least squares over channels and neighbours.
    """
    near = F.avg_pool2d(products.flatten(1, 2), 3, 1, 1, count_include_pad=False)
    xx, xy, yy, xt, yt, tt = near.unflatten(1, (-1, 6)).unbind(2)
    doubt = DOUBT * (xx + yy).mean((2, 3), keepdim=True) + 1e-9
    xx, yy = xx + doubt, yy + doubt
    det = xx * yy - xy * xy
    vx, vy = (xy * yt - yy * xt) / det, (xy * xt - xx * yt) / det
    both = torch.stack([(vx * vx + vy * vy).sqrt(), tt / (xx + yy)], 2)  # speed, normal flow²
    spreads = torch.stack([both[:, :, 0], vx, vy], 2).flatten(3).std(3)
    sizes = torch.stack([both.mean((3, 4)), both.amax((3, 4))], 3).flatten(2)
    return torch.cat([sizes, spreads], 2).flatten(1)


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def _largest(x: Tensor) -> Tensor:
    return x.amax((2, 3))


def _initialise(part: nn.Module, xavier: bool) -> None:
    """Initialise as the reference implementation, with positive biases."""
    for module in part.modules():
        if isinstance(module, nn.Conv2d):
            if xavier:
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.constant_(module.bias, 0.2)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.001)
            nn.init.zeros_(module.bias)


class Off(nn.Module):
    """The action network: a trunk shared by frames, a frame classifier, and an OFF part."""

    def __init__(self, architecture: OffConfig) -> None:
        super().__init__()
        self.architecture = architecture
        self.size = architecture.size
        self.calibration = Calibration()
        self.body = _body(architecture)
        self.taps = sum(map(len, self.body.levels))
        self.drop = nn.Dropout(0.8)
        self.head = nn.Linear(self.body.outputs, len(architecture.actions))
        nn.init.normal_(self.head.weight, std=0.001)
        nn.init.zeros_(self.head.bias)
        part = MotionClassifier if architecture.classifier == "motion" else OffSubnetwork
        self.guided = part(self.body.levels, architecture) if architecture.guided else None

    def forward(self, clip: Tensor) -> dict[str, Tensor]:
        """Return logits of frames and pairs: `frame` (B, T, K) and LEVELS (B, T−1, K) each."""
        # clip (B, T, C, H, W) as `normalise` gives it
        b, t = clip.shape[:2]
        return self.scores(self.tap_maps(clip.flatten(0, 1)), b, t)

    def scores(self, maps: Sequence[Tensor], b: int, t: int) -> dict[str, Tensor]:
        """Return the logits from `tap_maps` of B·T frames."""
        kept = self.from_maps(maps)
        streams = {"frame": kept.frame.unflatten(0, (b, t))}
        if self.guided is None or t < 2:
            return streams
        levels = self.guided.pair(*_triples(kept, b, t))
        pairs = (x.unflatten(0, (b, t - 1)) for x in levels)
        return streams | dict(zip(LEVELS, pairs, strict=True))

    def triples(
        self, maps: Sequence[Tensor], b: int, t: int
    ) -> tuple[FrameFeatures, FrameFeatures, FrameFeatures]:
        """Return the inputs of `pair` of the OFF part for each pair of B clips of T frames."""
        return _triples(self.from_maps(maps), b, t)

    def project(self, pictures: Tensor) -> FrameFeatures:
        """Run the trunk on frames (B, C, H, W) and return their features."""
        return self.from_maps(self.tap_maps(pictures))

    def tap_maps(self, pictures: Tensor) -> list[Tensor]:
        """Return the taps' maps (B, C, h, w), and the mean of the last map (B, outputs)."""
        maps = self.body(pictures)
        first = self.body.skip
        return [*maps[first : first + self.taps], maps[-1].mean((2, 3))]

    def from_maps(self, maps: Sequence[Tensor]) -> FrameFeatures:
        """Compute frame features from `tap_maps`."""
        frame = self.head(self.drop(maps[-1]))
        if self.guided is None:
            return FrameFeatures(frame, (), ())
        return FrameFeatures(frame, *self.guided.project(maps[:-1]))

    def pair(
        self, before: FrameFeatures, now: FrameFeatures, earlier: FrameFeatures | None = None
    ) -> dict[str, Tensor]:
        """Return logits (B, K) of LEVELS for frames `every_s` apart, `earlier` optional."""
        if self.guided is None:
            return {}
        return dict(zip(LEVELS, self.guided.pair(before, now, earlier), strict=True))

    def normalise(self, pixels: Array | Tensor) -> Tensor:
        """Normalise uint8 (…, H, W, C) to network input (…, channels, H, W) float32.

        rgb: C = 3. diff: six frames, C = 18. flow: C = 10, x and y alternating, 128 is zero.
        """
        if isinstance(pixels, np.ndarray):
            pixels = torch.from_numpy(np.ascontiguousarray(pixels))
        x = pixels.movedim(-1, -3).float() / 255
        if self.architecture.modality == "flow":
            return (x - 128 / 255) / FLOW_STD
        if self.body.bgr:
            x = x.unflatten(-3, (-1, 3)).flip(-3).flatten(-4, -3)
        std = constant(self.body.std, x)[:, None, None]
        if self.architecture.modality == "diff":
            steps = x[..., 3:, :, :] - x[..., :-3, :, :]  # (…, 15, H, W)
            return steps / std.repeat(5, 1, 1)
        return (x - constant(self.body.mean, x)[:, None, None]) / std


def _triples(
    kept: FrameFeatures, b: int, t: int
) -> tuple[FrameFeatures, FrameFeatures, FrameFeatures]:
    """Return before, now and earlier features for each pair of B clips of T frames."""
    times = torch.arange(t, device=kept.frame.device)

    def at(moments: Tensor) -> FrameFeatures:
        some = [
            tuple(x.unflatten(0, (b, t))[:, moments].flatten(0, 1) for x in part)
            for part in ((kept.frame,), kept.features, kept.gradients)
        ]
        return FrameFeatures(some[0][0], some[1], some[2])

    return at(times[:-1]), at(times[1:]), at((times[:-1] - 1).clamp(min=0))


def _body(architecture: OffConfig) -> Any:
    """Return the trunk: maps from fine to coarse, of which OFF taps those after `skip`.

    `levels` are the taps' channels by stride; the last map has `outputs`, and is classified.
    """
    inputs = CHANNELS[architecture.modality]
    match architecture.body:
        case "bn_inception":
            return BnInception(inputs)
        case "efficientnet_lite0":
            return EfficientNetLite0(taps=(4, 7, 10, 14, 15), inputs=inputs, head=True)
        case "resnet18":
            return ResNet18Whole(inputs)
        case "resnet50":
            return ResNet50(1e-5, inputs)


def rounded(model: Off, dtype: torch.dtype) -> Off:
    """Convert to `dtype`, except motion statistics, which need fp32 differences."""
    model.to(dtype)
    if isinstance(model.guided, MotionClassifier):
        model.guided.float()
    return model


def consensus(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Average streams (B, T, K) over time: (B, K) each."""
    return {name: x.mean(1) for name, x in scores.items()}


def widen(kernel: Tensor, inputs: int) -> Tensor:
    """Adapt a first kernel (O, 3, k, k) to other inputs by repeating its mean over colours."""
    return kernel.mean(1, keepdim=True).repeat(1, inputs, 1, 1)
