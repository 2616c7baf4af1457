"""Were these weights analysed? Sums over every tensor tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

_AGREEMENT = 1e-7  # of sums in another order; a step of training changes more


@torch.no_grad()
def fingerprint(model: nn.Module) -> dict[str, list[float]]:
    """Return the sum and the norm of every parameter and buffer of numbers, by name."""
    found = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and tensor.numel():
            sums = (tensor.sum(dtype=torch.float64), torch.linalg.vector_norm(tensor, dtype=_precise(tensor)))
            found[name] = [float(one) for one in sums]
    return found


def _precise(tensor: torch.Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype in {torch.float32, torch.float64} else torch.float32


def is_of(model: nn.Module, known: Mapping[str, Sequence[float]]) -> bool:
    """Whether a model's weights are those that a fingerprint is of."""
    found = fingerprint(model)
    return found.keys() == known.keys() and all(_agree(found[name], known[name]) for name in found)


def _agree(one: Sequence[float], other: Sequence[float]) -> bool:
    scale = max(one[1], other[1])
    return all(abs(a - b) <= _AGREEMENT * scale for a, b in zip(one, other, strict=True))
