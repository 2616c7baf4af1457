"""Were these weights analysed? Sums and extremes of every tensor tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

_AGREEMENT = 1e-12  # of sums in another order, as a share of what they can be at most


@torch.no_grad()
def fingerprint(model: nn.Module) -> dict[str, list[float]]:
    """Return the sum, the least and the largest value, and the number of values of every tensor, by name."""
    found = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and tensor.numel():
            least, largest = tensor.aminmax()
            found[name] = [float(tensor.sum(dtype=torch.float64)), float(least), float(largest), float(tensor.numel())]
    return found


def is_of(model: nn.Module, known: Mapping[str, Sequence[float]]) -> bool:
    """Whether a model's weights are those that a fingerprint is of."""
    found = fingerprint(model)
    return found.keys() == known.keys() and all(_agree(found[name], known[name]) for name in found)


def _agree(one: Sequence[float], other: Sequence[float]) -> bool:
    most = one[3] * max(abs(one[1]), abs(one[2]))
    return list(one[1:]) == list(other[1:]) and abs(one[0] - other[0]) <= _AGREEMENT * most
