"""Small networks of the usual kinds: residual, mobile, plain, grouped, dense, and two U-Nets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def step(inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    """A convolution with BatchNorm and activation."""
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True) if act else nn.Identity())


class Head(nn.Sequential):
    """Global pooling and a prediction."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(width, 5))


class Residual(nn.Module):
    """A basic block, with a projection where the resolution changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.act = nn.ReLU(inplace=True)
        self.project = step(inputs, outputs, 1, stride, act=False) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        y += x if self.project is None else self.project(x)
        return self.act(y)


class ResNet(nn.Sequential):
    """A stem with pooling, two stages, a head."""

    def __init__(self) -> None:
        super().__init__(step(3, 10, 7, 2), nn.MaxPool2d(3, 2, 1), Residual(10, 10, 1), Residual(10, 14, 2), Head(14))


class Inverted(nn.Module):
    """An inverted residual with squeeze and excitation."""

    def __init__(self, width: int, wide: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.expand, self.depthwise = step(width, wide, 1), step(wide, wide, 3, stride, wide)
        self.squeeze, self.excite = nn.Conv2d(wide, 4, 1), nn.Conv2d(4, wide, 1)
        self.project = step(wide, outputs, 1, act=False)
        self.is_residual = stride == 1 and width == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        y = y * torch.sigmoid(self.excite(F.silu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        y = self.project(y)
        return x + y if self.is_residual else y


class MobileNet(nn.Sequential):
    """Depthwise convolutions, ReLU6-like clamps."""

    def __init__(self) -> None:
        super().__init__(
            step(3, 8, 3, 2), nn.Hardswish(), Inverted(8, 16, 8, 1), Inverted(8, 18, 12, 2), step(12, 20, 1), Head(20)
        )


class VGG(nn.Module):
    """Biased convolutions, functions in place of modules, features flattened with their pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding="same")
        self.bn1, self.bn2 = nn.BatchNorm2d(8), nn.BatchNorm2d(12)
        self.pool = nn.MaxPool2d(2)
        self.dense = nn.Linear(12 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = F.avg_pool2d(torch.relu(self.bn2(self.conv2(x))), 2, stride=2)
        x = F.adaptive_avg_pool2d(x, (2, 2))
        return self.dense(F.dropout(x.view(x.size(0), -1), 0.1, training=self.training))


class ResNeXt(nn.Sequential):
    """Grouped convolutions whose groups do not divide evenly among scales, behind PReLU."""

    def __init__(self) -> None:
        super().__init__(
            step(3, 15, 3, 2), nn.PReLU(15), step(15, 10, 3, 1, 5), nn.PReLU(), step(10, 15, 3, 2, 5), Head(15)
        )


class DenseNet(nn.Module):
    """Concatenated features, normalised before they are convolved."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = step(3, 8)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 6 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(8 + 6 * i, 6, 3, padding=1, bias=False) for i in range(2))
        self.head = Head(20)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.stem(x), 3, 2, padding=1)
        for norm, conv in zip(self.norms, self.convs, strict=False):
            x = torch.cat([x, conv(F.relu(norm(x)))], 1)
        return self.head(F.relu(self.norms[2](x)))


class UNet(nn.Module):
    """Two levels; the way up by transposed convolutions, or by enlargement to the size of what it meets."""

    def __init__(self, transposed: bool = True) -> None:
        super().__init__()
        self.down1, self.down2 = step(3, 8), step(8, 12)
        self.bottom, self.pool = step(12, 16), nn.MaxPool2d(2)
        self.up2 = nn.ConvTranspose2d(16, 12, 2, 2) if transposed else nn.Conv2d(16, 12, 1)
        self.up1 = nn.ConvTranspose2d(12, 8, 2, 2) if transposed else nn.Conv2d(12, 8, 1)
        self.join2, self.join1 = step(24, 12), step(16, 8)
        self.predict = nn.Conv2d(8, 2, 1)
        self.transposed = transposed

    def _up(self, layer: nn.Module, x: Tensor, like: Tensor) -> Tensor:
        x = layer(x)
        if not self.transposed:
            return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
        return F.interpolate(x, size=(like.shape[2], like.size(3)))

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down1(x)
        half = self.down2(self.pool(fine))
        x = self._up(self.up2, self.bottom(self.pool(half)), half)
        x = self.join2(torch.cat((half, x), dim=1))
        return self.predict(self.join1(torch.cat((fine, self._up(self.up1, x, fine)), dim=1)))


SMALL_NETWORKS = {
    "resnet": ResNet,
    "mobilenet": MobileNet,
    "vgg": VGG,
    "resnext": ResNeXt,
    "densenet": DenseNet,
    "unet": UNet,
    "unet_resized": lambda: UNet(transposed=False),
}
