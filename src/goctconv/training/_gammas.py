"""The scales γ of a network, and how they are spread."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from .._torch import BatchNorm

HISTOGRAM_EDGES = tuple(exponent / 2 for exponent in range(-50, 5))
"""Edges of the histogram of log10 abs(γ): half decades from -25 to 2; the outer bins hold what lies beyond them."""

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
SMALLEST = 1e-45
"""Of float32: what 0 is taken for, to have a logarithm."""


def scales(model: nn.Module, layers: Collection[str] | None = None) -> dict[str, Tensor]:
    """Return abs(γ) of every BatchNorm that has channels, (C,) in float64 on the processor.

    Args:
        model: The network.
        layers: The names that count; None: all.
    """
    return {
        name: module.weight.detach().abs().double().cpu()
        for name, module in model.named_modules()
        if isinstance(module, BatchNorm) and module.weight is not None and (layers is None or name in layers)
    }


def joined(found: dict[str, Tensor]) -> Tensor:
    """Return the scales of all layers together."""
    return torch.cat([*found.values(), torch.empty(0, dtype=torch.float64)])


def quantiles(values: Tensor) -> list[float]:
    """Return the quantiles that `QUANTILES` names; none of nothing."""
    if not len(values):
        return []
    ordered = values.sort().values
    return [float(ordered[round(share * (len(ordered) - 1))]) for share in QUANTILES]


def histogram(values: Tensor) -> list[int]:
    """Return how many values lie in each bin of `HISTOGRAM_EDGES`."""
    edges = torch.tensor(HISTOGRAM_EDGES[1:-1], dtype=torch.float64)
    bins = torch.bucketize(values.clamp_min(SMALLEST).log10(), edges, right=True)
    return [int(count) for count in torch.bincount(bins, minlength=len(HISTOGRAM_EDGES) - 1)]
