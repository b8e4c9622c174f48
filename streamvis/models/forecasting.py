"""The features of a future moment from those of four past ones (Šarić et al. 2019 and 2020).

F2F regresses them. F2MF also says by which flow each past map becomes the future one, and
blends the warped maps and the regressed one, cell by cell.

    model = Forecaster(ARCHITECTURES["f2mf"])
    future = model(maps)                           # (B, 4, C, H, W), oldest first -> (B, C, H, W)

or, one map at a time, with the same result:

    past.append(model.encode(features, past[-1] if past else None))  # the last four
    future = model.forecast(past)

A fine map is first folded: cells of fold×fold places, at which the network thinks. What is
warped and blended are the maps themselves.
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
    """All that tells one forecaster from another; weights files carry it.

    A "moved" one is the network of `models/moved.py`: of what follows it has `channels`, which are
    classes, `stride`, `width`, `depth`, `past`, `every_s` and `horizon_s`.
    """

    name: str
    kind: Kind = "f2mf"
    channels: Width  # of a map
    stride: Annotated[int, Meta(ge=1, le=64)]  # px from one place of a map to the next
    fold: Annotated[int, Meta(ge=1, le=16)] = 1  # places of a map to a cell, each way
    width: Width = 128  # channels of a cell, of an F2F's layers and of the correlated embedding
    trunk: Width = 256  # channels of an F2MF's layers
    depth: Annotated[int, Meta(ge=1, le=32)] = 8  # layers: all of an F2F, the trunk of an F2MF
    deformable: bool = True  # the convolutions of an F2MF; an F2F's kind says which it has
    past: Annotated[int, Meta(ge=2, le=16)] = 4  # maps that are looked at
    warped: Annotated[int, Meta(ge=1, le=16)] = 4  # of them, the newest: an F2MF warps these
    detail: Annotated[int, Meta(ge=1, le=16)] = 1  # flows and weights to a cell, each way
    residual: bool = True  # regress what is to be added to the newest map
    every_s: Seconds = 0.2  # from one past map to the next
    horizon_s: Seconds  # from the newest to the one that is told
    radius: Annotated[int, Meta(ge=0, le=16)] = 4  # of the grid of displacements, in its steps
    step: Annotated[int, Meta(ge=1, le=16)] = 2  # of that grid, in cells


class PastFeatures(NamedTuple):
    """What is kept of one past map. Every tensor has the batch in front."""

    map: Tensor  # (B, C, H, W) normalised
    cells: Tensor  # (B, width, h, w); unfolded, the map
    embedding: Tensor  # (B, width, h, w) of unit length along channels; F2F: (B, 0, h, w)
    motion: Tensor  # (B, n·n, h, w) correlation with the map before it; of a first one, zeros


class Outputs(NamedTuple):
    """A told map, and the two that it is blended of, normalised: (B, C, H, W) each."""

    blend: Tensor
    regressed: Tensor  # F2F's
    moved: Tensor | None  # F2M's, the blend of warped maps alone; None of an F2F

    def loss(self, target: Tensor) -> Tensor:
        """Sum of mean squared errors; the target is normalised."""
        told = {id(x): x for x in self if x is not None}  # of an F2F, the first two are one
        return torch.stack([F.mse_loss(x.float(), target) for x in told.values()]).sum()


class Unit(nn.Module):
    """Norm, rectify, convolve: plainly, or where the convolution itself says."""

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
    """What is correlated of cells: 3×3, of unit length."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.relu(self.norm(x)))
        # an rsqrt, for F.normalize's limit would be lost in bf16
        return x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-6)


class F2mfNetwork(nn.Module):
    """F2M and what it shares with F2F: fusion, trunk and the three heads."""

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
        """Of cells (B, past·N, h, w): what F2F says, flows and weights, of every cell."""
        x = self.trunk(torch.cat([self.fuse(cells), *motion], 1))
        return self.regress(x), self.flow(x), self.weigh(x)


class Forecaster(nn.Module):
    """Maps of four past moments in, that of a future one out."""

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: ForecasterConfig) -> None:
        super().__init__()
        self.architecture = a = checked(architecture)
        self.register_buffer("mean", torch.zeros(a.channels))  # of the maps learnt from
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
        """The future map (B, C, H, W) of past ones (B, past, C, H, W), oldest first."""
        past: list[PastFeatures] = []
        for features in maps.unbind(1):
            past.append(self.encode(features, past[-1] if past else None))
        return self.forecast(past)

    def outputs(self, maps: Tensor) -> Outputs:
        """The same as learning needs it: all parts, normalised."""
        b, past = maps.shape[:2]
        kept = self.encode(maps.flatten(0, 1))  # norms see all moments at once
        moments = [
            PastFeatures(*one)
            for one in zip(*(x.unflatten(0, (b, past)).unbind(1) for x in kept), strict=True)
        ]
        later = [
            now._replace(motion=self.motion(now.embedding, before.embedding))
            for before, now in pairwise(moments)
        ]
        thought = self.predict([moments[0], *later])
        told, logits = self._told([moment.map for moment in moments], thought)
        if logits is None:
            return Outputs(told[0], told[0], None)
        return Outputs(_blend(told, logits), told[0], _blend(told[1:], logits[:, 1:]))

    def encode(self, features: Tensor, before: PastFeatures | None = None) -> PastFeatures:
        """What is to be kept of the map (B, C, H, W) of a moment; that stays as it is.

        `before` is what was kept of the moment `every_s` earlier; only the oldest of the maps
        that a forecast looks at can do without.
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
        """Correlation (B, n·n, h, w) of two embeddings (B, width, h, w); of an F2F, none."""
        a = self.architecture
        return now[:, :0] if self.embed is None else correlate(now, before, a.radius, a.step)

    def forecast(self, past: Sequence[PastFeatures]) -> Tensor:
        """The future map (B, C, H, W) of what was kept of `past` moments, oldest first."""
        return self.compose([one.map for one in past], self.predict(past))

    def predict(self, past: Sequence[PastFeatures]) -> tuple[Tensor, ...]:
        """What F2F regresses, (B, C, H, W); of F2MF, flows and weights too, (B, ·, h, w) of cells.

        This is most of the work and bears rounding; where flows lead, `carry_out` does not.
        """
        a = self.architecture
        if len(past) != a.past:
            raise ModelError(f"{a.name} looks at {a.past} past maps, found {len(past)}")
        cells = torch.cat([one.cells for one in past], 1)
        if not isinstance(self.net, F2mfNetwork):
            return (self._unfolded(self.net(cells)),)
        regressed, flows, weights = self.net(cells, [one.motion for one in past[1:]])
        return self._unfolded(regressed), flows, weights

    def compose(self, maps: Sequence[Tensor], thought: Sequence[Tensor]) -> Tensor:
        """The future map (B, C, H, W): past ones, oldest first, changed as was thought.

        Of the normalised maps, only the newest `warped` are needed; of an F2F, the newest.
        """
        told, logits = self._told(maps, thought)
        return self.denormalise(told[0] if logits is None else _blend(told, logits))

    def rollout(self, past: Sequence[PastFeatures], times: int) -> list[Tensor]:
        """Future maps at 1, 2, … times the horizon: each told one is taken for seen."""
        a = self.architecture
        if abs(a.horizon_s - a.every_s) > 1e-6:
            raise ModelError(
                f"{a.name} tells what comes {a.horizon_s} s after maps {a.every_s} s apart; only "
                "a forecaster whose `horizon_s` is its `every_s` can go on from what it told"
            )
        window, told = list(past), []
        for _ in range(times):
            told.append(self.forecast(window))
            window = [*window[1:], self.encode(told[-1], window[-1])]
        return told

    def _told(
        self, maps: Sequence[Tensor], thought: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor | None]:
        """What F2F regresses and every warped map, and the logits (B, N, H, W) to blend them by."""
        a, newest = self.architecture, maps[-1]
        regressed = newest + thought[0] if a.residual else thought[0]
        if self.embed is None:
            return [regressed], None
        flows = self._fine(thought[1], newest).split(2, 1)
        # flows are in cells, and a cell has `fold` places
        warped = [warp(m, f * a.fold) for m, f in zip(maps[-a.warped :], flows, strict=True)]
        return [regressed, *warped], self._fine(thought[2], newest)

    def _unfolded(self, x: Tensor) -> Tensor:
        """Of cells (B, N, h, w) the map (B, C, H, W)."""
        if self.unfold is None:
            return x
        return F.pixel_shuffle(self.unfold(x), self.architecture.fold)

    def _fine(self, x: Tensor, like: Tensor) -> Tensor:
        """Numbers of cells (B, N·detail², h, w) for every place of the map: (B, N, H, W)."""
        a = self.architecture
        x = F.pixel_shuffle(x, a.detail) if a.detail > 1 else x
        if a.detail == a.fold:
            return x
        return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)

    def normalise(self, features: Tensor) -> Tensor:
        """Maps (…, C, H, W) brought to mean 0 and deviation 1, in memory of their own."""
        return (features - self.mean[:, None, None]) / self.std[:, None, None]

    def denormalise(self, features: Tensor) -> Tensor:
        return features * self.std[:, None, None] + self.mean[:, None, None]

    @torch.no_grad()
    def fit_to(self, mean: Tensor, std: Tensor) -> None:
        """Take over mean and deviation (C,) of the maps that will be seen."""
        self.mean.copy_(mean)
        self.std.copy_(std.clamp(min=1e-3))

    def _fits(self, features: Tensor) -> None:
        a = self.architecture
        _, channels, height, width = features.shape
        if channels != a.channels or height % a.fold or width % a.fold:
            raise ModelError(
                f"{a.name} takes maps of {a.channels} channels and sides that {a.fold} divides; "
                f"found ({channels}, {height}, {width}). Pad the pictures so that "
                f"{a.fold * a.stride} px divide both sides"
            )


def correlate(now: Tensor, before: Tensor, radius: int, step: int) -> Tensor:
    """Products of each cell with those around its place in the map before.

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
