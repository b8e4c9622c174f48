"""ResNet-50 v1.5, whose stride stands on the 3×3 convolution; ResNet-18, whole or its first half.

He et al. 2016; names are torchvision's.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from streamvis.models.layers import FrozenBatchNorm2d, conv_norm

EPS = 1e-5  # of the batch norms of ResNet-18


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 around a shortcut."""

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int,
        eps: float,
        norm: type[nn.Module] = FrozenBatchNorm2d,
    ) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = norm(width, eps)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = norm(width, eps)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = norm(outputs, eps)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, norm(outputs, eps))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(conv_norm(x, self.conv1, self.bn1))
        y = F.relu(conv_norm(y, self.conv2, self.bn2))
        y = conv_norm(y, self.conv3, self.bn3)
        if self.downsample is not None:
            shortcut, norm = self.downsample
            assert isinstance(shortcut, nn.Conv2d)
            x = conv_norm(x, shortcut, norm)
        return F.relu(x + y)


class ResNet50(nn.Module):
    """The trunk, giving C2..C5 at strides 4, 8, 16, 32 with 256, 512, 1024, 2048 channels."""

    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    strides = (4, 8, 16, 32)
    channels = (256, 512, 1024, 2048)
    levels = ((512,), (1024,), (2048,))  # of the maps after the first `skip`
    skip = 1
    outputs = 2048
    bgr = False

    def __init__(self, eps: float = 0.0, inputs: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, 64, 7, 2, 3, bias=False)
        self.bn1 = FrozenBatchNorm2d(64, eps)
        inputs = 64
        for index, (blocks, width) in enumerate(
            zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True)
        ):
            layer = nn.Sequential()
            for block in range(blocks):
                layer.append(Bottleneck(inputs, width, 2 if index and not block else 1, eps))
                inputs = 4 * width
            self.add_module(f"layer{index + 1}", layer)

    def forward(self, x: Tensor) -> list[Tensor]:
        # x (B, 3, H, W)
        x = F.max_pool2d(F.relu(conv_norm(x, self.conv1, self.bn1)), 3, 2, 1)
        maps = []
        for index in range(4):
            x = self.get_submodule(f"layer{index + 1}")(x)
            maps.append(x)
        return maps


class BasicBlock(nn.Module):
    """Two 3×3 around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = norm(outputs, EPS)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = norm(outputs, EPS)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, norm(outputs, EPS))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.sums(x))

    def sums(self, x: Tensor) -> Tensor:
        """What its last ReLU is given."""
        y = F.relu(conv_norm(x, self.conv1, self.bn1))
        y = conv_norm(y, self.conv2, self.bn2)
        if self.downsample is not None:
            shortcut, norm = self.downsample
            assert isinstance(shortcut, nn.Conv2d)
            x = conv_norm(x, shortcut, norm)
        return x + y


class ResNet18(nn.Module):
    """The trunk up to `layer2`, 128 channels at stride 8, or `layer3`, 256 at 16.

    Norms are frozen unless trained.
    """

    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(self, train_norms: bool = False, layers: int = 2) -> None:
        super().__init__()
        self.stride, self.channels = 2 ** (layers + 1), 2 ** (layers + 5)
        norm: type[nn.Module] = nn.BatchNorm2d if train_norms else FrozenBatchNorm2d
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = norm(64, EPS)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1, norm), BasicBlock(64, 64, 1, norm))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2, norm), BasicBlock(128, 128, 1, norm))
        self.layer3: nn.Sequential | None = None
        if layers > 2:
            first = BasicBlock(128, 256, 2, norm)
            self.layer3 = nn.Sequential(first, BasicBlock(256, 256, 1, norm))

    def forward(self, x: Tensor) -> Tensor:
        # x (B, 3, H, W)
        x = F.max_pool2d(F.relu(conv_norm(x, self.conv1, self.bn1)), 3, 2, 1)
        x = self.layer2(self.layer1(x))  # (B, 128, H/8, W/8)
        return x if self.layer3 is None else self.layer3(x)  # (B, 256, H/16, W/16)


class ResNet18Whole(nn.Module):
    """The whole trunk, giving C2..C5 at strides 4, 8, 16, 32 with 64, 128, 256, 512 channels."""

    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    channels = (64, 128, 256, 512)
    levels = ((128,), (256,), (512,))  # of the maps after the first `skip`
    skip = 1
    outputs = 512
    bgr = False

    def __init__(
        self,
        inputs: int = 3,
        train_norms: bool = False,
        sums: bool = False,  # give what the last ReLU of each layer is given
    ) -> None:
        super().__init__()
        self.sums = sums
        norm: type[nn.Module] = nn.BatchNorm2d if train_norms else FrozenBatchNorm2d
        self.conv1 = nn.Conv2d(inputs, 64, 7, 2, 3, bias=False)
        self.bn1 = norm(64, EPS)
        before = 64
        for index, width in enumerate(self.channels):
            first = BasicBlock(before, width, 2 if index else 1, norm)
            second = BasicBlock(width, width, 1, norm)
            self.add_module(f"layer{index + 1}", nn.Sequential(first, second))
            before = width

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def forward(self, x: Tensor) -> list[Tensor]:
        # x (B, inputs, H, W)
        x = F.max_pool2d(F.relu(conv_norm(x, self.conv1, self.bn1)), 3, 2, 1)
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            first, second = layer
            assert isinstance(second, BasicBlock)
            sums = second.sums(first(x))
            x = F.relu(sums)
            maps.append(sums if self.sums else x)
        return maps
