"""Networks with random γ, β and statistics of BatchNorm, and channels of them masked at random."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from goctconv.pruning import channel_groups

from .networks import images, make, tensors

SHARE = 0.3
"""Of the channels that are masked."""


def seed_of(name: str) -> int:
    """Return a number that is the same for a name on every machine."""
    return zlib.crc32(name.encode())


def prepared(name: str, *, smallest: bool = False) -> nn.Module:
    """Return a network in float64 and eval mode: γ = ±U(0.05, 1.35), β ~ N(0, 0.3), statistics of one pass."""
    torch.manual_seed(seed_of(name))
    model = make(name).double()
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
            if norm.weight is not None:
                norm.weight.uniform_(0.05, 1.35).mul_(torch.randint(0, 2, norm.weight.shape) * 2 - 1)
                norm.bias.normal_(0, 0.3)
        model(images(name, smallest=smallest).double())
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


def masked_channels(
    model: nn.Module,
    example: Any,
    *,
    groups: bool,
    share: float = SHARE,
    outputs: Callable[[Any], Any] | None = None,
) -> dict[str, Tensor]:
    """Return a mask of every BatchNorm's channels: each on its own, or all together that can only go together."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    norms = {name: norm for name, norm in found.items() if norm.weight is not None}
    generator = torch.Generator().manual_seed(0)
    masks = {name: torch.rand(norm.num_features, generator=generator) < share for name, norm in norms.items()}
    if groups:
        groups = channel_groups(model, example, outputs=outputs)
        chosen = torch.rand(groups.count, generator=generator) < share
        masks |= {name: chosen[of] for name, of in groups.of.items()}
    return masks


@torch.no_grad()
def mask_(model: nn.Module, masks: dict[str, Tensor], *, biases: bool = False) -> nn.Module:
    """Set γ of masked channels to 0, and β too with ``biases``; returns the model."""
    for name, mask in masks.items():
        norm = model.get_submodule(name)
        norm.weight.masked_fill_(mask, 0)
        if biases:
            norm.bias.masked_fill_(mask, 0)
    return model


def largest_difference(actual: object, expected: object) -> float:
    """Return the largest difference of outputs, each relative to the largest value of the expected one."""
    pairs = list(zip(tensors(actual), tensors(expected), strict=True))
    assert pairs
    assert all(a.shape == b.shape for a, b in pairs)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-300)) for a, b in pairs if a.numel())


@torch.no_grad()
def noise(model: nn.Module, example: Tensor) -> float:
    """Return by how much the outputs change if the input does in its last bits."""
    return largest_difference(model(example * (1 + 4 * torch.finfo(example.dtype).eps)), model(example))
