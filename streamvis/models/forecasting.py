"""The features of a future moment from those of four past ones (Šarić et al. 2019 and 2020).

F2F regresses them. F2MF also predicts flows that warp each past map to the future one, and blends
the warped maps and the regressed one, cell by cell.

    model = Forecaster(ARCHITECTURES["f2mf"])
    future = model(maps)                           # (B, 4, C, H, W), oldest first -> (B, C, H, W)

or, one map at a time, with the same result:

    past.append(model.encode(features, past[-1] if past else None))  # the last four
    future = model.forecast(past)

A fine map is first folded to cells of fold×fold places, the resolution of the network. The maps
themselves are warped and blended.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.errors import ModelError
from streamvis.models.deform import DeformConv2d, warp

Kind = Literal["f2mf", "deform_f2f", "conv_f2f", "dilated_f2f", "moved"]
Width = Annotated[int, Meta(ge=1, le=1024)]
Seconds = Annotated[float, Meta(gt=0, le=60)]


class ForecasterConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The architecture of a forecaster, stored in weights files.

    Kind "moved" is the network of `models/warp_calibrator.py`, which uses `channels` (classes),
    `stride`, `width`, `depth`, `past`, `every_s` and `horizon_s` alone.
    """

    name: str
    kind: Kind = "f2mf"
    channels: Width  # of a map
    stride: Annotated[int, Meta(ge=1, le=64)]  # px from one place of a map to the next
    fold: Annotated[int, Meta(ge=1, le=16)] = 1  # places of a map to a cell, each way
    width: Width = 128  # channels of a cell, of an F2F's layers and of the correlated embedding
    trunk: Width = 256  # channels of an F2MF's layers
    depth: Annotated[int, Meta(ge=1, le=32)] = 8  # layers of an F2F, or of the trunk of an F2MF
    deformable: bool = True  # convolutions of an F2MF; the kind decides for an F2F
    past: Annotated[int, Meta(ge=2, le=16)] = 4  # number of past maps
    warped: Annotated[int, Meta(ge=1, le=16)] = 4  # number of newest maps that an F2MF warps
    detail: Annotated[int, Meta(ge=1, le=16)] = 1  # flows and weights to a cell, each way
    residual: bool = True  # regress the difference to the newest map
    every_s: Seconds = 0.2  # from one past map to the next
    horizon_s: Seconds  # from the newest map to the forecast
    radius: Annotated[int, Meta(ge=0, le=16)] = 4  # of the correlation window, in steps
    step: Annotated[int, Meta(ge=1, le=16)] = 2  # of the correlation window, in cells


class PastFeatures(NamedTuple):
    """The encoding of one past map. The first axis of every tensor is the batch."""

    map: Tensor  # (B, C, H, W) normalised
    cells: Tensor  # (B, width, h, w); unfolded, the map
    embedding: Tensor  # (B, width, h, w) of unit length along channels; F2F: (B, 0, h, w)
    motion: Tensor  # (B, n·n, h, w) correlation with the map before it; of a first one, zeros


class Outputs(NamedTuple):
    """A forecast map and its two components, normalised: (B, C, H, W) each."""

    blend: Tensor
    regressed: Tensor  # F2F's
    moved: Tensor | None  # F2M's, the blend of warped maps alone; None of an F2F

    def loss(self, target: Tensor) -> Tensor:
        """Sum of mean squared errors; the target is normalised."""
        distinct = {id(x): x for x in self if x is not None}  # of an F2F, the first two are one
        return torch.stack([F.mse_loss(x.float(), target) for x in distinct.values()]).sum()


class Unit(nn.Module):
    """Batch norm, ReLU, and a regular or deformable convolution."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, deformable: bool, dilation: int = 1
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv: nn.Conv2d | DeformConv2d
        if deformable:
            self.conv = DeformConv2d(inputs, outputs, kernel, dilation)
        else:
            padding = kernel // 2 * dilation
            self.conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        # x (B, inputs, h, w) -> (B, outputs, h, w)
        return self.conv(F.relu(self.norm(x)))


class Embedding(nn.Module):
    """The embedding of cells for correlation: a 3×3 convolution, unit length."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.relu(self.norm(x)))
        # an rsqrt, for F.normalize's limit would be lost in bf16
        return x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-6)


class F2mfNetwork(nn.Module):
    """The network of F2MF: fusion, trunk, and heads for F2F, flows and weights."""

    def __init__(self, a: ForecasterConfig, cells: int) -> None:
        super().__init__()
        places = a.detail * a.detail
        pairs = (a.past - 1) * (2 * a.radius + 1) ** 2
        widths = [a.width + pairs] + [a.trunk] * a.depth
        self.fuse = Unit(a.past * cells, a.width, 1, a.deformable)
        self.trunk = nn.Sequential(*(Unit(i, o, 3, a.deformable) for i, o in pairwise(widths)))
        self.regress = Unit(a.trunk, cells, 3, a.deformable)
        self.flow = Unit(a.trunk, 2 * a.warped * places, 3, a.deformable)
        self.weigh = Unit(a.trunk, (1 + a.warped) * places, 3, a.deformable)
        _silence(self.flow.conv)
        _silence(self.weigh.conv)

    def forward(self, cells: Tensor, motion: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Map cells (B, past·N, h, w) to regressed features, flows and blending weights."""
        x = self.trunk(torch.cat([self.fuse(cells), *motion], 1))
        return self.regress(x), self.flow(x), self.weigh(x)


class Forecaster(nn.Module):
    """Feature maps of past frames to that of a future frame."""

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: ForecasterConfig) -> None:
        super().__init__()
        self.architecture = a = checked(architecture)
        self.register_buffer("mean", torch.zeros(a.channels))  # of the training maps
        self.register_buffer("std", torch.ones(a.channels))
        self.fold: nn.Conv2d | None = None
        self.unfold: nn.Conv2d | None = None
        self.embed: Embedding | None = None
        self.net: nn.Sequential | F2mfNetwork
        cells = a.channels  # channels of a cell
        if a.fold > 1:
            cells = a.width
            self.fold = nn.Conv2d(a.channels, cells, a.fold, a.fold)
            self.unfold = nn.Conv2d(cells, a.channels * a.fold**2, 1)
        if a.kind == "f2mf":
            self.embed = Embedding(cells, a.width)
            self.net = F2mfNetwork(a, cells)
            last = self.net.regress
        else:
            layers = _layers(a, cells)
            self.net, last = nn.Sequential(*layers), layers[-1]
        if a.residual:
            _silence(self.unfold or last.conv)

    def forward(self, maps: Tensor) -> Tensor:
        """Forecast the map (B, C, H, W) from past ones (B, past, C, H, W), oldest first."""
        past: list[PastFeatures] = []
        for features in maps.unbind(1):
            past.append(self.encode(features, past[-1] if past else None))
        return self.forecast(past)

    def outputs(self, maps: Tensor) -> Outputs:
        """Compute all components, normalised, for training."""
        b, past = maps.shape[:2]
        kept = self.encode(maps.flatten(0, 1))  # norms use all frames at once
        moments = [
            PastFeatures(*one)
            for one in zip(*(x.unflatten(0, (b, past)).unbind(1) for x in kept), strict=True)
        ]
        later = [
            now._replace(motion=self.motion(now.embedding, before.embedding))
            for before, now in pairwise(moments)
        ]
        predicted = self.predict([moments[0], *later])
        parts, logits = self._components([moment.map for moment in moments], predicted)
        if logits is None:
            return Outputs(parts[0], parts[0], None)
        return Outputs(_blend(parts, logits), parts[0], _blend(parts[1:], logits[:, 1:]))

    def encode(self, features: Tensor, before: PastFeatures | None = None) -> PastFeatures:
        """Encode the map (B, C, H, W) of one frame, which is not modified.

        `before` is the encoding of the frame `every_s` earlier; only the oldest map of a forecast
        may lack it.
        """
        self._fits(features)
        x = self.normalise(features)
        cells = x if self.fold is None else self.fold(x)
        if self.embed is None:
            return PastFeatures(x, cells, cells[:, :0], cells[:, :0])
        embedding = self.embed(cells)
        if before is None:
            nothing = embedding.new_zeros(1)
            pairs = (2 * self.architecture.radius + 1) ** 2
            motion = nothing.expand(len(x), pairs, *embedding.shape[-2:])
        else:
            motion = self.motion(embedding, before.embedding)
        return PastFeatures(x, cells, embedding, motion)

    def motion(self, now: Tensor, before: Tensor) -> Tensor:
        """Correlate two embeddings (B, width, h, w): (B, n·n, h, w), or n = 0 for an F2F."""
        a = self.architecture
        return now[:, :0] if self.embed is None else correlate(now, before, a.radius, a.step)

    def forecast(self, past: Sequence[PastFeatures]) -> Tensor:
        """Forecast the map (B, C, H, W) from encodings of past frames, oldest first."""
        return self.compose([one.map for one in past], self.predict(past))

    def predict(self, past: Sequence[PastFeatures]) -> tuple[Tensor, ...]:
        """Predict features (B, C, H, W) by F2F; for F2MF also flows and weights (B, ·, h, w).

        This is most of the work and tolerates bf16, unlike the warping of `compose`.
        """
        a = self.architecture
        if len(past) != a.past:
            raise ModelError(f"{a.name} needs {a.past} past maps, found {len(past)}")
        cells = torch.cat([one.cells for one in past], 1)
        if not isinstance(self.net, F2mfNetwork):
            return (self._unfolded(self.net(cells)),)
        regressed, flows, weights = self.net(cells, [one.motion for one in past[1:]])
        return self._unfolded(regressed), flows, weights

    def compose(self, maps: Sequence[Tensor], predicted: Sequence[Tensor]) -> Tensor:
        """Compose the future map (B, C, H, W) from past maps, oldest first, and predictions.

        Only the newest `warped` normalised maps are needed; for an F2F, the newest one.
        """
        parts, logits = self._components(maps, predicted)
        return self.denormalise(parts[0] if logits is None else _blend(parts, logits))

    def rollout(self, past: Sequence[PastFeatures], times: int) -> list[Tensor]:
        """Forecast autoregressively 1, 2, … times the horizon ahead."""
        a = self.architecture
        if abs(a.horizon_s - a.every_s) > 1e-6:
            raise ModelError(
                f"{a.name} has a horizon of {a.horizon_s} s and maps {a.every_s} s apart; only a "
                "forecaster whose `horizon_s` equals its `every_s` can forecast autoregressively"
            )
        window, forecasts = list(past), []
        for _ in range(times):
            forecasts.append(self.forecast(window))
            window = [*window[1:], self.encode(forecasts[-1], window[-1])]
        return forecasts

    def _components(
        self, maps: Sequence[Tensor], predicted: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor | None]:
        """Return regressed and warped maps, and the logits (B, N, H, W) of their blending."""
        a, newest = self.architecture, maps[-1]
        regressed = newest + predicted[0] if a.residual else predicted[0]
        if self.embed is None:
            return [regressed], None
        flows = self._fine(predicted[1], newest).split(2, 1)
        # flows are in cells, and a cell has `fold` places
        warped = [warp(m, f * a.fold) for m, f in zip(maps[-a.warped :], flows, strict=True)]
        return [regressed, *warped], self._fine(predicted[2], newest)

    def _unfolded(self, x: Tensor) -> Tensor:
        """Unfold cells (B, N, h, w) to a map (B, C, H, W)."""
        if self.unfold is None:
            return x
        return F.pixel_shuffle(self.unfold(x), self.architecture.fold)

    def _fine(self, x: Tensor, like: Tensor) -> Tensor:
        """Upsample values of cells (B, N·detail², h, w) to the map: (B, N, H, W)."""
        a = self.architecture
        x = F.pixel_shuffle(x, a.detail) if a.detail > 1 else x
        if a.detail == a.fold:
            return x
        return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)

    def normalise(self, features: Tensor) -> Tensor:
        """Normalise maps (…, C, H, W) to mean 0 and deviation 1, in new memory."""
        return (features - self.mean[:, None, None]) / self.std[:, None, None]

    def denormalise(self, features: Tensor) -> Tensor:
        return features * self.std[:, None, None] + self.mean[:, None, None]

    @torch.no_grad()
    def fit_to(self, mean: Tensor, std: Tensor) -> None:
        """Set mean and deviation (C,) of the maps."""
        self.mean.copy_(mean)
        self.std.copy_(std.clamp(min=1e-3))

    def _fits(self, features: Tensor) -> None:
        a = self.architecture
        _, channels, height, width = features.shape
        if channels != a.channels or height % a.fold or width % a.fold:
            raise ModelError(
                f"{a.name} expects maps of {a.channels} channels with sides divisible by {a.fold}, "
                f"found ({channels}, {height}, {width}). Pad the frames so that "
                f"{a.fold * a.stride} px divide both sides"
            )


def correlate(now: Tensor, before: Tensor, radius: int, step: int) -> Tensor:
    """Correlate each cell with the neighbourhood of its place in the previous map.

    now and before (B, C, h, w) -> (B, n·n, h, w), n = 2·radius + 1: channel j·n + i at (y, x) is
    now(y, x) · before(y + (j − radius)·step, x + (i − radius)·step), and 0 beyond the map.
    """
    height, width = now.shape[-2:]
    count, reach = 2 * radius + 1, radius * step
    padded = F.pad(before, (reach, reach, reach, reach))  # (B, C, h + 2·reach, w + 2·reach)
    a = now.permute(0, 2, 3, 1)  # (B, h, w, C)
    b = padded.permute(0, 2, 1, 3)  # (B, h + 2·reach, C, w + 2·reach)
    # all with all of a row, though few are near: one product for each displacement takes longer
    rows = [
        _band(a @ b[:, first : first + height], 2 * reach + 1)[..., ::step]
        for first in range(0, count * step, step)
    ]  # (B, h, w, n)
    return torch.stack(rows, 1).permute(0, 1, 4, 2, 3).reshape(-1, count * count, height, width)


def _band(products: Tensor, count: int) -> Tensor:
    """Of (…, w, w + count − 1) what lies right of the diagonal: out[x, k] = in[x, x + k]."""
    width, columns = products.shape[-2:]
    skewed = F.pad(products.flatten(-2), (0, width)).unflatten(-1, (width, columns + 1))
    return skewed[..., :count]


def _blend(maps: Sequence[Tensor], logits: Tensor) -> Tensor:
    """Σ softmax(logits)ᵢ·mapsᵢ at every place; logits (B, N, H, W)."""
    weights = logits.softmax(1)
    total = weights[:, :1] * maps[0]
    for i, x in enumerate(maps[1:], start=1):
        total = total + weights[:, i : i + 1] * x
    return total


def _silence(conv: nn.Conv2d | DeformConv2d) -> None:
    """Let it say zero, until taught."""
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]


def _layers(a: ForecasterConfig, cells: int) -> list[Unit]:
    """An F2F: 1×1 over all past maps, then 3×3, the last of them to what is regressed."""
    deformable = a.kind == "deform_f2f"
    widths = [a.past * cells] + [a.width] * (a.depth - 1) + [cells]
    layers = []
    for i in range(a.depth):
        spread = 2 if a.kind == "dilated_f2f" and 0 < i < a.depth - 1 else 1
        layers.append(Unit(widths[i], widths[i + 1], 3 if i else 1, deformable, spread))
    return layers


def checked(a: ForecasterConfig) -> ForecasterConfig:
    """ModelError, unless the numbers go together."""
    if a.kind == "f2mf" and a.warped > a.past:
        raise ModelError(f"{a.name}: `warped` is {a.warped}, expected at most `past`, {a.past}")
    if a.fold % a.detail:
        raise ModelError(
            f"{a.name}: `detail` is {a.detail}, expected a divisor of {a.fold}, `fold`"
        )
    if a.kind not in ("f2mf", "moved") and a.depth < 2:
        raise ModelError(f"{a.name}: `depth` is {a.depth}, expected at least 2 of a {a.kind}")
    return a


_PAPERS = ForecasterConfig(
    name="", kind="f2mf", channels=128, stride=32, residual=False, every_s=0.18, horizon_s=0.54
)
_STREET = ForecasterConfig(  # what ships
    name="", kind="moved", channels=11, stride=4, width=32, depth=3, past=2, horizon_s=0.2
)


def _named(name: str, like: ForecasterConfig, **changes: object) -> ForecasterConfig:
    return msgspec.structs.replace(like, name=name, **changes)


_ALL = (
    _named("f2mf", _PAPERS, depth=6),
    _named("deform-f2f-8", _PAPERS, kind="deform_f2f"),
    _named("deform-f2f-5", _PAPERS, kind="deform_f2f", depth=5),
    _named("conv-f2f-8", _PAPERS, kind="conv_f2f"),
    _named("dilated-f2f-8", _PAPERS, kind="dilated_f2f"),
    _named("street-forecast-0.2", _STREET),
    _named("street-forecast-0.6", _STREET, horizon_s=0.6),
)
ARCHITECTURES = {a.name: a for a in _ALL}
