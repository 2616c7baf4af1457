"""Identity of tensors: the storage that a tensor lies in, and its geometry there."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from .._torch import StorageReference, storage_key, storage_reference

Value = TypeVar("Value")


class Geometry(NamedTuple):
    """How a tensor is laid out in its storage."""

    dtype: torch.dtype
    offset: int
    shape: torch.Size
    stride: tuple[int, ...]


def geometry_of(tensor: Tensor) -> Geometry:
    """Return how a tensor is laid out in its storage."""
    return Geometry(tensor.dtype, int(tensor.storage_offset()), tensor.shape, tensor.stride())


class StorageMap(Generic[Value]):
    """Values by the storage that a tensor lies in, which views share and in-place operations keep.

    A value is forgotten with its storage. Sparse tensors have no storage, and no value.
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[StorageReference, Value]] = {}

    def get(self, tensor: Tensor) -> Value | None:
        """Return the value of a tensor's storage; None if there is none."""
        entry = self._entries.get(storage_key(tensor))
        return None if entry is None or entry[0].expired() else entry[1]

    def set(self, tensor: Tensor, value: Value) -> None:
        """Give a tensor's storage a value."""
        key = storage_key(tensor)
        if key:
            self._entries[key] = (storage_reference(tensor.untyped_storage()), value)

    def forget(self, tensor: Tensor) -> None:
        """Forget the value of a tensor's storage."""
        self._entries.pop(storage_key(tensor), None)
