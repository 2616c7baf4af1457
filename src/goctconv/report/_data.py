"""Numbers from what pictures are made of: sequences, arrays, networks, histories."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .._checks import ArgumentError, ArgumentTypeError, nearest
from .._torch import BatchNorm

Vector: TypeAlias = NDArray[np.float64]

_ROWS = ("epochs", "rows")  # keys under which a history may have its rows


def named(things: Any, argument: str, what: str) -> dict[str, Any]:
    """Return things by name.

    Raises:
        ArgumentTypeError: It is no mapping, or its keys are no names.
        ArgumentError: It is empty.
    """
    expected = f"{what} by name, such as {{'mine': …}}"
    if not isinstance(things, Mapping) or not all(isinstance(name, str) for name in things):
        raise ArgumentTypeError(argument, things, expected)
    if not things:
        raise ArgumentError(argument, things, expected, problem="is empty")
    return dict(things)


def vector(values: Any, argument: str) -> Vector:
    """Return numbers as a flat array; None is NaN.

    Raises:
        ArgumentTypeError: They are not numbers.
    """
    given = values
    if isinstance(values, Tensor):
        values = values.detach().double().cpu().numpy()
    if isinstance(values, Iterable) and not isinstance(values, np.ndarray | str | Mapping):
        values = [math.nan if value is None else value for value in values]
    try:
        return np.asarray(values, dtype=np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(argument, given, "a sequence of numbers") from error


def plain(history: Any) -> Any:
    """Return what a history's ``to_dict()`` gives; or the history itself, if it has none."""
    return history.to_dict() if callable(getattr(history, "to_dict", None)) else history


def columns(history: Any, argument: str) -> dict[str, list[Any]]:
    """Return a history as lists by key, all of one length; what a row lacks is None.

    Args:
        history: Lists by key; or a list of rows, each a mapping; or a mapping that has such rows as "epochs" or "rows";
            or an object whose ``to_dict()`` gives one of these. Mappings within rows count as part of the row.
        argument: What errors call it.

    Raises:
        ArgumentTypeError: It is something else.
        ArgumentError: It is empty, or its lists differ in length.
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
        expected = (
            "lists by key ({'epoch': [1, 2], 'loss': [0.7, 0.5]}), a list of rows ([{'epoch': 1, 'loss': 0.7}, …]), or "
            "something with to_dict() that gives one of these"
        )
        raise ArgumentTypeError(argument, history, expected)
    lengths = {key: len(values) for key, values in found.items()}
    if not any(lengths.values()):
        raise ArgumentError(argument, history, "a history of at least one epoch", problem="is empty")
    if len(set(lengths.values())) > 1:
        raise ArgumentError(argument, history, problem=f"has lists of different lengths, {lengths}")
    return found


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    inner = {str(key): value for part in row.values() if isinstance(part, Mapping) for key, value in part.items()}
    return {**inner, **{str(key): value for key, value in row.items() if not isinstance(value, Mapping)}}


def column(data: Mapping[str, list[Any]], key: str, argument: str) -> Vector:
    """Return the numbers of a key.

    Raises:
        ArgumentError: There is none.
        ArgumentTypeError: They are not numbers.
    """
    if key not in data:
        raise ArgumentError(argument, data, problem=f"has no {key!r}: it has {', '.join(data)}")
    return vector(data[key], f"{argument}[{key!r}]")


def gammas_of(source: Any, layers: Sequence[str] | None, argument: str) -> Vector:
    """Return abs(γ) of all BatchNorms of a network, or of those named; or the absolute values of given numbers.

    Raises:
        ArgumentTypeError: It is neither a network nor numbers.
        ArgumentError: There is no such BatchNorm, or there are no numbers.
    """
    numbers = source
    if isinstance(source, nn.Module):
        numbers = torch.cat(list(_gammas(source, layers, argument).values()))
    elif isinstance(source, Mapping):
        parts = [vector(values, f"{argument}[{key!r}]") for key, values in source.items()]
        numbers = np.concatenate(parts or [np.empty(0)])
    values = np.abs(vector(numbers, argument))
    if not np.isfinite(values).any():
        raise ArgumentError(argument, source, "at least one γ that is a finite number")
    return values[~np.isnan(values)]


def _gammas(model: nn.Module, layers: Sequence[str] | None, argument: str) -> dict[str, Tensor]:
    found = {
        layer: norm.weight.detach().double().cpu()
        for layer, norm in model.named_modules()
        if isinstance(norm, BatchNorm) and norm.weight is not None
    }
    if not found:
        raise ArgumentError(argument, model, "a network that has a BatchNorm with γ")
    for layer in layers or ():
        if layer not in found:
            near = nearest(layer, found)
            raise ArgumentError("layers", layer, f"the name of a BatchNorm with γ, such as {next(iter(found))!r}{near}")
    return found if layers is None else {layer: found[layer] for layer in layers}


def is_rows(values: Any) -> bool:
    """Whether it is a list of mappings."""
    return is_list(values) and all(isinstance(row, Mapping) for row in values)


def is_list(values: Any) -> bool:
    """Whether it is a list, an array or a tensor."""
    return isinstance(values, Sequence | np.ndarray | Tensor) and not isinstance(values, str)
