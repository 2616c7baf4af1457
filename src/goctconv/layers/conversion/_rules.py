"""The table of rules, by module, function and method."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from . import _pointwise
from ._convolutions import CONVOLUTIONS, NORMS, convolution, normalization
from ._pointwise import elementwise_module, pointwise
from ._pooling import concatenation, global_pooling, mean, output, pooling, resizing
from ._rewriter import Rewriter, Rule

_MODULES: dict[tuple[type, ...], Rule] = {
    NORMS: normalization,
    (nn.MaxPool2d, nn.AvgPool2d): pooling,
    (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d): global_pooling,
    (nn.Upsample,): resizing,
    (nn.Module,): elementwise_module,
}
_FUNCTIONS: dict[Any, Rule] = {
    **dict.fromkeys(_pointwise.FUNCTIONS, pointwise),
    F.max_pool2d: pooling,
    F.avg_pool2d: pooling,
    F.adaptive_avg_pool2d: global_pooling,
    F.adaptive_max_pool2d: global_pooling,
    F.interpolate: resizing,
    torch.mean: mean,
    torch.cat: concatenation,
    torch.concat: concatenation,
    getattr: _pointwise.attribute,
    operator.getitem: _pointwise.item,
}
_METHODS: dict[str, Rule] = {
    **dict.fromkeys(_pointwise.METHODS, pointwise),
    "mean": mean,
    "size": _pointwise.size,
    "dim": _pointwise.dimensions,
}


def rule_of(rewriter: Rewriter, node: fx.Node) -> Rule | None:
    """Return the rule of a node; None where no scales come in, or nothing is known but plain tensors."""
    module = rewriter.module(node) if node.op == "call_module" else None
    if isinstance(module, CONVOLUTIONS):
        return convolution
    if all(isinstance(rewriter.value(operand), fx.Node) for operand in node.all_input_nodes):
        return None
    if module is not None:
        return next(rule for kinds, rule in _MODULES.items() if isinstance(module, kinds))
    if node.op == "output":
        return output
    return {"call_function": _FUNCTIONS, "call_method": _METHODS}.get(node.op, {}).get(node.target)
