"""Shadows of tensors: the channel that every element belongs to, and whether it is provably constant."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...graph import Geometry, StorageMap, geometry_of

NONE = 0
"""Label of what belongs to no channel, such as a scalar."""
FROZEN = 1
"""Label of what comes out of an operation that is not understood, and of the model's inputs and outputs."""
FIRST = 2
NO = torch.tensor(False, device="cpu")  # whatever device is the default one at the first import
YES = torch.tensor(True, device="cpu")
NO_LABELS = torch.zeros(0, dtype=torch.int32, device="cpu")


class NotUnderstood(Exception):  # noqa: N818  # no error: what it costs is that channels stay
    """An operation has a form that its rule does not handle: the channels that enter it must stay."""


class Shadow:
    """Labels (int32) and flags (bool) in the shape of a tensor; stride 0 along dimensions in which nothing changes.

    Most change along one dimension alone. Those are held as a row, and spread out when they are asked for.

    Attributes:
        shape: Of the tensor.
        dimension: The one that labels and flags change along at most, where that is known.
        sizes: The shape with its sources, once it was asked for; see `goctconv.pruning.propagate._sizes`.
    """

    __slots__ = ("_constant", "_flags", "_labels", "_row", "dimension", "shape", "sizes")

    def __init__(
        self, labels: Tensor, constant: Tensor | None, shape: Sequence[int] | None = None, dimension: int | None = None
    ) -> None:
        is_row = dimension is not None  # what is given is labels and flags along it, and no flags are no constants
        self.shape: Sequence[int] = labels.shape if shape is None else shape
        self.dimension = dimension
        self.sizes: torch.Size | None = None
        self._row: Tensor | None = labels if is_row else None
        self._flags: Tensor | None = constant if is_row else None
        self._labels: Tensor | None = None if is_row else labels
        self._constant: Tensor | None = None if is_row else constant

    @property
    def labels(self) -> Tensor:
        """The channel of every element."""
        if self._labels is None:
            self._labels = self._spread(self._row)
        return self._labels

    @property
    def constant(self) -> Tensor:
        """Whether every element is a constant."""
        if self._constant is None:
            self._constant = self._spread(self._flags)
        return self._constant

    def _spread(self, row: Tensor | None) -> Tensor:
        if row is None or self.dimension is None:
            return NO.expand(tuple(self.shape))
        view = [1] * len(self.shape)
        view[self.dimension] = -1
        return row.view(view).expand(tuple(self.shape))

    @property
    def changing(self) -> list[int]:
        """The dimensions along which the labels change."""
        if self.dimension is None or self._row is None:
            return changes(self.labels)
        return [self.dimension] if self.shape[self.dimension] > 1 and self._row.stride(0) else []

    @property
    def has_constants(self) -> bool:
        """Whether any element is a constant."""
        if self.dimension is None:
            return bool(compressed(self.constant).numpy().any())
        return self._flags is not None and bool(self._flags.numpy().any())

    def flags_along(self, dimension: int) -> Tensor:
        """Return which places along a dimension are constants as a whole."""
        if dimension == self.dimension:
            return NO.expand(self.shape[dimension]) if self._flags is None else self._flags
        found = along(self.constant, dimension)
        if found is None:
            found = rows_along(tidy(self.constant), dimension).all(0)
        return found

    def row_along(self, dimension: int) -> Tensor | None:
        """Return the labels along a dimension; None if they change along another one too."""
        return self._row if dimension == self.dimension else along(self.labels, dimension)

    def channels_along(self, dimension: int) -> Tensor:
        """Return the labels along a dimension, which must be the only one in which they change."""
        labels = self.row_along(dimension)
        if labels is None:
            raise NotUnderstood
        return labels

    def without_constants(self, shape: Sequence[int] | None = None) -> Shadow:
        """Return the shadow with no constant."""
        if self.dimension is not None and self._row is not None and shape is None:
            return Shadow(self._row, None, self.shape, self.dimension)
        return Shadow(self.labels, NO.expand(tuple(self.shape if shape is None else shape)))

    def resized(self, shape: Sequence[int]) -> Shadow | None:
        """Return the shadow with other sizes along dimensions in which nothing is known to change."""
        if self.dimension is None or self._row is None or shape[self.dimension] != self.shape[self.dimension]:
            return None
        return Shadow(self._row, self._flags, shape, self.dimension)


def uniform(shape: Sequence[int], label: int, *, constant: bool = False) -> Shadow:
    """Return a shadow that is the same everywhere."""
    return Shadow(torch.tensor(label, dtype=torch.int32).expand(tuple(shape)), (YES if constant else NO).expand(shape))


def by_dimension(shape: Sequence[int], dimension: int, labels: Tensor, constant: Tensor | None = None) -> Shadow:
    """Return a shadow that changes along one dimension only; without constants if none are given."""
    return Shadow(labels, constant, shape, dimension % len(shape))


def changes(tensor: Tensor) -> list[int]:
    """Return the dimensions along which a tidy tensor changes."""
    return [
        d for d, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)) if size > 1 and stride
    ]


def tidy(tensor: Tensor) -> Tensor:
    """Return an equal tensor whose stride is 0 along every dimension in which it does not change."""
    small = compressed(tensor)
    flat = [d for d in changes(small) if torch.equal(small, small.narrow(d, 0, 1).expand_as(small))]
    if not flat:
        return tensor
    strides = [0 if d in flat else stride for d, stride in enumerate(tensor.stride())]
    return tensor.as_strided(tensor.shape, strides)


def compressed(tensor: Tensor) -> Tensor:
    """Return a tensor with size 1 along the dimensions in which it does not change, as strides tell."""
    strides = tensor.stride()
    sizes = [size if stride else min(size, 1) for size, stride in zip(tensor.shape, strides, strict=True)]
    return tensor.as_strided(sizes, strides)


def along(tensor: Tensor, dimension: int) -> Tensor | None:
    """Return the values of a tidy tensor along one dimension; None if it changes along another one too."""
    dimension %= tensor.dim()
    if any(d != dimension for d in changes(tensor)):
        return None
    return tensor.as_strided((tensor.shape[dimension],), (tensor.stride(dimension),)).contiguous()


def rows_along(tensor: Tensor, dimension: int) -> Tensor:
    """Return the values of a tidy tensor along one dimension, a row for each place in the others that it changes in."""
    dimension %= tensor.dim()
    small, length = compressed(tensor).movedim(dimension, -1), tensor.shape[dimension]
    return small.expand(*small.shape[:-1], length).reshape(math.prod(small.shape[:-1]), length)


def reshaped(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a tensor in another shape, with stride 0 along leading and last dimensions that are kept and had it."""
    old, new = list(tensor.shape), list(shape)
    first = 0
    while first < min(len(old), len(new)) and old[first] == new[first] and _is_flat(tensor, first):
        first += 1
    last = 0
    while last < min(len(old), len(new)) - first and old[-1 - last] == new[-1 - last] and _is_flat(tensor, -1 - last):
        last += 1
    for dimension in (*range(first), *range(-last, 0)):
        tensor = tensor.narrow(dimension, 0, 1)
    middle = new[first : len(new) - last]
    return tensor.reshape([1] * first + middle + [1] * last).expand(new)


def joined(tensors: Sequence[Tensor], dimension: int) -> Tensor:
    """Return tensors one after the other, with stride 0 along the other dimensions in which none of them changes."""
    dimension %= tensors[0].dim()
    sizes = list(tensors[0].shape)
    sizes[dimension] = sum(tensor.shape[dimension] for tensor in tensors)
    for d in range(len(sizes)):
        if d != dimension and all(_is_flat(tensor, d) for tensor in tensors):
            tensors = [tensor.narrow(d, 0, 1) for tensor in tensors]
    return torch.cat(list(tensors), dimension).expand(sizes)


def aligned(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return pairs of labels of two tensors of equal shapes, each pair but once where strides tell."""
    a, b = compressed(a), compressed(b)
    shape = [max(sizes) for sizes in zip(a.shape, b.shape, strict=True)]
    return a.expand(shape).reshape(-1), b.expand(shape).reshape(-1)


def labels_where(shadow: Shadow, *, constant: bool) -> NDArray[np.int32] | None:
    """Return the labels of the channels that are constant, or are not; None if there are none."""
    is_row = shadow.dimension is not None
    flags = (shadow.flags_along(shadow.dimension or 0) if is_row else compressed(shadow.constant)).numpy()
    if not constant:
        flags = ~flags
    if not flags.any():
        return None
    labels = (shadow.channels_along(shadow.dimension or 0) if is_row else compressed(shadow.labels)).numpy()
    if flags.size > 1:
        labels, flags = np.broadcast_arrays(labels, flags)
        labels = labels[flags]
    found: NDArray[np.int32] = labels[labels >= FIRST]
    return found if len(found) else None


def _is_flat(tensor: Tensor, dimension: int) -> bool:
    return tensor.stride(dimension) == 0 or tensor.shape[dimension] == 1


class Shadows:
    """The shadows of all tensors that are alive, found by where a tensor lies and how it is laid out there."""

    def __init__(self) -> None:
        self._of: StorageMap[dict[Geometry, Shadow]] = StorageMap()
        self._changed: StorageMap[bool] = StorageMap()

    def find(self, tensor: Tensor) -> Shadow | None:
        """Return a tensor's shadow, if it has one."""
        shadows = self._of.get(tensor)
        if shadows is None:
            return None
        shadow = shadows.get(geometry_of(tensor))
        return shadow if shadow is not None or not self._changed.get(tensor) else uniform(tensor.shape, FROZEN)

    def set(self, tensor: Tensor, shadow: Shadow) -> None:
        """Give a tensor a shadow."""
        if tensor.layout != torch.strided or not tensor.numel():
            return
        shadows = self._of.get(tensor)
        if shadows is None:
            shadows = {}
            self._of.set(tensor, shadows)
        shadows[geometry_of(tensor)] = shadow

    def disturb_others(self, tensor: Tensor) -> list[Shadow]:
        """Note which constants of other tensors in the same memory are left, and return their shadows."""
        self._changed.set(tensor, True)
        shadows, own = self._of.get(tensor) or {}, geometry_of(tensor)
        made = shadows.get(own)
        for place, shadow in shadows.items():
            if place != own and shadow.has_constants:
                if made is None or place.dtype != own.dtype or not tensor.numel():
                    shadows[place] = shadow.without_constants()
                    continue
                flags = torch.zeros(tensor.untyped_storage().nbytes() // tensor.element_size(), dtype=torch.bool)
                theirs = flags.as_strided(place.shape, place.stride, place.offset)
                theirs.copy_(shadow.constant)
                flags.as_strided(own.shape, own.stride, own.offset).copy_(made.constant)
                shadows[place] = Shadow(shadow.labels, tidy(theirs))
        return [shadow for place, shadow in shadows.items() if place != own]
