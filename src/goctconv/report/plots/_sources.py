"""Where numbers come from: sequences, arrays, networks, histories."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..._torch import BatchNorm

Vector: TypeAlias = NDArray[np.float64]

_ROWS = ("epochs", "rows")  # where a history may have its rows


def named(things: Any, argument: str, what: str) -> dict[str, Any]:
    """Return things by name.

    Raises:
        TypeError: It is no mapping, or its keys are no names.
        ValueError: It is empty.
    """
    if not isinstance(things, Mapping):
        raise TypeError(f"{argument} is {type(things).__name__}, expected {what} by name, such as {{'mine': …}}")
    if not things:
        raise ValueError(f"{argument} is empty: there is nothing to draw; give {what} by name, such as {{'mine': …}}")
    for name in things:
        if not isinstance(name, str):
            raise TypeError(f"{argument} has the key {name!r}, expected a name: give {what} by name")
    return dict(things)


def vector(values: Any, name: str) -> Vector:
    """Return numbers as a flat array; None is NaN.

    Raises:
        TypeError: They are not numbers.
    """
    if isinstance(values, Tensor):
        values = values.detach().double().cpu().numpy()
    if isinstance(values, Iterable) and not isinstance(values, np.ndarray | str | Mapping):
        values = [math.nan if value is None else value for value in values]
    try:
        return np.asarray(values, dtype=np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {_brief(values)}, expected a sequence of numbers") from error


def plain(history: Any) -> Any:
    """Return what a history's ``to_dict()`` gives; or the history itself, if it has none."""
    return history.to_dict() if callable(getattr(history, "to_dict", None)) else history


def columns(history: Any, name: str) -> dict[str, list[Any]]:
    """Return a history as lists by key, all of one length; what a row lacks is None.

    Args:
        history: Lists by key; or a list of rows, each a mapping; or a mapping that has such rows as "epochs" or "rows";
            or an object whose ``to_dict()`` gives one of these. Mappings within rows count as part of the row.
        name: What errors call it.

    Raises:
        TypeError: It is something else.
        ValueError: It is empty, or its lists differ in length.
    """
    data = plain(history)
    if isinstance(data, Mapping):
        data = next((data[key] for key in _ROWS if key in data and is_rows(data[key])), data)
    if isinstance(data, Mapping):
        found = {str(key): list(values) for key, values in data.items() if is_list(values)}
    elif is_rows(data):
        rows = [_flat(row) for row in data]
        found = {key: [row.get(key) for row in rows] for key in dict.fromkeys(key for row in rows for key in row)}
    else:
        raise TypeError(
            f"{name} is {_brief(history)}, expected lists by key ({{'epoch': [1, 2], 'loss': [0.7, 0.5]}}), a list of "
            "rows ([{'epoch': 1, 'loss': 0.7}, …]), or something with to_dict() that gives one of these"
        )
    lengths = {key: len(values) for key, values in found.items()}
    if not any(lengths.values()):
        raise ValueError(f"{name} is empty: there is nothing to draw; train for an epoch first")
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{name} has lists of different lengths: {lengths}")
    return found


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    inner = {str(key): value for part in row.values() if isinstance(part, Mapping) for key, value in part.items()}
    return {**inner, **{str(key): value for key, value in row.items() if not isinstance(value, Mapping)}}


def column(data: Mapping[str, list[Any]], key: str, name: str) -> Vector:
    """Return the numbers of a key.

    Raises:
        KeyError: There is none.
        TypeError: They are not numbers.
    """
    if key not in data:
        raise KeyError(f"{name} has no {key!r}: it has {', '.join(data)}")
    return vector(data[key], f"{key!r} of {name}")


def scales_of(source: Any, layers: Sequence[str] | None, name: str) -> Vector:
    """Return abs(γ) of all BatchNorms of a network, or of those named; or the absolute values of given numbers.

    Raises:
        TypeError: It is neither a network nor numbers.
        ValueError: There is no such BatchNorm, or there are no numbers.
    """
    if isinstance(source, nn.Module):
        source = torch.cat(list(_scales(source, layers, name).values()))
    elif isinstance(source, Mapping):
        source = np.concatenate([vector(values, f"{name}, {key}") for key, values in source.items()] or [np.empty(0)])
    values = np.abs(vector(source, name))
    if not np.isfinite(values).any():
        raise ValueError(f"{name} has no γ that is a number: there is nothing to draw")
    return values[~np.isnan(values)]


def _scales(model: nn.Module, layers: Sequence[str] | None, name: str) -> dict[str, Tensor]:
    found = {
        layer: norm.weight.detach().double().cpu()
        for layer, norm in model.named_modules()
        if isinstance(norm, BatchNorm) and norm.weight is not None
    }
    if layers is not None:
        unknown = [layer for layer in layers if layer not in found]
        if unknown:
            raise ValueError(
                f"layers names {unknown[0]!r}, which is no BatchNorm with a scale of {name}: there are "
                f"{', '.join(list(found)[:5]) or 'none'}{', …' if len(found) > 5 else ''}"
            )
        found = {layer: found[layer] for layer in layers}
    if not found:
        raise ValueError(f"{name} has no BatchNorm with a scale γ: there is nothing to draw")
    return found


def is_rows(values: Any) -> bool:
    """Whether it is a list of mappings."""
    return is_list(values) and all(isinstance(row, Mapping) for row in values)


def is_list(values: Any) -> bool:
    """Whether it is a list, an array or a tensor."""
    return isinstance(values, Sequence | np.ndarray | Tensor) and not isinstance(values, str)


def _brief(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) < 60 else text[:57] + '…'}"
