"""Rules for pooling, resizing and concatenation, and for the network's outputs."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from ..._torch import leaves_of
from ._choices import Scales
from ._layers import JoinedScales, PooledScales, ResizedScales
from ._rewriter import Rewriter
from ._trace import SHAPE

_POOLS: dict[Any, type[nn.Module]] = {F.max_pool2d: nn.MaxPool2d, F.avg_pool2d: nn.AvgPool2d}
_GLOBAL_POOLS: dict[Any, type[nn.Module]] = {
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    F.adaptive_max_pool2d: nn.AdaptiveMaxPool2d,
}
# Of functions whose signature Python does not know
_PARAMETERS: dict[Any, list[str]] = {
    F.avg_pool2d: ["input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"],
    F.max_pool2d: ["input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"],
    F.adaptive_avg_pool2d: ["input", "output_size"],
    F.adaptive_max_pool2d: ["input", "output_size", "return_indices"],
}
_INTERPOLATE = ["input", "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias"]


def _module(rewriter: Rewriter, node: fx.Node, kinds: dict[Any, type[nn.Module]]) -> tuple[nn.Module | None, Any]:
    """Return a module of pooling, and its input; None for arguments that are computed."""
    if node.op == "call_module":
        return copy.deepcopy(rewriter.module(node)), node.args[0]
    function: Any = node.target
    arguments: dict[str, Any] = {**dict(zip(_PARAMETERS[function], node.args, strict=False)), **node.kwargs}
    given = arguments.pop("input")
    return (kinds[function](**arguments) if node.all_input_nodes == [given] else None), given


def pooling(rewriter: Rewriter, node: fx.Node) -> Scales | None:
    """Pool every scale."""
    pool, operand = _module(rewriter, node, _POOLS)
    given = rewriter.scales(operand)
    if pool is None or given is None or getattr(pool, "return_indices", False):
        return None
    called = rewriter.call(node, PooledScales(pool, given.widths), given.parts)
    return rewriter.parts(called, given.channels, given.sources)


def global_pooling(rewriter: Rewriter, node: fx.Node) -> fx.Node | None:
    """Pool every scale to the same size, and put the results side by side."""
    pool, operand = _module(rewriter, node, _GLOBAL_POOLS)
    given = rewriter.scales(operand)
    if pool is None or given is None or getattr(pool, "return_indices", False) or None in _pair(pool):
        return None
    return rewriter.call(node, JoinedScales(given.channels, pool=pool), given.parts)


def _pair(pool: nn.Module) -> tuple[Any, ...]:
    size: Any = pool.output_size
    return tuple(size) if isinstance(size, tuple | list) else (size,)


def mean(rewriter: Rewriter, node: fx.Node) -> fx.Node | None:
    """Average over all pixels."""
    given = rewriter.scales(node.args[0])
    names = ("input", "dim", "keepdim")
    arguments = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    axes = arguments.get("dim")
    if given is None or not isinstance(axes, tuple | list) or sorted(axis % 4 for axis in axes) != [2, 3]:
        return None
    pool: nn.Module = nn.AdaptiveAvgPool2d(1)
    if not arguments.get("keepdim"):
        pool = nn.Sequential(pool, nn.Flatten())
    return rewriter.call(node, JoinedScales(given.channels, pool=pool), given.parts)


def resizing(rewriter: Rewriter, node: fx.Node) -> Scales | None:
    """Resize every scale with the finest one."""
    if node.op == "call_module":
        module: Any = rewriter.module(node)
        options = {name: getattr(module, name) for name in ("scale_factor", "mode", "align_corners")}
        options |= {"recompute_scale_factor": module.recompute_scale_factor}
        operand, size = node.args[0], module.size
    else:
        options = {**dict(zip(_INTERPOLATE, node.args, strict=False)), **node.kwargs}
        operand, size = options.pop("input"), options.pop("size", None)
    given = rewriter.scales(operand)
    if given is None or len(node.meta.get(SHAPE, ())) != 4 or _holds_nodes(options):
        return None
    layer = ResizedScales(given.widths, **options)
    called = rewriter.call(node, layer, given.parts, fx.map_arg(size, rewriter.plain))
    return rewriter.parts(called, given.channels, given.sources)


def _holds_nodes(tree: Any) -> bool:
    return any(isinstance(leaf, fx.Node) for leaf in leaves_of(tree))


def concatenation(rewriter: Rewriter, node: fx.Node) -> Scales | None:
    """Concatenate every scale; their channels then lie in another order than the original's."""
    arguments: dict[str, Any] = {**dict(zip(("tensors", "dim"), node.args, strict=False)), **node.kwargs}
    given = [rewriter.scales(operand) for operand in arguments["tensors"]]
    axis = arguments.get("dim", arguments.get("axis", 0))
    if not all(given) or axis not in {1, -3}:
        return None
    present = [value for value in given if value]
    offsets = [0, *itertools.accumulate(sum(value.widths) for value in present)]
    channels = tuple(
        tuple(
            offset + channel for offset, value in zip(offsets, present, strict=False) for channel in value.channels[i]
        )
        for i in range(len(present[0].parts))
    )
    parts = [rewriter.function(torch.cat, list(nodes), 1) for nodes in zip(*(v.parts for v in present), strict=True)]
    return Scales(tuple(parts), channels, frozenset().union(*(value.sources for value in present)))


def output(rewriter: Rewriter, node: fx.Node) -> None:
    """Make a convolution whose result is an output of the network give it at full resolution."""
    for operand in node.all_input_nodes:
        given = rewriter.scales(operand)
        if given is not None and len(given.sources) == 1:
            rewriter.choices.give_plain(next(iter(given.sources)))
