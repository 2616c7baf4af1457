"""Rules for new tensors, of the shape of another tensor or of given sizes."""

from __future__ import annotations

import torch
from torch import Tensor

from ...graph import Operation, is_random
from ._context import Propagation, rule
from ._shadows import FROZEN, NO, YES, Shadow, by_dimension, uniform

_LIKE = ("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "randint_like")
_NEW = ("new_zeros", "new_ones", "new_full", "new_empty", "zeros", "ones", "full", "empty", "rand", "randn")


@rule(*_LIKE)
def created_like(t: Propagation, op: Operation) -> Shadow:
    """A tensor in the shape of another one: its elements belong to the same channels."""
    constant = NO if is_random(op.func) else YES
    return Shadow(t.input(op).labels, constant.expand(op.result.shape))


@rule("fill", "zero")
def filled(t: Propagation, op: Operation) -> Shadow:
    """A tensor that is filled with one number."""
    shadow, value = t.input(op), op.arguments.get("value", 0)
    return (
        shadow.without_constants() if isinstance(value, Tensor) else Shadow(shadow.labels, YES.expand(op.result.shape))
    )


@rule(*_NEW)
def created(t: Propagation, op: Operation) -> Shadow:
    """A tensor of given sizes, of which one may be a number of channels."""
    shape = op.result.shape
    constant = not is_random(op.func)
    counted = {
        d: source
        for d, source in enumerate(t.sources.of(list(shape)))
        if source is not None and source.channels is not None
    }
    if len(counted) == 1:
        dimension, source = counted.popitem()
        if source.channels is not None and source.compute is int:
            flags = torch.full((shape[dimension],), constant)
            return by_dimension(shape, dimension, source.channels, flags)
    for channels in t.sources.counted:
        t.freeze(channels, t.reason("counted", op))
    return uniform(shape, FROZEN, constant=constant)
