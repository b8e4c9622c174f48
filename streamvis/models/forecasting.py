"""The features of a future moment from those of four past ones (Šarić et al. 2019 and 2020).

F2F regresses them. F2MF also says by which flow each past map becomes the future one, and
blends the warped maps and the regressed one, cell by cell.

    model = Forecaster(ARCHITECTURES["street-forecast-0.2"])
    future = model(maps)                           # (B, 4, C, H, W), oldest first -> (B, C, H, W)

or, one map at a time, with the same result:

    past.append(model.remember(features, past[-1] if past else None))  # the last four
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

Kind = Literal["f2mf", "deform_f2f", "conv_f2f", "dilated_f2f"]
Width = Annotated[int, Meta(ge=1, le=1024)]
Seconds = Annotated[float, Meta(gt=0, le=60)]

NEAR = 2  # fine cells around where steps lead to in which the end of a way is sought
LATE = -2.0  # of the blend's logits at first: all maps but the newest begin with e⁻² of its weight


class Architecture(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All that tells one forecaster from another; weights files carry it."""

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
    steady: Annotated[int, Meta(ge=0, le=16)] = 0  # an F2MF begins with what was seen to move
    # going on as it did, seen in cells of so many places each way; 0: it begins with standstill
    residual: bool = True  # regress what is to be added to the newest map (steady: moved on)
    every_s: Seconds = 0.2  # from one past map to the next
    horizon_s: Seconds  # from the newest to the one that is told
    radius: Annotated[int, Meta(ge=0, le=16)] = 4  # of the grid of displacements, in its steps
    step: Annotated[int, Meta(ge=1, le=16)] = 2  # of that grid, in cells


class Remembered(NamedTuple):
    """What is kept of one past map. Every tensor has the batch in front."""

    map: Tensor  # (B, C, H, W) normalised
    cells: Tensor  # (B, width, h, w); unfolded, the map
    embedding: Tensor  # (B, width, h, w) of unit length along channels; F2F: (B, 0, h, w)
    # Steady: of fine cells, (B, width/2, h', w')
    motion: Tensor  # (B, n·n, h, w) correlation with the map before it; of a first one, zeros.
    # Steady: what `Displacement` finds of it


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


class Displacement(nn.Module):
    """Where fine cells were in the map before, by the likeness of what surrounds them."""

    around = 5  # cells whose likenesses are averaged, each way

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.places, self.detail = a.steady, a.detail
        self.radius = a.radius * a.step * a.fold // a.steady  # in cells
        self.conv = nn.Conv2d(a.channels, a.width // 2, 1, bias=False)
        self.sharpness = nn.Parameter(torch.tensor([5.0]))  # logarithm; of likenesses, −1 to 1
        reach = torch.arange(-self.radius, self.radius + 1.0)
        y, x = torch.meshgrid(reach, reach, indexing="ij")
        grid = torch.stack([x, y]) / a.detail  # (2, n, n), in the order of `correlate`
        self.register_buffer("grid", grid.flatten(1), False)
        low, high = max(self.radius - NEAR, 0), self.radius + NEAR + 1
        self.register_buffer("near", grid[:, low:high, low:high].flatten(1), False)

    grid: Tensor  # (2, n·n) displacements in cells of the network
    near: Tensor  # those that are `NEAR`

    def forward(self, x: Tensor) -> Tensor:
        """Of a map (B, C, H, W), cells of unit length (B, width/2, h', w')."""
        x = self.conv(F.avg_pool2d(x, self.places))
        return x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-6)

    def between(self, now: Tensor, before: Tensor) -> Tensor:
        """x and y to where cells were, in cells of the network, and how sure: (B, 3, h', w')."""
        return self._likely(now, before, self.radius, self.grid)

    def along(self, past: Sequence["Remembered"]) -> Tensor:
        """From one map to the next in the mean of all (B, 2, h', w').

        Steps are followed back to the oldest map, and corrected by the likeness of both ends:
        of a way three times as long, a third of the error comes into a step.
        """
        way = past[-1].motion[:, :2]
        for one in reversed(past[1:-1]):
            way = way + warp(one.motion[:, :2], way * self.detail)
        there = warp(past[0].embedding, way * self.detail)
        there = there * torch.rsqrt(there.square().sum(1, keepdim=True) + 1e-6)
        radius = min(NEAR, self.radius)
        missed = self._likely(past[-1].embedding, there, radius, self.near)[:, :2]
        return (way + missed) / (len(past) - 1)

    def _likely(self, now: Tensor, before: Tensor, radius: int, grid: Tensor) -> Tensor:
        alike = correlate(now, before, radius, 1)  # (B, n·n, h', w')
        alike = F.avg_pool2d(alike, self.around, 1, self.around // 2, count_include_pad=False)
        likely = (self.sharpness.exp() * alike).float().softmax(1)
        found = (grid.float() @ likely.flatten(2)).unflatten(2, likely.shape[2:])
        return torch.cat([found, likely.square().sum(1, keepdim=True)], 1).to(now.dtype)


class Motion(nn.Module):
    """F2M and what it shares with F2F: fusion, trunk and the three heads."""

    lags: Tensor  # from each warped map to the future one, in distances of maps, oldest first

    def __init__(self, a: Architecture, cells: int) -> None:
        super().__init__()
        places = a.detail * a.detail
        pairs = (a.past - 1) * (2 * a.radius + 1) ** 2
        if a.steady:
            pairs = (5 * (a.past - 1) + 4) * places
        widths = [a.width + pairs] + [a.trunk] * a.depth
        self.detail = a.detail
        self.register_buffer(
            "lags", a.horizon_s / a.every_s + torch.arange(a.warped - 1.0, -1, -1), False
        )
        self.fuse = Unit(a.past * cells, a.width, 1, a.deformable)
        self.trunk = nn.Sequential(*(Unit(i, o, 3, a.deformable) for i, o in pairwise(widths)))
        self.regress = Unit(a.trunk, cells, 3, a.deformable)
        self.flow = Unit(a.trunk, 2 * a.warped * places, 3, a.deformable)
        self.weigh = Unit(a.trunk, (1 + a.warped) * places, 3, a.deformable)
        _silence(self.flow.conv)
        _silence(self.weigh.conv)
        first = LATE if a.steady else 0.0  # what is regressed is less than what goes on
        bias = torch.tensor([first] + [LATE] * (a.warped - 1) + [0.0])
        with torch.no_grad():
            self.weigh.conv.bias.copy_(bias.repeat_interleave(places))  # type: ignore[union-attr]

    def forward(
        self, cells: Tensor, motion: Sequence[Tensor], along: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of cells (B, past·N, h, w): what F2F says, flows and weights, of every cell."""
        seen = self.fuse(cells)
        if along is None:
            x = self.trunk(torch.cat([seen, *motion], 1))
            return self.regress(x), self.flow(x), self.weigh(x)
        signed = [x for m in motion for x in (m, -m[:, :2])]  # a ReLU comes first
        both = torch.cat([*signed, along, -along], 1)
        x = self.trunk(torch.cat([seen, F.pixel_unshuffle(both, self.detail)], 1))
        return (
            self.regress(x),
            self.flow(x) + self.going_on((motion[-1][:, :2] + along) / 2),
            self.weigh(x),
        )

    def going_on(self, found: Tensor) -> Tensor:
        """Flows (B, 2·warped·detail², h, w) of what moves on as it did (B, 2, h', w').

        A flow is of what will be at a place, so motion is read where that comes from, about.
        """
        flows = []
        for lag in self.lags.unbind():
            flow = lag * found
            for _ in range(2):
                flow = lag * warp(found, flow * self.detail)
            flows.append(flow)
        return F.pixel_unshuffle(torch.cat(flows, 1), self.detail)


class Forecaster(nn.Module):
    """Maps of four past moments in, that of a future one out."""

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = a = checked(architecture)
        self.register_buffer("mean", torch.zeros(a.channels))  # of the maps learnt from
        self.register_buffer("std", torch.ones(a.channels))
        self.fold: nn.Conv2d | None = None
        self.unfold: nn.Conv2d | None = None
        self.embed: Embedding | Displacement | None = None
        self.net: nn.Sequential | Motion
        cells = a.channels  # channels of a cell
        if a.fold > 1:
            cells = a.width
            self.fold = nn.Conv2d(a.channels, cells, a.fold, a.fold)
            self.unfold = nn.Conv2d(cells, a.channels * a.fold**2, 1)
        if a.kind == "f2mf":
            self.embed = Displacement(a) if a.steady else Embedding(cells, a.width)
            self.net = Motion(a, cells)
            last = self.net.regress
        else:
            layers = _layers(a, cells)
            self.net, last = nn.Sequential(*layers), layers[-1]
        if a.residual:
            _silence(self.unfold or last.conv)

    @property
    def _steady(self) -> bool:
        return isinstance(self.embed, Displacement)

    def forward(self, maps: Tensor) -> Tensor:
        """The future map (B, C, H, W) of past ones (B, past, C, H, W), oldest first."""
        past: list[Remembered] = []
        for features in maps.unbind(1):
            past.append(self.remember(features, past[-1] if past else None))
        return self.forecast(past)

    def outputs(self, maps: Tensor) -> Outputs:
        """The same as learning needs it: all parts, normalised."""
        b, past = maps.shape[:2]
        kept = self.remember(maps.flatten(0, 1))  # norms see all moments at once
        moments = [
            Remembered(*one)
            for one in zip(*(x.unflatten(0, (b, past)).unbind(1) for x in kept), strict=True)
        ]
        later: list[Remembered] = []
        for before, now in pairwise(moments):
            newest = len(later) == past - 2
            with torch.set_grad_enabled(torch.is_grad_enabled() and (newest or not self._steady)):
                motion = self.motion(now.embedding, before.embedding)
            later.append(now._replace(motion=motion))
        thought = self.think([moments[0], *later])
        told, logits = self._told([moment.map for moment in moments], thought)
        if logits is None:
            return Outputs(told[0], told[0], None)
        return Outputs(_blend(told, logits), told[0], _blend(told[1:], logits[:, 1:]))

    def remember(self, features: Tensor, before: Remembered | None = None) -> Remembered:
        """What is to be kept of the map (B, C, H, W) of a moment; that stays as it is.

        `before` is what was kept of the moment `every_s` earlier; only the oldest of the maps
        that a forecast looks at can do without.
        """
        self._fits(features)
        x = self.normalise(features)
        cells = x if self.fold is None else self.fold(x)
        if self.embed is None:
            return Remembered(x, cells, cells[:, :0], cells[:, :0])
        embedding = self.embed(x if self._steady else cells)
        if before is None:
            n = 3 if self._steady else (2 * self.architecture.radius + 1) ** 2
            return Remembered(
                x, cells, embedding, embedding.new_zeros(1).expand(len(x), n, *embedding.shape[-2:])
            )
        return Remembered(x, cells, embedding, self.motion(embedding, before.embedding))

    def motion(self, now: Tensor, before: Tensor) -> Tensor:
        """Correlation (B, n·n, h, w) of two embeddings (B, width, h, w), or what comes of it."""
        a = self.architecture
        if isinstance(self.embed, Displacement):
            return self.embed.between(now, before)
        return correlate(now, before, a.radius, a.step) if self.embed is not None else now[:, :0]

    def forecast(self, past: Sequence[Remembered]) -> Tensor:
        """The future map (B, C, H, W) of what was kept of `past` moments, oldest first."""
        return self.carry_out([one.map for one in past], self.think(past))

    def think(self, past: Sequence[Remembered]) -> tuple[Tensor, ...]:
        """What F2F regresses, (B, C, H, W); of F2MF, flows and weights too, (B, ·, h, w) of cells.

        This is most of the work and bears rounding; where flows lead, `carry_out` does not.
        """
        a = self.architecture
        if len(past) != a.past:
            raise ModelError(f"{a.name} looks at {a.past} past maps, found {len(past)}")
        cells = torch.cat([one.cells for one in past], 1)
        if not isinstance(self.net, Motion):
            return (self._unfolded(self.net(cells)),)
        along = self.embed.along(past) if isinstance(self.embed, Displacement) else None
        regressed, flows, weights = self.net(cells, [one.motion for one in past[1:]], along)
        return self._unfolded(regressed), flows, weights

    def carry_out(self, maps: Sequence[Tensor], thought: Sequence[Tensor]) -> Tensor:
        """The future map (B, C, H, W): past ones, oldest first, changed as was thought.

        Of the normalised maps, only the newest `warped` are needed; of an F2F, the newest.
        """
        told, logits = self._told(maps, thought)
        return self.denormalise(told[0] if logits is None else _blend(told, logits))

    def roll(self, past: Sequence[Remembered], times: int) -> list[Tensor]:
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
            window = [*window[1:], self.remember(told[-1], window[-1])]
        return told

    def _told(
        self, maps: Sequence[Tensor], thought: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor | None]:
        """What F2F regresses and every warped map, and the logits (B, N, H, W) to blend them by."""
        a, newest = self.architecture, maps[-1]
        if self.embed is None:
            return [newest + thought[0] if a.residual else thought[0]], None
        flows = self._fine(thought[1], newest).split(2, 1)
        # flows are in cells, and a cell has `fold` places
        warped = [warp(m, f * a.fold) for m, f in zip(maps[-a.warped :], flows, strict=True)]
        start = warped[-1] if self._steady else newest
        regressed = start + thought[0] if a.residual else thought[0]
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
    block = min(max(2 * reach, 4), width)  # columns at once: of their products, few are too far
    blocks = -(-width // block)
    spare = blocks * block - width
    a = F.pad(now, (0, spare)).permute(0, 2, 3, 1).unflatten(2, (blocks, block))
    padded = F.pad(before, (reach, reach + spare, reach, reach)).permute(0, 2, 1, 3)
    near = [padded[..., k * block : (k + 1) * block + 2 * reach] for k in range(blocks)]
    b = torch.stack(near, 2)  # (B, h + 2·reach, blocks, C, block + 2·reach)
    rows = [
        _band(a @ b[:, first : first + height], 2 * reach + 1)[..., ::step]
        for first in range(0, count * step, step)
    ]  # (B, h, blocks, block, n)
    found = torch.stack(rows, 1).flatten(3, 4)[:, :, :, :width]
    return found.permute(0, 1, 4, 2, 3).reshape(-1, count * count, height, width)


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


def _layers(a: Architecture, cells: int) -> list[Unit]:
    """An F2F: 1×1 over all past maps, then 3×3, the last of them to what is regressed."""
    deformable = a.kind == "deform_f2f"
    widths = [a.past * cells] + [a.width] * (a.depth - 1) + [cells]
    layers = []
    for i in range(a.depth):
        spread = 2 if a.kind == "dilated_f2f" and 0 < i < a.depth - 1 else 1
        layers.append(Unit(widths[i], widths[i + 1], 3 if i else 1, deformable, spread))
    return layers


def checked(a: Architecture) -> Architecture:
    """ModelError, unless the numbers go together."""
    if a.kind == "f2mf" and a.warped > a.past:
        raise ModelError(f"{a.name}: `warped` is {a.warped}, expected at most `past`, {a.past}")
    if a.fold % a.detail:
        raise ModelError(
            f"{a.name}: `detail` is {a.detail}, expected a divisor of {a.fold}, `fold`"
        )
    if a.steady and a.detail * a.steady != a.fold:
        raise ModelError(
            f"{a.name}: `steady` is {a.steady} and `detail` {a.detail}, expected their product to "
            f"be `fold`, {a.fold}"
        )
    if a.kind != "f2mf" and a.depth < 2:
        raise ModelError(f"{a.name}: `depth` is {a.depth}, expected at least 2 of a {a.kind}")
    return a


_PAPERS = Architecture(
    name="", kind="f2mf", channels=128, stride=32, residual=False, every_s=0.18, horizon_s=0.54
)
_STREET = Architecture(  # what ships; 0.7 of the time of the segmenter that it is for
    name="",
    channels=64,
    stride=4,
    fold=4,
    width=64,
    trunk=64,
    depth=2,
    deformable=False,
    warped=1,
    detail=2,
    steady=2,
    radius=3,
    step=1,
    horizon_s=0.2,
)


def _named(name: str, like: Architecture, **changes: object) -> Architecture:
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
