"""Shadows of tensors: which channel every element belongs to, and whether it is a provable constant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

NONE = 0
"""Label of what belongs to no channel, such as a scalar."""
FROZEN = 1
"""Label of what comes out of an operation that is not understood, and of the model's inputs and outputs."""
FIRST = 2


class Shadow(NamedTuple):
    """Labels (int32) and flags (bool) in the shape of a tensor; stride 0 along dimensions in which nothing changes."""

    labels: Tensor
    constant: Tensor

    @property
    def shape(self) -> torch.Size:
        """That of the tensor."""
        return self.labels.shape


def uniform(shape: Sequence[int], label: int, *, constant: bool = False) -> Shadow:
    """Return a shadow that is the same everywhere."""
    return Shadow(
        torch.tensor(label, dtype=torch.int32).expand(tuple(shape)), torch.tensor(constant).expand(tuple(shape))
    )


def by_dimension(shape: Sequence[int], dimension: int, labels: Tensor, constant: Tensor) -> Shadow:
    """Return a shadow that changes along one dimension only."""
    view = [1] * len(shape)
    view[dimension] = -1
    return Shadow(labels.view(view).expand(tuple(shape)), constant.view(view).expand(tuple(shape)))


def tidy(tensor: Tensor) -> Tensor:
    """Return an equal tensor whose stride is 0 along every dimension in which it does not change."""
    for dimension in range(tensor.dim()):
        if tensor.shape[dimension] > 1 and tensor.stride(dimension) != 0:
            first = tensor.narrow(dimension, 0, 1)
            if torch.equal(tensor, first.expand_as(tensor)):
                tensor = first.expand_as(tensor)
    return tensor


def compressed(tensor: Tensor) -> Tensor:
    """Return a tensor with size 1 along the dimensions in which it does not change, as strides tell."""
    for dimension in range(tensor.dim()):
        if tensor.stride(dimension) == 0 and tensor.shape[dimension] > 1:
            tensor = tensor.narrow(dimension, 0, 1)
    return tensor


def changes(tensor: Tensor) -> list[int]:
    """Return the dimensions along which a tidy tensor changes."""
    return [d for d in range(tensor.dim()) if tensor.shape[d] > 1 and tensor.stride(d) != 0]


def along(tensor: Tensor, dimension: int) -> Tensor | None:
    """Return the values of a tidy tensor along one dimension; None if it changes along another one too."""
    dimension %= tensor.dim()
    if any(d != dimension for d in changes(tensor)):
        return None
    index = [0] * tensor.dim()
    return tensor[tuple(slice(None) if d == dimension else i for d, i in enumerate(index))].contiguous()


def rows_along(tensor: Tensor, dimension: int) -> Tensor:
    """Return the values of a tidy tensor along one dimension, a row for each place in the others that it changes in."""
    dimension %= tensor.dim()
    small = compressed(tensor).movedim(dimension, -1)
    return small.expand(*small.shape[:-1], tensor.shape[dimension]).reshape(-1, tensor.shape[dimension])


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


def _is_flat(tensor: Tensor, dimension: int) -> bool:
    return tensor.stride(dimension) == 0 or tensor.shape[dimension] == 1


def joined(tensors: Sequence[Tensor], dimension: int) -> Tensor:
    """Return tensors one after the other, with stride 0 along the other dimensions in which none of them changes."""
    dimension %= tensors[0].dim()
    sizes = list(tensors[0].shape)
    sizes[dimension] = sum(one.shape[dimension] for one in tensors)
    for d in range(len(sizes)):
        if d != dimension and all(_is_flat(one, d) for one in tensors):
            tensors = [one.narrow(d, 0, 1) for one in tensors]
    return torch.cat(list(tensors), dimension).expand(sizes)


class Shadows:
    """The shadows of all tensors that are alive, found by where a tensor lies and how it is laid out there."""

    def __init__(self) -> None:
        self._storages: dict[int, tuple[StorageWeakRef, dict[object, Shadow]]] = {}

    def find(self, tensor: Tensor) -> Shadow | None:
        """Return a tensor's shadow, if it has one."""
        if tensor.layout != torch.strided or not tensor.numel():
            return None
        reference, shadows = self._storages.get(_key(tensor), (None, {}))
        if reference is None or reference.expired():  # type: ignore[no-untyped-call]  # torch's own
            return None
        return shadows.get(_geometry(tensor))

    def set(self, tensor: Tensor, shadow: Shadow) -> None:
        """Give a tensor a shadow."""
        if tensor.layout != torch.strided or not tensor.numel():
            return
        reference, shadows = self._storages.get(_key(tensor), (None, {}))
        if reference is None or reference.expired():  # type: ignore[no-untyped-call]  # torch's own
            reference, shadows = StorageWeakRef(tensor.untyped_storage()), {}  # type: ignore[no-untyped-call]
            self._storages[_key(tensor)] = (reference, shadows)
        shadows[_geometry(tensor)] = shadow

    def disturb_others(self, tensor: Tensor) -> list[Shadow]:
        """Let no other tensor in the same memory be a constant any more, and return their shadows."""
        _, shadows = self._storages.get(_key(tensor), (None, {}))
        others = [geometry for geometry in shadows if geometry != _geometry(tensor)]
        for geometry in others:
            labels, constant = shadows[geometry]
            shadows[geometry] = Shadow(labels, torch.tensor(False).expand(constant.shape))
        return [shadows[geometry] for geometry in others]


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _geometry(tensor: Tensor) -> object:
    return tensor.dtype, tensor.storage_offset(), tensor.shape, tensor.stride()
