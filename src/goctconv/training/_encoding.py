"""Nested values as JSON, with the tensors in them apart: nothing that could hold code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def encode(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """Return plain data for JSON; tensors are added to ``tensors`` under names that begin with ``name``.

    Raises:
        TypeError: There is an object in it that is no data.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        tensors[name] = stored(value)
        return {"tensor": name}
    if isinstance(value, list):
        return [encode(one, tensors, f"{name}.{index}") for index, one in enumerate(value)]
    if isinstance(value, tuple):
        return {"tuple": encode(list(value), tensors, name)}
    if isinstance(value, Mapping):
        kind = "counter" if isinstance(value, Counter) else "dict"
        return {kind: [[key, encode(one, tensors, f"{name}.{key}")] for key, one in value.items()]}
    raise TypeError(
        f"{name} holds a {type(value).__module__}.{type(value).__qualname__}, and checkpoints hold data only: numbers, "
        "texts, tensors, and lists, tuples and dicts of them"
    )


def decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return what `encode` was given; tensors are on the processor."""
    if isinstance(value, list):
        return [decode(one, tensors) for one in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(decode(content, tensors))
    pairs = {key: decode(one, tensors) for key, one in content}
    return Counter(pairs) if kind == "counter" else pairs


def stored(tensor: Tensor) -> Tensor:
    """Return a copy on the processor that shares memory with nothing, in the order of its dimensions."""
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
