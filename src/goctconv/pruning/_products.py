"""Products of matrices, as attention has them: channels may be rows, columns, or what is summed over."""

from __future__ import annotations

import torch
from torch import Tensor

from ._lookups import Lookups, Operation, aligned
from ._shadows import FROZEN, NONE, Shadow, changes, compressed, tidy, uniform


def product(t: Lookups, op: Operation) -> bool:
    """A product of matrices, (..., n, k) times (..., k, m)."""
    a, b = op.args[:2]
    if not isinstance(op.result, Tensor) or min(a.dim(), b.dim()) < 2:
        return False
    factors = _factor(t, op, a, transposed=False), _factor(t, op, b, transposed=True)
    summed = [one.labels.dim() - 1 in changes(one.labels) for one in factors]
    outer = [one.labels.dim() - 2 in changes(one.labels) for one in factors]
    if all(outer) or (any(summed) and (any(outer) or not all(summed))):
        return False  # elements that belong to two channels, or sums over channels of one side only
    if all(summed):
        _pair(t, *factors)
        return t.put(op.result, uniform(op.result.shape, NONE))
    for has_channels, one in zip(outer, factors, strict=True):
        if not has_channels:
            t.facts.freeze(compressed(one.labels), f"{op.name} ({t.where}) tells them apart by their place")
    if not any(outer):
        return t.put(op.result, uniform(op.result.shape, NONE))
    chosen = factors[outer.index(True)]
    labels, zero = chosen.labels.narrow(-1, 0, 1), _all_zero(chosen)
    if outer[1]:
        labels, zero = labels.transpose(-2, -1), zero.transpose(-2, -1)
    return t.put(op.result, Shadow(labels.expand(op.result.shape), tidy(zero).expand(op.result.shape)))


def attention(t: Lookups, op: Operation) -> bool:
    """Scaled dot-product attention; it is scaled by the number of channels of queries and keys, which must stay."""
    value = op.known.get(id(op.args[2]))
    if value is None or not isinstance(op.result, Tensor):
        return False
    last = value.labels.dim() - 1
    for one, shadow in op.known.items():
        if shadow is not None and one != id(op.args[2]):
            t.facts.freeze(compressed(shadow.labels), f"{op.name} ({t.where}) scales by their number")
    if last - 1 in changes(value.labels):
        return False
    zero = _all_zero(Shadow(value.labels, t.only_where(op.args[2], value, 0).constant), -2)
    labels = value.labels.narrow(-2, 0, 1)
    return t.put(op.result, Shadow(labels.expand(op.result.shape), tidy(zero).expand(op.result.shape)))


def _factor(t: Lookups, op: Operation, one: Tensor, *, transposed: bool) -> Shadow:
    """Return the shadow of a factor with what is summed over last, and flags for zeros only."""
    shadow = op.known.get(id(one)) or uniform(one.shape, FROZEN)
    zero = t.only_where(one, shadow, 0)
    parts = (part.transpose(-2, -1) if transposed else part for part in (shadow.labels, zero.constant))
    return Shadow(*(tidy(part) for part in parts))


def _all_zero(shadow: Shadow, dimension: int = -1) -> Tensor:
    """Return flags for what is nothing all along a dimension."""
    zero = tidy(shadow.constant)
    return zero.narrow(dimension, 0, 1) if zero.stride(dimension) == 0 else zero.all(dimension, keepdim=True)


def _pair(t: Lookups, left: Shadow, right: Shadow) -> None:
    """Let the channels that are summed over live and die in pairs; one of a pair must be nothing for it to go."""
    labels = [one.labels.narrow(-2, 0, 1) for one in (left, right)]
    nothing = _all_zero(left, -2) | _all_zero(right, -2)
    pairs = aligned(*labels)
    t.facts.unite(*pairs)
    shape = torch.broadcast_shapes(*(one.shape for one in labels))  # type: ignore[no-untyped-call]  # torch's own
    for one in labels:
        t.facts.freeze(one.expand(shape)[~nothing.expand(shape)], f"they are multiplied and summed ({t.where})")
