"""Results of an optimizer with dynamic weight decay: statistics, sparsity, history, and its error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


class StatisticsError(RuntimeError):
    """The statistics of activations that a step needs are missing, or cannot be read."""


@dataclass(frozen=True)
class LayerStatistics:
    """What `DynamicWeightDecay.metrics` returns of a layer, where the attributes are described."""

    metric: Tensor
    images: int
    activation: str
    cost: float


@dataclass(frozen=True)
class Sparsity:
    """What `DynamicWeightDecay.sparsity` returns, where the attributes are described."""

    threshold: float
    layers: dict[str, tuple[int, int]]
    untrained: list[str] = field(default_factory=list)

    @property
    def faded(self) -> int:
        """The number of faded channels."""
        return sum(faded for faded, _ in self.layers.values())

    @property
    def channels(self) -> int:
        """The number of channels."""
        return sum(channels for _, channels in self.layers.values())

    @property
    def fraction(self) -> float:
        """The share of channels that have faded."""
        return self.faded / self.channels

    def __str__(self) -> str:
        text = f"{self.faded} of {self.channels} channels ({self.fraction:.1%}) are below {self.threshold:g}"
        if not self.untrained:
            return text
        channels = sum(self.layers[name][1] for name in self.untrained)
        layers = f"{len(self.untrained)} layers, such as {self.untrained[0]}"
        return f"{text}; {channels} more are 0 since the start in {layers}"


@dataclass
class GammaHistory:
    """γ and M of every layer over the steps of a training run, for plots.

    Attributes:
        every: The number of steps from one entry to the next; 0 if nothing is recorded.
        steps: The numbers of the steps that were recorded, from 1.

    Example:
        >>> import torch
        >>> from goctconv import DynamicWeightDecay
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
        >>> optimizer = DynamicWeightDecay(torch.optim.SGD(model.parameters(), lr=0.1), model, history=1)
        >>> for _ in range(3):
        ...     model(torch.rand(4, 3, 8, 8)).mean().backward()
        ...     optimizer.step()
        >>> optimizer.history.steps, optimizer.history.gamma("1").shape
        ([1, 2, 3], torch.Size([3, 8]))
    """

    every: int
    steps: list[int] = field(default_factory=list)
    _gammas: list[dict[str, Tensor]] = field(default_factory=list, repr=False)
    _metrics: list[dict[str, Tensor]] = field(default_factory=list, repr=False)

    @property
    def layers(self) -> list[str]:
        """The names of the layers that were recorded at every step."""
        first = self._gammas[0] if self._gammas else {}
        return [name for name in first if all(name in entry for entry in self._gammas)]

    def gamma(self, layer: str) -> Tensor:
        """Return γ of a layer after each recorded step, (steps, C) in float32.

        Raises:
            KeyError: There is no record of such a layer.
        """
        return self._stacked(self._gammas, layer)

    def metric(self, layer: str) -> Tensor:
        """Return M of a layer at each recorded step, (steps, C) in float32; 0 where it was not run.

        Raises:
            KeyError: There is no record of such a layer.
        """
        return self._stacked(self._metrics, layer)

    def gammas(self) -> Tensor:
        """Return γ of all layers after each recorded step, (steps, sum of C) in float32."""
        if not self.layers:
            return torch.empty(len(self.steps), 0)
        return torch.cat([self.gamma(layer) for layer in self.layers], 1)

    def record(self, step: int, gammas: Mapping[str, Tensor], metrics: Mapping[str, Tensor]) -> None:
        """Add an entry; the tensors are copied to the processor's memory."""
        self.steps.append(step)
        for store, values in ((self._gammas, gammas), (self._metrics, metrics)):
            store.append({name: value.detach().to("cpu", torch.float32, copy=True) for name, value in values.items()})

    def without(self, removed: Mapping[str, Sequence[int]]) -> GammaHistory:
        """Return the history of the channels that are left when some are removed, by layer."""
        stores = [
            [{name: without(value, removed.get(name, ())) for name, value in entry.items()} for entry in store]
            for store in (self._gammas, self._metrics)
        ]
        return GammaHistory(self.every, list(self.steps), *stores)

    def _stacked(self, store: Sequence[dict[str, Tensor]], layer: str) -> Tensor:
        if layer not in self.layers:
            there = f"there are {', '.join(self.layers) or 'none yet'}" if self.every else "history=0 records nothing"
            raise KeyError(f"history has no layer {layer!r}: {there}")
        return torch.stack([entry[layer] for entry in store])


def without(values: Tensor, removed: Sequence[int]) -> Tensor:
    """Return the values of channels, (C,), that are not removed."""
    left = torch.ones(len(values), dtype=torch.bool)
    left[list(removed)] = False
    return values[left.to(values.device)]


def transform_without(transform: Any, removed: Mapping[str, Sequence[int]]) -> Any:
    """Return a transform of M for the channels that are left; a method of something that can drop channels follows."""
    owner = getattr(transform, "__self__", None)
    if owner is None or not hasattr(owner, "without"):
        return transform
    return getattr(owner.without(removed), transform.__name__)
