"""Sizes of scales that are rounded up, and of what convolutions and pooling make of them."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..._features import Size, checks_enabled, spatial_size
from ..._torch import is_eager_cpu, larger, smaller
from .._resample import avg_pool, max_pool


def ladder(finest: Size, scales: int) -> list[Size]:
    """Return the sizes of scales: each half of the one before, rounded up."""
    sizes = [finest]
    while len(sizes) < scales:
        height, width = sizes[-1]
        sizes.append((height - height // 2, width - width // 2))
    return sizes


def halve(x: Tensor, mode: str) -> Tensor:
    """Return features of half the size, rounded up: windows of 2x2, smaller ones at the border."""
    is_even = is_eager_cpu(x) and not (x.shape[-2] % 2 or x.shape[-1] % 2)
    if mode == "max":
        return max_pool(x, 2) if is_even else F.max_pool2d(x, 2, ceil_mode=True)
    return avg_pool(x, 2) if is_even else F.avg_pool2d(x, 2, ceil_mode=True)


def resize(x: Tensor, size: Size, mode: str) -> Tensor:
    """Return features of another size."""
    return F.interpolate(x, size, mode=mode, align_corners=False if mode == "bilinear" else None)


class Geometry:
    """Sizes before and after a convolution or pooling."""

    def __init__(self, module: Any) -> None:
        self.kernel, self.stride, self.dilation = (
            pair(getattr(module, name, 1)) for name in ("kernel_size", "stride", "dilation")
        )
        reach = [d * (k - 1) for k, d in zip(self.kernel, self.dilation, strict=True)]
        padding = module.padding
        self.keeps = padding == "same"
        self.padding = (0, 0) if isinstance(padding, str) else pair(padding)
        self.more = pair(getattr(module, "output_padding", 0))
        self.is_transposed = isinstance(module, nn.ConvTranspose2d)
        self.rounds_up = bool(getattr(module, "ceil_mode", False))
        self.reach = reach[0], reach[1]
        is_even = all(2 * p == r for p, r in zip(self.padding, self.reach, strict=True))
        self.halves_evenly = self.keeps or (is_even and not self.is_transposed and not self.rounds_up)

    def output(self, size: Size) -> Size:
        """Return the size of the output."""
        return self._side(size[0], 0), self._side(size[1], 1)

    def _side(self, side: int, axis: int) -> int:
        if self.keeps:
            return side
        padding, stride, reach = self.padding[axis], self.stride[axis], self.reach[axis]
        if self.is_transposed:
            return (side - 1) * stride - 2 * padding + reach + 1 + self.more[axis]
        if not self.rounds_up:
            return (side + 2 * padding - reach - 1) // stride + 1
        steps = (side + 2 * padding - reach - 1 + stride - 1) // stride
        return steps + int(steps * stride < side + padding)  # no window starts in the padding behind

    def fitted(self, x: Tensor, size: Size) -> Tensor:
        """Return an input, resized if need be, of which the output has this size."""
        if self.halves_evenly or self.is_transposed:
            return x
        if checks_enabled(x) and self.output(spatial_size(x)) == size:
            return x
        sides = [
            self._nearest(side, wanted, axis)
            for axis, (side, wanted) in enumerate(zip(spatial_size(x), size, strict=True))
        ]
        return resize(x, (sides[0], sides[1]), "bilinear")

    def _nearest(self, side: int, wanted: int, axis: int) -> int:
        """Return the side of an input that is nearest to one and gives an output of the wanted side."""
        exact = (wanted - 1) * self.stride[axis] + self.reach[axis] + 1 - 2 * self.padding[axis]
        spare = self.stride[axis] - 1
        if self.rounds_up:
            most = larger(exact, 1)
            least = most if self.padding[axis] else larger(exact - spare, 1)  # windows in the padding are dropped
            return smaller(larger(side, least), most)
        return smaller(larger(side, exact), exact + spare)

    def exact(self, x: Tensor, size: Size) -> Tensor:
        """Return the output of a transposed convolution, resized if need be."""
        if not self.is_transposed or (checks_enabled(x) and spatial_size(x) == size):
            return x
        return resize(x, size, "bilinear")


def pair(value: Any) -> tuple[int, int]:
    """Return height and width of an argument that may be one number for both."""
    return (value, value) if not isinstance(value, tuple | list) else (value[0], value[1])
