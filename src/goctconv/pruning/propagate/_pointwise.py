"""Rules for functions of elements: channels that meet live and die together; of constants alone comes a constant."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...graph import Operation, is_random
from ._context import Propagation, rule
from ._shadows import FIRST, NotUnderstood, Shadow, aligned, by_dimension, changes, compressed, tidy
from ._values import only_where, tensors_in

_PRODUCTS = {"mul", "multiply"}
_QUOTIENTS = {"div", "divide", "true_divide"}
_CHOICES = {"where": ("self", "other"), "masked_fill": ("self", "value")}
"""Arguments of which the elements of the result are, by operator."""


@rule(
    *("pointwise", "relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "silu", "mish", "gelu", "leaky_relu"),
    *("elu", "celu", "selu", "sigmoid", "tanh", "softplus", "threshold", "clamp", "clamp_min", "clamp_max", "rsub"),
    *("multiply", "divide", "square", "log_sigmoid", "where", "masked_fill", "bernoulli"),
    of_any_input=True,
)
def elementwise(t: Propagation, op: Operation) -> Shadow:
    """Any function of elements."""
    if not isinstance(op.result, Tensor):
        raise NotUnderstood
    for labels in t.sources.counted:
        t.facts.freeze(labels, t.reason("counted", op))
    if op.name in _CHOICES:
        return _choice(t, op)
    return _combined(t, op)


def _choice(t: Propagation, op: Operation) -> Shadow:
    """Elements of one or the other of two: zeros if both are, whatever chooses."""
    shadow = _combined(t, op)
    zero = torch.ones((), dtype=torch.bool)
    for key in _CHOICES[op.name]:
        value = op.arguments[key]
        if isinstance(value, Tensor):
            zero = zero & compressed(only_where(value, t.shadow_of(value), 0).constant.expand(op.result.shape))
        else:
            zero = zero & torch.tensor(value == 0)
    return Shadow(shadow.labels, tidy(zero | compressed(shadow.constant)).expand(op.result.shape))


def _combined(t: Propagation, op: Operation) -> Shadow:
    operands = [
        (tensor, t.shadow_of(tensor))
        for tensor in tensors_in((op.args, op.keywords))
        if (tensor.dim() and tensor.numel() > 1) or t.known.get(id(tensor)) is not None
    ]
    shape = op.result.shape
    if len(operands) == 1 and tuple(operands[0][1].shape) == tuple(shape):
        return operands[0][1].without_constants() if is_random(op.func) else operands[0][1]
    if not operands:
        raise NotUnderstood
    by_row = _combined_rows(t, op, operands)
    if by_row is not None:
        return by_row
    base = _base(op.result, operands)
    _unite(t, op, operands, base)
    constant, zero = torch.ones((), dtype=torch.bool), torch.zeros((), dtype=torch.bool)
    for operand, shadow in operands:
        flags = compressed(shadow.constant.expand(shape))
        constant = constant & flags
        is_factor = op.name in _PRODUCTS or (op.name in _QUOTIENTS and operand is op.args[0])
        if is_factor and flags.any():
            zero = zero | compressed(only_where(operand, shadow, 0).constant.expand(shape))
    return Shadow(base.expand(shape), tidy(constant | zero).expand(shape))


def _combined_rows(t: Propagation, op: Operation, operands: list[tuple[Tensor, Shadow]]) -> Shadow | None:
    """Do what `_combined` does where all operands change along one dimension, the same one; None elsewhere."""
    shape = op.result.shape
    first = operands[0][1]
    dimension = first.dimension
    if dimension is None or shape[dimension] < 2:
        return None
    if any(its.dimension != dimension or its.changing != [dimension] for _, its in operands):
        return None
    if any(len(its.shape) != len(shape) or its.shape[dimension] != shape[dimension] for _, its in operands):
        return None
    rows = [its.channels_along(dimension) for _, its in operands]
    for row in rows[1:]:
        if row is not rows[0]:
            t.facts.unite(rows[0], row, t.reason("joined", op))
    flags = [its.flags_along(dimension).numpy() for _, its in operands]
    constant = np.logical_and.reduce(flags)
    for (operand, its), own in zip(operands, flags, strict=True):
        is_factor = op.name in _PRODUCTS or (op.name in _QUOTIENTS and operand is op.args[0])
        if is_factor and own.any():
            constant = constant | only_where(operand, its, 0).flags_along(dimension).numpy()
    return by_dimension(shape, dimension, rows[0], torch.from_numpy(constant) if constant.any() else None)


def _base(result: Tensor, operands: list[tuple[Tensor, Shadow]]) -> Tensor:
    """Return the labels of the operand that says most simply which channel every element of the result belongs to."""
    whole = [(operand, shadow.labels.expand(result.shape)) for operand, shadow in operands]
    moving = {d for _, labels in whole for d in changes(labels)}
    full = [
        labels
        for own, labels in whole
        if changes(labels) and all(_extent(own, result, d) == result.shape[d] for d in moving)
    ]
    if full:
        return min(full, key=lambda labels: len(changes(labels)))
    return max(
        (labels for _, labels in whole),
        key=lambda labels: (bool((compressed(labels) >= FIRST).any()), len(changes(labels))),
    )


def _extent(operand: Tensor, result: Tensor, dimension: int) -> int:
    own = dimension - (result.dim() - operand.dim())
    return operand.shape[own] if own >= 0 else 1


def _unite(t: Propagation, op: Operation, operands: list[tuple[Tensor, Shadow]], base: Tensor) -> None:
    """Unite the channels of operands; one map for all channels must stay."""
    for operand, shadow in operands:
        labels = shadow.labels.expand(op.result.shape)
        if labels.data_ptr() == base.data_ptr() and labels.stride() == base.stride():
            continue
        moving = changes(base)
        across = [d for d in moving if _extent(operand, op.result, d) == 1]
        if across and len(across) == len(moving):
            t.freeze(labels, t.reason("mixed", op))
        elif across:
            raise NotUnderstood
        else:
            t.facts.unite(*aligned(base, labels), t.reason("joined", op))


@rule("prelu")
def prelu(t: Propagation, op: Operation) -> Shadow:
    """PReLU, with one slope or one for every channel."""
    shadow, slopes = t.input(op), op.args[1]
    if slopes.numel() > 1:
        name = t.stored.name_of(slopes)
        if name is None:
            raise NotUnderstood
        t.bind(name, 0, shadow.channels_along(1))
    return shadow


@rule(
    *("alias", "clone", "contiguous", "detach", "_to_copy", "to", "positive", "lift_fresh", "type_as"),
    *("float", "double", "half", "bfloat16", "real", "resolve_conj", "resolve_neg", "to_dense"),
)
def same(t: Propagation, op: Operation) -> Shadow:
    """A copy, as it is or with another type of numbers."""
    return t.input(op)


@rule("dropout", "native_dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def dropout(t: Propagation, op: Operation) -> Shadow:
    """Dropout; where it is at work, nothing is a constant after it."""
    shadow = t.input(op)
    return shadow.without_constants() if op.arguments.get("train", True) else shadow
