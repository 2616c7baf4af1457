"""Families of ATen operators, by name: without overload, in-place forms under the name of their functional twins."""

from __future__ import annotations

from functools import cache

import torch

from .._torch import OpOverload, is_mutable, operator_name, overload_name

_aten = torch.ops.aten
_LEAKY_RELU: OpOverload = _aten.leaky_relu.default
_LOG_SIGMOID: OpOverload = _aten.log_sigmoid.default

IDENTITIES = frozenset({"alias", "clone", "detach", "_to_copy", "contiguous", "lift_fresh", "positive", "_conj"})
"""Operators that copy or pass on every element."""
VIEWS = frozenset({"view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze", "flatten", "expand"})
"""Operators that give the same elements another shape, in the same order."""
LINEAR = frozenset({"add", "sub", "rsub", "mul", "div", "neg"})
"""Elementwise operators that are linear in each operand."""
PRODUCTS = frozenset({"mul", "div"})
"""Linear elementwise operators that are not linear in two operands together."""
MATRIX_PRODUCTS = {"addmm": 1, "mm": 0, "linear": 0}
"""Products of rows with a weight, and the position of the rows among the arguments."""
BATCHED_PRODUCTS = {"baddbmm": 1, "bmm": 0}
"""The same of batches of matrices."""
_POINTWISE_WITHOUT_TAG = frozenset(  # in some or all of the supported versions of torch
    {"hardswish", "_prelu_kernel", "prelu", "leaky_relu", "elu", "log_sigmoid_forward", "rrelu_with_noise"}
)


def name_of(func: OpOverload) -> str:
    """Return an operator's name without overload, and without the underscore of an in-place form."""
    name = operator_name(func)
    return name[:-1] if is_in_place(name) else name


def is_in_place(name: str) -> bool:
    """Whether a name is that of an in-place form, such as ``"add_"``."""
    return name.endswith("_") and not name.endswith("__")


def is_batch_norm(name: str) -> bool:
    """Whether a name is that of one of the operators that compute batch normalization, of any device."""
    return "batch_norm" in name


@cache
def is_pointwise(func: OpOverload) -> bool:
    """Whether every element of an operator's result is computed from the elements at its place."""
    return torch.Tag.pointwise in func.tags or name_of(func) in _POINTWISE_WITHOUT_TAG


@cache
def is_random(func: OpOverload) -> bool:
    """Whether an operator draws random numbers, or leaves memory as it was."""
    return torch.Tag.nondeterministic_seeded in func.tags or "empty" in name_of(func)


def functional(func: OpOverload) -> OpOverload:
    """Return the operator that gives the same result, changes none of its arguments and returns one tensor."""
    name = name_of(func)
    if name == "rrelu_with_noise":
        return _LEAKY_RELU
    if name == "log_sigmoid_forward":
        return _LOG_SIGMOID
    if not is_mutable(func):
        return func
    twin = getattr(_aten, name, None)
    return func if twin is None else getattr(twin, overload_name(func), func)
