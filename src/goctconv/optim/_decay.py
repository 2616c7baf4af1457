"""The decay itself: what M makes of scales, as a penalty, and as what is taken from each parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ._watch import WatchedLayer


def weights_of(metrics: Mapping[str, Tensor], factor: Mapping[str, float]) -> dict[str, Tensor]:
    """Return the factor of each layer times its M, (C,); 0 where M is not finite."""
    kinds: dict[tuple[torch.device, torch.dtype], list[str]] = {}
    for name, metric in metrics.items():
        kinds.setdefault((metric.device, metric.dtype), []).append(name)
    weights = {}
    for names in kinds.values():
        together = torch.cat([metrics[name] for name in names]).nan_to_num_(0.0, 0.0, 0.0)
        parts = together.split([len(metrics[name]) for name in names])  # type: ignore[no-untyped-call]  # torch's own
        weights.update({name: part * factor[name] for name, part in zip(names, parts, strict=True)})
    return weights


def penalty(layers: Mapping[str, WatchedLayer], weights: Mapping[str, Tensor]) -> Tensor | float:
    """Return ½·Σ weight·γ²."""
    return sum(0.5 * (weight * layers[name].scale ** 2).sum() for name, weight in weights.items())


def decays(layers: Mapping[str, WatchedLayer], weights: Mapping[str, Tensor]) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Give every parameter that makes a γ, with the gradient of the penalty."""
    for name, weight in weights.items():
        layer = layers[name]
        for parameter, decay in zip(layer.parameters, layer.gradient_of_penalty(weight), strict=True):
            if decay is not None:
                yield parameter, decay
