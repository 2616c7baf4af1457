"""SCFNet's head: features mapped to one width, and fused from the coarsest to the finest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from ..._features import Size, spatial_size


class ConvNormAct(nn.Module):
    """A 3x3 convolution with a bias that keeps the size, BatchNorm, and ReLU.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        dilation: Of the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same size."""
        features: Tensor = self.act(self.norm(self.conv(x)))
        return features


class ScaleFusion(nn.Module):
    """Fuse a fine feature with a coarser one, under the guidance of the deepest.

    Shapes:
        - Input: (B, width, h, w), (B, width, h', w') and (B, width, h'', w'').
        - Output: (B, width, h, w).

    Args:
        width: Channels of all.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.guide = ConvNormAct(width, width)
        self.gate = ConvNormAct(width, width)
        self.merge = ConvNormAct(width, width)

    def forward(self, fine: Tensor, coarse: Tensor, deepest: Tensor) -> Tensor:
        """Return the fused feature."""
        guided = self.guide(coarse + coarse * resized(deepest, spatial_size(coarse)))
        gated = self.gate(fine + fine * resized(coarse, spatial_size(fine)))
        fused: Tensor = self.merge(gated + resized(guided, spatial_size(fine)))
        return fused


class SCFNetHead(nn.Module):
    """Map features to one width and fuse them, the coarsest first.

    Shapes:
        - Input: (B, C, h, w) tensors, the finest first.
        - Output: as many of ``width`` channels, of the same sizes; the first has seen all of them.

    Args:
        in_channels: Of every feature.
        width: Of all maps.

    Source: KD-SCFNet (Zhang et al., 2022), the scale-correlated fusion modules.
    """

    def __init__(self, in_channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(ConvNormAct(channels, width) for channels in in_channels)
        self.bottleneck = ConvNormAct(width, width, dilation=5)
        self.fuse = nn.ModuleList(ScaleFusion(width) for _ in in_channels[1:])

    @property
    def in_channels(self) -> list[int]:
        """Channels of every feature, as the layers are now."""
        return [reduce.conv.in_channels for reduce in cast("list[ConvNormAct]", list(self.reduce))]

    @property
    def out_channels(self) -> list[int]:
        """Channels of every fused map, as the layers are now."""
        fused = [fuse.merge.conv.out_channels for fuse in cast("list[ScaleFusion]", list(self.fuse))]
        return [*fused, self.bottleneck.conv.out_channels]

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the fused maps, the finest first."""
        mapped = [reduce(feature) for reduce, feature in zip(self.reduce, features, strict=True)]
        deepest = self.bottleneck(mapped[-1])
        maps = [deepest]
        for fuse, fine in zip(reversed(self.fuse), reversed(mapped[:-1]), strict=True):
            maps.insert(0, fuse(fine, maps[0], deepest))
        return tuple(maps)


def resized(x: Tensor, size: Size) -> Tensor:
    """Return a map at another size."""
    return F.interpolate(x, size, mode="bilinear", align_corners=False)
