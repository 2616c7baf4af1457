"""Normalisation and constant factors become part of the convolutions before them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import nn

from .._torch import BatchNorm
from ..layers import FusionHead, ILBlock, PerScale, ScaledConv2d
from ..layers._multi_scale_conv import MultiScaleConv2d
from ._arithmetic import Affine, affine_of, fold, is_fixed, rest_of
from ._parts import PLAIN, Plain, is_producer, parts_of


class Folded:
    """The names of what was folded.

    Attributes:
        norms: Normalisation layers.
        factors: Convolutions with a constant factor.
    """

    def __init__(self) -> None:
        self.norms: list[str] = []
        self.factors: list[str] = []


def fold_blocks(network: nn.Module, plain: Plain, folded: Folded) -> None:
    """Fold what stands in the blocks of this package, whose order is known."""
    for name, block in network.named_modules():
        if type(block) in {ILBlock, FusionHead} and plain(block):
            for layer, norm in steps_of(cast("ILBlock | FusionHead", block)):
                _fold_norm(network, name, layer, norm, folded)


def steps_of(block: ILBlock | FusionHead) -> Iterator[tuple[str, str]]:
    """Return the names of the layers of a block and of the normalisation of each."""
    layers = ("conv1", "conv2", "conv3") if isinstance(block, ILBlock) else ("fuse", "dilated", "merge")
    return zip(layers, ("norm1", "norm2", "norm3"), strict=True)


def _fold_norm(network: nn.Module, block: str, layer: str, norm: str, folded: Folded) -> None:
    layer, norm = (f"{block}.{name}" if block else name for name in (layer, norm))
    producer, norms = network.get_submodule(layer), network.get_submodule(norm)
    if not (is_producer(producer) and type(norms) is PerScale):
        return
    for scale, one in list(norms.named_children()):
        if is_fixed(one):
            fold_into(network, layer, int(scale), f"{norm}.{scale}", folded)


def fold_into(network: nn.Module, layer: str, scale: int, norm: str, folded: Folded) -> None:
    """Fold a BatchNorm into the layer whose scale it normalises, and leave the rest of it in its place."""
    module = network.get_submodule(norm)
    affine = affine_of(cast("BatchNorm", module))
    for conv, channels, adds_shift in parts_of(network.get_submodule(layer), scale):
        _note_factor(network, conv, folded)
        fold(conv, Affine(affine.scale[channels], affine.shift[channels]), adds_shift=adds_shift)
    network.set_submodule(norm, rest_of(module))
    folded.norms.append(norm)


def fold_factors(network: nn.Module, folded: Folded) -> None:
    """Multiply the constant factors of the convolutions that are left into their weights."""
    for conv in list(network.modules()):
        if type(conv) is ScaledConv2d and conv.weight_scale != 1 and not conv._forward_pre_hooks:
            _note_factor(network, conv, folded)
            fold(conv, None)


def _note_factor(network: nn.Module, conv: nn.Module, folded: Folded) -> None:
    if getattr(conv, "weight_scale", 1.0) != 1:
        folded.factors.append(next(name for name, one in network.named_modules() if one is conv))


@torch.no_grad()
def drop_zero_paths(network: nn.Module) -> list[str]:
    """Remove the paths between scales that add nothing but zero to others; returns their names."""
    plain, dropped = Plain(network), list[str]()
    for name, layer in network.named_modules():
        if isinstance(layer, MultiScaleConv2d):
            for path, module in list(layer.paths.items()):
                conv, target = cast("nn.Conv2d", module), path.rpartition("_")[2]
                others = [one for one in layer.paths if one != path and one.endswith(f"_{target}")]
                if others and type(conv) in PLAIN and plain(conv) and conv.bias is None and not conv.weight.any():
                    del layer.paths[path]
                    dropped.append(f"{name}.paths.{path}" if name else f"paths.{path}")
    return dropped
