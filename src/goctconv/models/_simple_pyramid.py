"""Four resolutions out of a backbone that has one."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

LEVELS = 4


class SimplePyramid(nn.Module):
    """Bring features of one stride to a quarter, a half, once and twice that stride.

    Shapes:
        - Input: four (B, C, h, w) tensors of one size, from different depths of a plain transformer, the shallowest
          first; or one, which then serves four times.
        - Output: (B, C/4, 4h, 4w), (B, C/2, 2h, 2w), (B, C, h, w) and (B, C, h/2, w/2), the last rounded up.

    Args:
        width: C.

    Source: Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection", ECCV 2022, section 3; its
    pyramid takes the last feature only.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = (max(1, width // 4), max(1, width // 2), width, width)
        self.finest = nn.Sequential(
            nn.ConvTranspose2d(width, self.channels[1], 2, stride=2),
            LayerNorm2d(self.channels[1]),
            nn.GELU(),
            nn.ConvTranspose2d(self.channels[1], self.channels[0], 2, stride=2),
        )
        self.finer = nn.ConvTranspose2d(width, self.channels[1], 2, stride=2)

    @staticmethod
    def reductions(stride: int) -> tuple[int, ...]:
        """Return the strides of the four outputs."""
        return (max(1, stride // 4), max(2, stride // 2), max(3, stride), 2 * max(2, stride))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the four resolutions."""
        first, second, third, last = features if len(features) == LEVELS else [features[-1]] * LEVELS
        return [self.finest(first), self.finer(second), third, F.max_pool2d(last, 2, ceil_mode=True)]
