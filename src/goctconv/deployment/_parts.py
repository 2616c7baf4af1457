"""The convolutions that make the channels of a layer's output."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import NamedTuple, TypeAlias, cast

from torch import nn
from torch.nn.utils import parametrize

from .._torch import ConvNd, called_plainly
from ..layers import CrossStageGOctConv, GOctConv, OctConv, ParallelDilatedConv, ScaledConv2d, SimplifiedGOctConv

Foldable: TypeAlias = "ConvNd | nn.Linear"

PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, ScaledConv2d)
LAYERS = (GOctConv, CrossStageGOctConv, OctConv, SimplifiedGOctConv, ParallelDilatedConv)


class Part(NamedTuple):
    """A convolution, the output channels of the layer that it makes, and whether it takes the shift of a norm."""

    conv: Foldable
    channels: slice
    adds_shift: bool


def is_producer(module: nn.Module) -> bool:
    """Whether a module's outputs are those of convolutions."""
    if type(module) in LAYERS:  # whose children somebody may have replaced
        return all(type(part) in {*PLAIN, nn.ModuleDict} for part in module.modules() if part is not module)
    return type(module) in PLAIN


def parts_of(layer: nn.Module, scale: int) -> list[Part]:
    """Return the convolutions that make one scale of a layer's output: their sum, or what they make side by side."""
    if isinstance(layer, GOctConv):
        source = layer.bias_source(scale)
        paths = ((name, conv) for name, conv in layer.paths.items() if name.endswith(f"_to_{scale}"))
        return [Part(cast("nn.Conv2d", conv), slice(None), name == f"{source}_to_{scale}") for name, conv in paths]
    if isinstance(layer, SimplifiedGOctConv):
        return [Part(cast("nn.Conv2d", layer.convs[str(scale)]), slice(None), adds_shift=True)]
    if isinstance(layer, ParallelDilatedConv):
        convs = [cast("nn.Conv2d", conv) for conv in cast("nn.ModuleDict", layer.branches[str(scale)]).values()]
        ends = itertools.accumulate(conv.out_channels for conv in convs)
        return [
            Part(conv, slice(end - conv.out_channels, end), adds_shift=True)
            for conv, end in zip(convs, ends, strict=True)
        ]
    return [Part(cast("Foldable", layer), slice(None), adds_shift=True)]


class Plain:
    """Finds modules that do what their class says: used at one place, not hooked, not parametrized."""

    def __init__(self, network: nn.Module) -> None:
        self._uses = Counter(id(module) for _, module in network.named_modules(remove_duplicate=False))

    def __call__(self, module: nn.Module) -> bool:
        """Whether a module and all its parts do what their class says, for one place in the network."""
        return all(
            self._uses[id(part)] == 1 and called_plainly(part) and not parametrize.is_parametrized(part)
            for part in module.modules()
        )
