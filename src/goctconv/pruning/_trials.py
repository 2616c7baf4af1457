"""Inputs that a pruned network is tried on: random ones, other sizes and another batch size."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .._torch import map_tensors, tensors_in
from ._inputs import Call

_IMAGE = 4
"""Dimensions of a batch of images; of signals there are 3, of volumes 5."""
_STRIDE = 32
"""The least size of an image that most networks take, and the factor that many want in it."""


def random_inputs(call: Call, generator: torch.Generator) -> Iterator[Call]:
    """Give random input of about half the size, odd where the example's is even, then of the shapes of a call.

    Integers are others first, which a model may refuse.
    """
    has_integers = any(_is_integer(tensor) for tensor in tensors_in(call))
    for keeps_integers in (False, True) if has_integers else (True,):
        for halves in (True, False):
            how = partial(_redrawn, halves=halves, keeps_integers=keeps_integers, generator=generator)
            yield map_tensors(how, call)


def random_other_sizes(call: Call, generator: torch.Generator) -> Iterator[Call]:
    """Give random input of about half the rows and a quarter of the columns, odd where the example's are even.

    First with one more in the batch, then without; for large images only, which need no larger ones beside them.
    """
    tensors = tensors_in(call)
    images = [tensor for tensor in tensors if tensor.dim() >= _IMAGE - 1]
    if not images or any(map(_is_integer, tensors)) or len({image.shape[2:] for image in images}) > 1:
        return
    if _least(images) <= 2 * _STRIDE:
        return
    for more in (1, 0):
        yield map_tensors(partial(_shrunk, more=more, generator=generator), call)


def _shrunk(tensor: Tensor, *, more: int, generator: torch.Generator) -> Tensor:
    shape = list(tensor.shape)
    if shape:
        shape[0] += more
    if len(shape) >= _IMAGE:
        shape[-2] = _of_other_kind(shape[-2], shape[-2] // 2)
    if len(shape) >= _IMAGE - 1:
        parts = 4 if len(shape) >= _IMAGE else 2
        shape[-1] = _of_other_kind(shape[-1], max(shape[-1] // parts, _STRIDE))
    return _random(tensor, shape, generator)


def _of_other_kind(size: int, about: int) -> int:
    """Return a size that is odd for an even one, and even for an odd one."""
    return about | 1 if size % 2 == 0 else about // 2 * 2


def _least(images: list[Tensor]) -> int:
    """Return the least number of rows or columns."""
    return min(min(image.shape[-2:]) if image.dim() >= _IMAGE else image.shape[-1] for image in images)


def other_sizes(call: Call, generator: torch.Generator) -> Iterator[Call]:
    """Give random input of other sizes and another batch size, then of other sizes alone.

    For small images that is a somewhat larger size first, for others a smaller one; images of several sizes keep their
    ratio.
    """
    images = [tensor for tensor in tensors_in(call) if tensor.dim() >= _IMAGE - 1]
    if not images:
        return
    if len({image.shape[2:] for image in images}) > 1:
        for factor in (Fraction(3, 2), Fraction(1, 2), Fraction(2)):
            yield map_tensors(partial(_scaled, factor=factor, generator=generator), call)
    least = _least(images)
    step = _STRIDE if least >= 2 * _STRIDE else max(least // 4, 1)
    half = least // 2 // step * step
    smaller = [(-half, -half - step if half + 2 * step <= least else step - half), (-half, -half)] if half else []
    if least <= 2 * _STRIDE:
        more_rows = max(least // 16 * 2, 2)
        smaller.insert(0, (more_rows, 2 * more_rows))
    for more, changes in ((1, [(32, 64), (32, 32)]), (0, [(32, 0), (0, 32), (64, 64), (64, 0), (0, 64)])):
        for rows, columns in (*smaller, *changes):
            yield map_tensors(partial(_resized, by=(more, rows, columns), generator=generator), call)


def _scaled(tensor: Tensor, factor: Fraction, generator: torch.Generator) -> Tensor:
    """Return random numbers in the shape of a tensor with all sizes times a factor; as it is where they are none."""
    if tensor.dim() < _IMAGE - 1:
        return tensor
    first = max(_IMAGE - 2, tensor.dim() - 2)
    sizes = [size * factor for size in tensor.shape[first:]]
    if any(size.denominator > 1 or size < 1 for size in sizes):
        return tensor
    return _random(tensor, [*tensor.shape[:first], *map(int, sizes)], generator)


def other_batch(call: Call, generator: torch.Generator) -> Iterator[Call]:
    """Give random input of another batch size."""
    yield map_tensors(partial(_resized, by=(1, 0, 0), generator=generator), call)


def _resized(tensor: Tensor, by: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Return random numbers in the shape of a tensor with more images, rows and columns."""
    shape = list(tensor.shape)
    if shape:
        shape[0] += by[0]
    if len(shape) >= _IMAGE:
        shape[-2] += by[1]
    if len(shape) >= _IMAGE - 1:
        shape[-1] += by[2]
    return _random(tensor, shape, generator) if all(size > 0 for size in shape) else tensor


def _redrawn(tensor: Tensor, *, halves: bool, keeps_integers: bool, generator: torch.Generator) -> Tensor:
    """Return random numbers in the shape of a tensor, or with about half of the rows and columns, odd for even."""
    if keeps_integers and _is_integer(tensor):
        return tensor
    shape = list(tensor.shape)
    if halves:
        first = max(_IMAGE - 2, len(shape) - 2)
        shape[first:] = [size // 2 | 1 if size % 2 == 0 else max(size // 4 * 2, 2) for size in shape[first:]]
    return _random(tensor, shape, generator)


def _is_integer(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() and not tensor.is_complex()


def _random(tensor: Tensor, shape: Any, generator: torch.Generator) -> Tensor:
    """Return random numbers of the kind of a tensor; integers up to its largest."""
    if _is_integer(tensor):
        if not tensor.numel() or tensor.min() < 0:
            return tensor.new_zeros(tuple(shape)) if tuple(shape) != tuple(tensor.shape) else tensor
        return torch.randint(int(tensor.max()) + 1, tuple(shape), generator=generator).to(tensor.device, tensor.dtype)
    random = torch.randn(tuple(shape), generator=generator).to(tensor.device, tensor.dtype)
    is_channels_last = tensor.dim() == _IMAGE and tensor.is_contiguous(memory_format=torch.channels_last)
    return random.contiguous(memory_format=torch.channels_last) if is_channels_last else random
