"""Rules for what treats every element by itself, alone or together with others, and for sizes."""

from __future__ import annotations

import copy
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from ._choices import Scales, ShapeOf
from ._layers import SplitChannels
from ._rewriter import Rewriter
from ._trace import SHAPE

_BINARY = ("add", "sub", "mul", "truediv", "iadd", "isub", "imul", "itruediv", "pow", "neg")
_TORCH = (
    "add sub mul div true_divide relu relu_ sigmoid sigmoid_ tanh tanh_ clamp clamp_ exp abs sqrt square neg pow "
    "maximum minimum prelu selu selu_ celu celu_ rsqrt log sin cos erf where"
)
_FUNCTIONAL = (
    "relu relu6 leaky_relu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh softplus softsign tanhshrink "
    "hardshrink softshrink tanh sigmoid logsigmoid dropout dropout2d alpha_dropout feature_alpha_dropout threshold"
)
FUNCTIONS = {
    *(getattr(operator, name) for name in _BINARY),
    *(getattr(torch, name) for name in _TORCH.split() if name != "prelu"),
    *(getattr(F, name) for name in _FUNCTIONAL.split()),
}
_METHODS = (
    "add add_ sub sub_ mul mul_ div div_ relu relu_ sigmoid sigmoid_ tanh tanh_ clamp clamp_ exp abs sqrt square neg "
    "pow contiguous clone detach float half bfloat16 double to type_as"
)
METHODS = frozenset(_METHODS.split())


def pointwise(rewriter: Rewriter, node: fx.Node) -> Scales | None:
    """Treat every scale by itself, if all operands have the same ones or one number per channel."""
    operands = [operand for operand in node.all_input_nodes if rewriter.scales(operand)]
    given = [value for value in map(rewriter.scales, operands) if value]
    first = given[0]
    sources = frozenset().union(*(value.sources for value in given))
    if any(value.channels != first.channels for value in given):
        rewriter.choices.refine(sources)
        return None
    if any(operand.meta.get(SHAPE) != node.meta.get(SHAPE) for operand in operands):
        return None
    parts = {operand: value.parts for operand, value in zip(operands, given, strict=True)}
    for operand in node.all_input_nodes:
        if operand not in parts:
            found = _factors(rewriter, operand, first)
            if found is None:
                return None
            parts[operand] = found
    mapped = [{operand: nodes[scale] for operand, nodes in parts.items()} for scale in range(len(first.parts))]
    return Scales(tuple(rewriter.copied(node, nodes.__getitem__) for nodes in mapped), first.channels, sources)


def _factors(rewriter: Rewriter, operand: fx.Node, like: Scales) -> tuple[fx.Node, ...] | None:
    """Return what a plain operand is at every scale; None if it has values for single pixels."""
    shape, scales = operand.meta.get(SHAPE, ()), len(like.parts)
    if all(side == 1 for side in shape):
        return (rewriter.plain(operand),) * scales
    if shape[-2:] != (1, 1) or len(shape) not in {3, 4}:
        return None
    if shape[-3] == 1:
        return (rewriter.plain(operand),) * scales
    in_order = [channel for part in like.channels for channel in part] == list(range(shape[-3]))
    if not in_order or len(shape) != 4:
        return None
    split = rewriter.call(operand, SplitChannels(like.widths), rewriter.plain(operand))
    return rewriter.parts(split, like.channels, frozenset()).parts


def elementwise_module(rewriter: Rewriter, node: fx.Node) -> Scales | None:
    """Call a module for every scale, if it is seen to treat every element by itself."""
    given = rewriter.scales(node.args[0]) if len(node.args) == 1 and not node.kwargs else None
    if given is None or not is_elementwise(rewriter.module(node)):
        return None
    return rewriter.each(node, given)


@torch.no_grad()
def is_elementwise(module: nn.Module) -> bool:
    """Whether a module without numbers of its own treats every element by itself in eval mode, by trying."""
    if any(True for _ in module.parameters()) or any(True for _ in module.buffers()):
        return False
    x = torch.linspace(-8, 8, 2 * 4 * 5 * 6).view(2, 4, 5, 6)
    probe = copy.deepcopy(module).eval()
    try:
        whole, part = probe(x.clone()), probe(x[:, 1:3, :3, 2:].clone())
        turned = probe(x.flip(1, 2, 3))
    except Exception:  # noqa: BLE001  # modules refuse tensors with anything
        return False
    if not isinstance(whole, torch.Tensor) or whole.shape != x.shape:
        return False
    return torch.equal(whole[:, 1:3, :3, 2:], part) and torch.equal(whole.flip(1, 2, 3), turned)


def attribute(rewriter: Rewriter, node: fx.Node) -> ShapeOf | fx.Node | None:
    """Read what all scales share from the finest one."""
    given, name = rewriter.scales(node.args[0]), node.args[1]
    if given is None or name not in {"shape", "device", "dtype", "ndim"}:
        return None
    return ShapeOf(given) if name == "shape" else rewriter.copied(node, lambda _: given.parts[0])


def size(rewriter: Rewriter, node: fx.Node) -> ShapeOf | fx.Node | None:
    """Read sizes: the finest scale's, and the channels of all together."""
    given = rewriter.scales(node.args[0])
    if given is None:
        return None
    axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    return ShapeOf(given) if axis is None else _side(rewriter, given, axis)


def item(rewriter: Rewriter, node: fx.Node) -> fx.Node | None:
    """Read a side of a shape."""
    value, place = rewriter.value(node.args[0]), node.args[1]
    if not isinstance(value, ShapeOf):
        return None
    if isinstance(place, slice):
        is_spatial = 1 not in range(4)[place] if _is_constant(place) else False
        shape = rewriter.function(getattr, value.value.parts[0], "shape")
        return rewriter.copied(node, lambda _: shape) if is_spatial else None
    return _side(rewriter, value.value, place)


def _is_constant(place: slice) -> bool:
    return all(bound is None or isinstance(bound, int) for bound in (place.start, place.stop, place.step))


def _side(rewriter: Rewriter, given: Scales, axis: Any) -> fx.Node | None:
    if not isinstance(axis, int):
        return None
    shapes = [rewriter.function(getattr, part, "shape") for part in given.parts]
    sides = [rewriter.function(operator.getitem, shape, axis) for shape in shapes]
    if axis % 4 != 1:
        return sides[0]
    total = sides[0]
    for side in sides[1:]:
        total = rewriter.function(operator.add, total, side)
    return total


def dimensions(rewriter: Rewriter, node: fx.Node) -> fx.Node | None:
    """Read the number of dimensions from the finest scale."""
    given: Any = rewriter.scales(node.args[0])
    return None if given is None else rewriter.copied(node, lambda _: given.parts[0])
