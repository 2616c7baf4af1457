"""Rules for products of matrices, as attention has them: channels may be rows, columns, or what is summed over."""

from __future__ import annotations

from torch import Tensor

from ..._torch import broadcast_shapes
from ...graph import Operation
from ._context import Propagation, rule
from ._shadows import NONE, NotUnderstood, Shadow, aligned, changes, tidy, uniform
from ._values import only_where


@rule("matmul", "bmm", of_any_input=True)
def product(t: Propagation, op: Operation) -> Shadow:
    """A product of matrices, (..., n, k) times (..., k, m)."""
    a, b = op.args[:2]
    if not isinstance(op.result, Tensor) or min(a.dim(), b.dim()) < 2:
        raise NotUnderstood
    factors = _factor(t, a, transposed=False), _factor(t, b, transposed=True)
    summed = [factor.labels.dim() - 1 in changes(factor.labels) for factor in factors]
    outer = [factor.labels.dim() - 2 in changes(factor.labels) for factor in factors]
    if all(outer) or (any(summed) and (any(outer) or not all(summed))):
        raise NotUnderstood  # elements that belong to two channels, or sums over channels of one side only
    if all(summed):
        _pair(t, op, *factors)
        return uniform(op.result.shape, NONE)
    for has_channels, factor in zip(outer, factors, strict=True):
        if not has_channels:
            t.freeze(factor.labels, t.reason("mixed", op))
    if not any(outer):
        return uniform(op.result.shape, NONE)
    chosen = factors[outer.index(True)]
    labels, zero = chosen.labels.narrow(-1, 0, 1), _all_zero(chosen)
    if outer[1]:
        labels, zero = labels.transpose(-2, -1), zero.transpose(-2, -1)
    return Shadow(labels.expand(op.result.shape), tidy(zero).expand(op.result.shape))


@rule("scaled_dot_product_attention", of_any_input=True)
def attention(t: Propagation, op: Operation) -> Shadow:
    """Scaled dot-product attention; it is scaled by the number of channels of queries and keys, which must stay."""
    value = t.known.get(id(op.args[2]))
    if value is None or not isinstance(op.result, Tensor):
        raise NotUnderstood
    for key, shadow in t.known.items():
        if shadow is not None and key != id(op.args[2]):
            t.freeze(shadow.labels, t.reason("counted", op))
    if value.labels.dim() - 2 in changes(value.labels):
        raise NotUnderstood
    zero = _all_zero(Shadow(value.labels, only_where(op.args[2], value, 0).constant), -2)
    return Shadow(value.labels.narrow(-2, 0, 1).expand(op.result.shape), tidy(zero).expand(op.result.shape))


def _factor(t: Propagation, tensor: Tensor, *, transposed: bool) -> Shadow:
    """Return the shadow of a factor with what is summed over last, and flags for zeros only."""
    shadow = t.shadow_of(tensor)
    labels, zero = shadow.labels, only_where(tensor, shadow, 0).constant
    if transposed:
        labels, zero = labels.transpose(-2, -1), zero.transpose(-2, -1)
    return Shadow(tidy(labels), tidy(zero))


def _all_zero(shadow: Shadow, dimension: int = -1) -> Tensor:
    """Return flags for what is 0 all along a dimension."""
    zero = tidy(shadow.constant)
    return zero.narrow(dimension, 0, 1) if zero.stride(dimension) == 0 else zero.all(dimension, keepdim=True)


def _pair(t: Propagation, op: Operation, left: Shadow, right: Shadow) -> None:
    """Unite the channels that are summed over in pairs; one of a pair must be 0 for it to go."""
    labels = [factor.labels.narrow(-2, 0, 1) for factor in (left, right)]
    zero = _all_zero(left, -2) | _all_zero(right, -2)
    t.facts.unite(*aligned(*labels))
    shape = broadcast_shapes(*(part.shape for part in labels))
    for part in labels:
        t.facts.freeze(part.expand(shape)[~zero.expand(shape)], t.reason("mixed", op))
