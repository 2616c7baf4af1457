"""Image sizes that a backbone takes, found by trying; padding of images of other sizes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._checks import ArgumentError, check_integer
from ..._features import ScaleError, Size, checks_enabled
from ..._torch import is_placeholder, larger
from ._timm import native_side

# A backbone with windows of 7 or 8 pixels at its coarsest level needs 7 or 8 times its stride.
_WINDOWS = (1, 2, 4, 7, 8)


class ImageSizes(NamedTuple):
    """The sides that a backbone takes: multiples of a number, from a smallest to a largest one (None: any)."""

    multiple: int
    least: int
    most: int | None

    def padded(self, size: Size) -> Size:
        """Return the smallest size that the backbone takes and that holds an image of this one."""
        if self.most is not None and checks_enabled(*size) and max(size) > self.most:
            expected = f"the size of an image of at most {self.most}x{self.most} pixels, which the backbone takes"
            cure = "resize it, or make the model with another img_size in {backbone_args}"
            raise ScaleError("x", tuple(size), expected, cure)
        return self._side(size[0]), self._side(size[1])

    def _side(self, side: int) -> int:
        if self.multiple > 1:
            side = (side + self.multiple - 1) // self.multiple * self.multiple
        if self.least <= self.multiple:
            return side
        return larger(side, self.least) if is_placeholder(side) else max(side, self.least)

    def pad(self, images: Tensor) -> Tensor:
        """Return images padded right and below by repeating their last pixels, as large as `padded` says."""
        if self.multiple == 1 and self.least == 1 and self.most is None:
            return images
        height, width = images.shape[-2:]
        new_height, new_width = self.padded((height, width))
        return F.pad(images, (0, new_width - width, 0, new_height - height), mode="replicate")


def parse_image_sizes(sizes: Sequence[int | None]) -> ImageSizes:
    """Return the sizes, having checked them."""
    given = tuple(sizes)
    expected = "a multiple, a smallest side, and a largest side or None; all at least 1, the largest not the smallest"
    if len(given) != 3 or given[0] is None or given[1] is None:
        raise ArgumentError("image_sizes", sizes, expected)
    multiple, least = (check_integer("image_sizes", value, 1) for value in given[:2])
    most = None if given[2] is None else check_integer("image_sizes", given[2], 1)
    if most is not None and most < least:
        raise ArgumentError("image_sizes", sizes, expected)
    return ImageSizes(multiple, least, most)


def find_image_sizes(network: nn.Module, in_chans: int, stride: int, native: int | None = None) -> ImageSizes:
    """Return which image sizes a backbone takes, having run small images through a copy of it."""
    copied = copy.deepcopy(network).eval()
    like = next(copied.parameters())

    def run(height: int, width: int) -> None:
        features: Sequence[Tensor] = copied(like.new_zeros(1, in_chans, height, width))
        if not all(feature.numel() for feature in features):
            raise ValueError("a feature has no pixel")

    native = native or native_side(network)
    for multiple in _multiples(stride, native):
        if multiple < stride:
            sizes = [(2 * stride + multiple, 3 * stride + 3 * multiple), (2 * stride + 3 * multiple, 3 * stride)]
        else:
            sizes = [(multiple, 2 * multiple)]
        if _refusal(run, sizes) is None:
            sides = sorted({multiple, max(multiple, stride), max(multiple, 2 * stride)})
            return ImageSizes(multiple, next((s for s in sides if _refusal(run, [(s, s)]) is None), sides[-1]), None)
    error = _refusal(run, [(native, native)])
    if error is not None:
        raise ValueError(f"it takes neither images of {native}x{native} nor any other size tried: {error}") from error
    return ImageSizes(native, native, native)


def _multiples(stride: int, native: int) -> list[int]:
    powers = [2**exponent for exponent in range(stride.bit_length()) if 2**exponent < stride]
    windows = [stride * window for window in _WINDOWS if stride * window < native]
    return [*powers, *windows, native]


@torch.no_grad()
def _refusal(run: Callable[[int, int], None], sizes: Sequence[Size]) -> Exception | None:
    try:
        for height, width in sizes:
            run(height, width)
    except Exception as error:  # noqa: BLE001  # networks refuse sizes with anything
        return error
    return None
