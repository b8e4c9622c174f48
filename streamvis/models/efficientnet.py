"""EfficientNet-Lite0 (Tan & Le 2019; the Lite variant drops squeeze-excite, uses ReLU6)."""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.models.layers import FrozenBatchNorm2d, conv_norm

EPS = 1e-3
HEAD = 1280  # channels of its last map
STAGES = (  # repeats, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def same_pad(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's "same" padding of even sizes at stride 2: the odd pixel goes right and below."""
    return F.pad(x, ((kernel - 2) // 2, (kernel - 1) // 2) * 2) if stride == 2 else x


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    padding = kernel // 2 if stride == 1 else 0
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)


class Block(nn.Module):
    """Inverted residual: widen by 1×1, filter each channel alone, narrow by 1×1 without ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.kernel, self.stride = kernel, stride
        self.residual = stride == 1 and inputs == outputs
        self.expand = conv(inputs, width, 1) if expansion > 1 else None
        self.expand_norm = FrozenBatchNorm2d(width, EPS) if expansion > 1 else None
        self.depthwise = conv(width, width, kernel, stride, groups=width)
        self.depthwise_norm = FrozenBatchNorm2d(width, EPS)
        self.project = conv(width, outputs, 1)
        self.project_norm = FrozenBatchNorm2d(outputs, EPS)

    def forward(self, x: Tensor) -> Tensor:
        # x (B, inputs, H, W)
        y = x
        if self.expand is not None and self.expand_norm is not None:
            y = F.relu6(conv_norm(y, self.expand, self.expand_norm), inplace=True)
        y = same_pad(y, self.kernel, self.stride)
        y = F.relu6(conv_norm(y, self.depthwise, self.depthwise_norm), inplace=True)
        y = conv_norm(y, self.project, self.project_norm)
        return x + y if self.residual else y  # (B, outputs, H/stride, W/stride)


class EfficientNetLite0(nn.Module):
    """The trunk, giving maps at strides 4 to 32 with 24, 40, 112 and 320 channels."""

    mean = (127 / 255,) * 3
    std = (128 / 255,) * 3
    strides = (4, 8, 16, 32)
    channels = (24, 40, 112, 320)
    bgr = False
    skip = 0

    def __init__(
        self,
        taps: tuple[int, ...] = (2, 4, 10, 15),  # blocks after which the maps are taken
        inputs: int = 3,
        head: bool = False,  # give its map of 1280 channels too, which the classifier pools
    ) -> None:
        super().__init__()
        self.taps = taps
        self.stem = conv(inputs, 32, 3, stride=2)
        self.stem_norm = FrozenBatchNorm2d(32, EPS)
        blocks: list[Block] = []
        levels: dict[int, list[int]] = {}  # stride -> channels of the taps there
        inputs, reached = 32, 2
        for repeats, kernel, stride, expansion, outputs in STAGES:
            for index in range(repeats):
                step = stride if index == 0 else 1
                reached *= step
                if len(blocks) in taps:
                    levels.setdefault(reached, []).append(outputs)
                blocks.append(Block(inputs, outputs, kernel, step, expansion))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.levels = tuple(map(tuple, levels.values()))
        self.outputs = HEAD if head else inputs
        self.head = conv(inputs, HEAD, 1) if head else None
        self.head_norm = FrozenBatchNorm2d(HEAD, EPS) if head else None

    def forward(self, x: Tensor) -> list[Tensor]:
        # x (B, 3, H, W), H and W multiples of 32
        x = F.relu6(conv_norm(same_pad(x, 3, 2), self.stem, self.stem_norm), inplace=True)
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                maps.append(x)
        if self.head is not None and self.head_norm is not None:
            maps.append(F.relu6(conv_norm(x, self.head, self.head_norm), inplace=True))
        return maps


def from_lukemelas(state: dict[str, Tensor], head: bool = False) -> "OrderedDict[str, Tensor]":
    """Rename the published ImageNet file's keys to this module's, without the classifier."""
    parts = {
        "_expand_conv": "expand",
        "_bn0": "expand_norm",
        "_depthwise_conv": "depthwise",
        "_bn1": "depthwise_norm",
        "_project_conv": "project",
        "_bn2": "project_norm",
        "_conv_stem": "stem",
    }
    renamed: OrderedDict[str, Tensor] = OrderedDict()
    for key, value in state.items():
        words = key.split(".")
        if words[-1] == "num_batches_tracked":
            continue
        if words[0] in ("_conv_head", "_fc", "_bn1"):
            if head and words[0] != "_fc":
                name = "head" if words[0] == "_conv_head" else "head_norm"
                renamed[f"{name}.{words[1]}"] = value
            continue
        if words[0] == "_bn0":
            renamed[f"stem_norm.{words[1]}"] = value
        elif words[0] == "_blocks":
            renamed[f"blocks.{words[1]}.{parts[words[2]]}.{words[3]}"] = value
        else:
            renamed[f"{parts[words[0]]}.{words[1]}"] = value
    return renamed
