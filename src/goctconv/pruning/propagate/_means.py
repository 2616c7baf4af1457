"""Means over channels, which grow when channels that are 0 go: the layer that reads one is scaled down in return."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ...graph import Operation, StorageMap
from ._facts import Consumer

_ONE_FACTOR = {"mul", "multiply", "einsum", "bmm", "matmul", "mm"}
"""Operators that are linear in each operand: one of them may be a mean."""
_SCALING = {
    *("view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze", "flatten", "expand", "expand_as"),
    *("permute", "transpose", "t", "clone", "contiguous", "_to_copy", "alias", "detach", "neg", "relu", "leaky_relu"),
    *("abs", "sum", "amax", "amin", "mean", "flip", "select", "slice", "repeat", "unbind", "split", "chunk"),
    *("avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "upsample_nearest2d"),
}
"""Operators of one tensor that multiply their result by what it is multiplied by, if that is positive."""
_QUOTIENTS = {"div", "divide", "true_divide"}


@dataclass(eq=False)
class Mean:
    """The channels that a mean is over."""

    labels: Tensor


class Means:
    """The tensors that are proportional to the mean of channels."""

    def __init__(self) -> None:
        self._of: StorageMap[Mean] = StorageMap()
        self.any = False

    def add(self, result: Tensor, labels: Tensor) -> None:
        """Note a mean."""
        self._of.set(result, Mean(labels))
        self.any = True

    def find(self, tensor: Tensor) -> Mean | None:
        """Return the mean that a tensor is proportional to."""
        return self._of.get(tensor) if self.any else None

    def follow(self, op: Operation, consumer: Consumer | None) -> Mean | None:
        """Follow a mean through an operation; return one that the operation cannot be scaled for."""
        found = [(tensor, mean) for tensor in op.tensors if (mean := self.find(tensor)) is not None]
        if not found:
            return None
        tensor, mean = found[0]
        is_first = bool(op.args) and op.args[0] is tensor
        if consumer is not None and is_first and len(found) == 1:
            consumer.mean = mean.labels
            return None
        is_scaled = (
            (op.name in _ONE_FACTOR and len(found) == 1)
            or (op.name in _QUOTIENTS and len(found) == 1 and is_first)
            or (op.name in _SCALING and is_first and len(found) == 1)
        )
        if not is_scaled:
            return mean
        for result in op.results:
            self._of.set(result, mean)
        return None
