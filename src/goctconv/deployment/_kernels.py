"""Blocks of this package as sequences of steps on a processor: no modules are called, nothing is checked twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, cast

from torch import Tensor, nn

from .._features import Channels, Features, Size, absent, spatial_size
from ..layers import FusionHead, ILBlock, ParallelDilatedConv, SimplifiedGOctConv
from ..layers._convolution import halve
from ..layers import GOctConv
from ..layers._resample import avg_pool, max_pool, resize
from ._cpu import Step, activation, added_convolution, convolution, parallel_convolutions

Program: TypeAlias = Callable[[list[Tensor]], list[Tensor]]
"""From features of all scales to features of all scales; empties the list that it is given, so that memory is free."""

Ends: TypeAlias = list[Step | None]


def program_of(module: nn.Module) -> Program:
    """Return the program of a block or of a layer: features of all scales in, in channels_last, and out."""
    if isinstance(module, ILBlock):
        names = ("conv1", "norm1", "act1"), ("conv2", "norm2", "act2"), ("conv3", "norm3", "act3")
    elif isinstance(module, FusionHead):
        names = ("fuse", "norm1", "act1"), ("dilated", "norm2", "act2"), ("merge", "norm3", "act3")
    else:
        return _layer(module, [None] * len(scales_out(module)))
    first, second, third = (
        _layer(getattr(module, layer), _ends(getattr(module, norm), getattr(module, act))) for layer, norm, act in names
    )
    return lambda features: third(second(first(features)))


def scales_out(layer: nn.Module) -> tuple[int, ...]:
    """Return the channels of every scale that a layer gives."""
    return cast("tuple[int, ...]", layer.widths if isinstance(layer, SimplifiedGOctConv) else layer.out_widths)


def first_layer(module: nn.Module) -> nn.Module:
    """Return the layer that takes what a block takes; a layer itself."""
    names = {ILBlock: "conv1", FusionHead: "fuse"}
    return next((getattr(module, name) for kind, name in names.items() if isinstance(module, kind)), module)


def last_layer(module: nn.Module) -> nn.Module:
    """Return the layer that gives what a block gives; a layer itself."""
    names = {ILBlock: "conv3", FusionHead: "merge"}
    return next((getattr(module, name) for kind, name in names.items() if isinstance(module, kind)), module)


def channels_in(layer: nn.Module) -> Channels:
    """Return the channels that a layer takes, as they were given."""
    return cast("Channels", layer.channels if isinstance(layer, SimplifiedGOctConv) else layer.in_channels)


def channels_out(layer: nn.Module) -> Channels:
    """Return the channels that a layer gives, as they were given."""
    return cast("Channels", layer.channels if isinstance(layer, SimplifiedGOctConv) else layer.out_channels)


def widths_in(layer: nn.Module) -> tuple[int, ...]:
    """Return the channels of every scale that a layer takes."""
    return cast("tuple[int, ...]", layer.widths if isinstance(layer, SimplifiedGOctConv) else layer.in_widths)


def _ends(norm: nn.Module, act: nn.Module) -> Ends:
    """Return for every scale what follows the convolutions."""
    count = len(cast("tuple[int, ...]", act.widths))
    return [_end(norm._modules.get(str(scale)), act._modules.get(str(scale))) for scale in range(count)]


def _end(norm: nn.Module | None, act: nn.Module | None) -> Step | None:
    activate = None if act is None else activation(act)
    if norm is None or type(norm) is nn.Identity:
        return activate
    if activate is None:
        return norm
    return lambda x: activate(norm(x))


def _layer(layer: nn.Module, ends: Ends) -> Program:
    if isinstance(layer, GOctConv):
        return _exchange(layer, ends)
    if isinstance(layer, SimplifiedGOctConv):
        return _depthwise(layer, ends)
    return _dilated(cast("ParallelDilatedConv", layer), ends)


def _depthwise(layer: SimplifiedGOctConv, ends: Ends) -> Program:
    convs = [
        convolution(cast("nn.Conv2d", layer.convs[str(s)])) if width else None for s, width in enumerate(layer.widths)
    ]
    steps = list(zip(convs, ends, strict=True))

    def run(features: list[Tensor]) -> list[Tensor]:
        outputs = []
        for width, (conv, end) in zip(layer.widths, steps, strict=True):
            x = features.pop(0)
            if layer.stride == 2:
                x = halve(x, width)
            y = absent(x, spatial_size(x)) if conv is None else conv(x)
            del x
            outputs.append(y if end is None else end(y))
        return outputs

    return run


def _dilated(layer: ParallelDilatedConv, ends: Ends) -> Program:
    branches = [
        parallel_convolutions(
            [cast("nn.Conv2d", conv) for conv in cast("nn.ModuleDict", layer.branches[str(s)]).values()]
        )
        if width
        else None
        for s, width in enumerate(layer.out_widths)
    ]

    def run(features: list[Tensor]) -> list[Tensor]:
        outputs = []
        for convolve_all, end in zip(branches, ends, strict=True):
            x = features.pop(0)
            y = absent(x, spatial_size(x)) if convolve_all is None else convolve_all(x)
            del x
            outputs.append(y if end is None else end(y))
        return outputs

    return run


def _exchange(layer: GOctConv, ends: Ends) -> Program:
    targets = [_target(layer, target) if width else None for target, width in enumerate(layer.out_widths)]

    def run(features: list[Tensor]) -> list[Tensor]:
        inputs, sizes = layer.prepare(features[0] if isinstance(layer.in_channels, int) else tuple(features))
        features.clear()
        present = {}
        for target, size in enumerate(sizes):
            make = targets[target]
            if make is not None:
                y, end = make(inputs, size), ends[target]
                present[target] = y if end is None else end(y)
        like = next(iter(present.values()))
        return [present[target] if target in present else absent(like, size) for target, size in enumerate(sizes)]

    return run


def _target(layer: GOctConv, target: int) -> Callable[[Features, Size], Tensor]:
    """Return what makes one output scale: the sum of its paths, added up in place."""
    after = layer.out_reductions[target]
    first = layer.bias_source(target)
    sources = [s for s in range(len(layer.in_widths)) if f"{s}_to_{target}" in layer.paths]
    sources.sort(key=lambda s: (s != first, layer.in_reductions[s] > after))
    start = _path(layer, sources[0], target)
    more = [(_added_path(layer, source, target), source) for source in sources[1:]]

    def run(inputs: Features, size: Size) -> Tensor:
        total = start(inputs[sources[0]], size)
        for add, source in more:
            total = add(total, inputs[source], size)
        return total

    return run


def _path(layer: GOctConv, source: int, target: int) -> Callable[[Tensor, Size], Tensor]:
    conv = convolution(cast("nn.Conv2d", layer.paths[f"{source}_to_{target}"]))
    before, after, upsample = layer.in_reductions[source], layer.out_reductions[target], layer.upsample
    if before == after:
        return lambda x, _: conv(x)
    if before > after:
        return lambda x, size: resize(conv(x), size, upsample)
    shrink = _shrink(layer, after // before)
    return lambda x, size: conv(shrink(x, size))


def _added_path(layer: GOctConv, source: int, target: int) -> Callable[[Tensor, Tensor, Size], Tensor]:
    before, after = layer.in_reductions[source], layer.out_reductions[target]
    if before > after:
        path = _path(layer, source, target)
        return lambda total, x, size: total.add_(path(x, size))
    add = added_convolution(cast("nn.Conv2d", layer.paths[f"{source}_to_{target}"]))
    if before == after:
        return lambda total, x, _: add(total, x)
    shrink = _shrink(layer, after // before)
    return lambda total, x, size: add(total, shrink(x, size))


def _shrink(layer: GOctConv, step: int) -> Callable[[Tensor, Size], Tensor]:
    if layer.downsample == "bilinear":
        return lambda x, size: resize(x, size, "bilinear")
    pool = max_pool if layer.downsample == "max" else avg_pool
    return lambda x, _: pool(x, step)
