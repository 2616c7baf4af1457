"""The reason why a masked channel is no constant where a layer reads it."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .._reasons import Reason
from ..propagate import Consumer, Facts, Loss

_SUMS = {"add", "sub", "rsub", "sum", "mean"}
_PRODUCTS = {"mul", "multiply", "div", "divide", "matmul", "bmm"}
_BORDERS = ("conv", "pad", "pool")


class Blame:
    """Finds what is live in groups of channels.

    Args:
        facts: Of the masked network.
        groups: The group of every label.
    """

    def __init__(self, facts: Facts, groups: NDArray[np.int64]) -> None:
        self._facts, self._groups = facts, groups

    def of(self, consumer: Consumer, group: int) -> Reason:
        """Return why the channels of a group are no constants where they are read."""
        live, loss = self._live.get(group, ""), self._last_loss(consumer, group)
        if loss is None:
            return Reason("coupled", consumer.module, live) if live else Reason("live", consumer.module)
        if loss.operation in _SUMS:
            return Reason("sum", consumer.module, live) if live else Reason("unknown_sum", consumer.module, loss.module)
        if loss.operation in _PRODUCTS:
            return Reason("product", consumer.module, loss.module)
        if any(part in loss.operation for part in _BORDERS):
            return Reason("border", consumer.module, loss.module)
        return Reason("varies", consumer.module, f"{loss.operation} in {loss.module}")

    @cached_property
    def _losses(self) -> dict[int, list[tuple[int, Loss]]]:
        """What made channels of each group live, by its place in the order of losses."""
        losses: dict[int, list[tuple[int, Loss]]] = {}
        for index, loss in enumerate(self._facts.losses):
            for found in np.unique(self._groups[loss.labels]).tolist():
                losses.setdefault(found, []).append((index, loss))
        return losses

    @cached_property
    def _live(self) -> dict[int, str]:
        """The first BatchNorm that is live in each group."""
        found: dict[int, str] = {}
        for name, norm in self._facts.norms.items():
            for group in self._groups[norm.labels[~norm.constant].numpy()].tolist():
                found.setdefault(group, name)
        return found

    def _last_loss(self, consumer: Consumer, group: int) -> Loss | None:
        """Return what last made channels of a group live before they were read."""
        before = [loss for index, loss in self._losses.get(group, []) if index < consumer.losses]
        return before[-1] if before else None
