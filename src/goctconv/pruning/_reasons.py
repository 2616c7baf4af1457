"""Why a masked channel is no constant where a layer reads it: what it is summed with, multiplied by, or bordered by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._facts import Facts, Loss, Reader

_SUMS = {"add", "sub", "rsub", "sum", "mean"}
_PRODUCTS = {"mul", "multiply", "div", "divide", "matmul", "bmm"}


class Reasons:
    """What is live in the classes of channels.

    Args:
        facts: Of the masked network.
        classes: The class of every label.
    """

    def __init__(self, facts: Facts, classes: NDArray[np.int64]) -> None:
        self._facts, self._classes = facts, classes
        self._live: dict[int, str] | None = None
        self._losses: dict[int, list[tuple[int, Loss]]] | None = None

    def of(self, reader: Reader, one: int) -> str:
        """Return why channels of a class are no constants where they are read."""
        live, loss = self._live_layers().get(one, ""), self._last_loss(reader, one)
        if loss is None:
            with_it = f"it goes only with {live}, which" if live else "it"
            return f"{with_it} is live where {reader.module} reads it"
        if loss.operation in _SUMS and live:
            return f"{live} is live in the sum that {reader.module} reads"
        if loss.operation in _SUMS:
            return f"something that {loss.module} adds is live, and {reader.module} reads the sum"
        if loss.operation in _PRODUCTS:
            return f"{loss.module} multiplies it by what is live, and {reader.module} reads the product"
        if "conv" in loss.operation or "pad" in loss.operation or "pool" in loss.operation:
            return f"a border of zeros in {loss.module} makes it no constant, and {reader.module} reads that"
        return f"{loss.operation} ({loss.module}) makes it no constant, and {reader.module} reads that"

    def _live_layers(self) -> dict[int, str]:
        """Return the first BatchNorm that is live in a class."""
        if self._live is None:
            self._live = {}
            for name, norm in self._facts.norms.items():
                for one in self._classes[norm.labels[~norm.constant].numpy()]:
                    self._live.setdefault(int(one), name)
        return self._live

    def _last_loss(self, reader: Reader, one: int) -> Loss | None:
        """Return what last made channels of a class live before they were read."""
        if self._losses is None:
            self._losses = {}
            for index, loss in enumerate(self._facts.losses):
                for found in np.unique(self._classes[loss.labels.numpy()]):
                    self._losses.setdefault(int(found), []).append((index, loss))
        before = [loss for index, loss in self._losses.get(one, []) if index < reader.losses]
        return before[-1] if before else None
