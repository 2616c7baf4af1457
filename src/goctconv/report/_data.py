"""Numbers from what pictures are made of: sequences, arrays, networks, histories."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from .._checks import ArgumentError, ArgumentTypeError, nearest
from ..graph import named_batch_norms

Vector: TypeAlias = NDArray[np.float64]

_ROWS = ("epochs", "rows")  # keys under which a history may have its rows


def named(things: Any, argument: str, what: str) -> dict[str, Any]:
    """Return things by name."""
    expected = f"{what} by name, such as {{'mine': …}}"
    if not isinstance(things, Mapping) or not all(isinstance(name, str) for name in things):
        raise ArgumentTypeError(argument, things, expected)
    if not things:
        raise ArgumentError(argument, things, expected, problem="is empty")
    return dict(things)


def vector(values: Any, argument: str) -> Vector:
    """Return numbers as a flat array; None is NaN."""
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
    """Return a history in any form that `learning_curves` takes as lists of one length; missing keys are None."""
    data = plain(history)
    if isinstance(data, Mapping):
        data = next((data[key] for key in _ROWS if key in data and is_rows(data[key])), data)
    if isinstance(data, Mapping):
        found = {str(key): list(values) for key, values in data.items() if is_list(values)}
    elif is_rows(data):
        rows = [_flat(row) for row in data]
        found = {key: [row.get(key) for row in rows] for key in dict.fromkeys(key for row in rows for key in row)}
    else:
        forms = "lists by key ({'epoch': [1, 2], 'loss': [0.7, 0.5]}), a list of rows ([{'epoch': 1, 'loss': 0.7}, …])"
        raise ArgumentTypeError(argument, history, f"{forms}, or something with to_dict() that gives one of these")
    lengths = {key: len(values) for key, values in found.items()}
    if not any(lengths.values()):
        raise ArgumentError(argument, history, "a history of at least one epoch", problem="is empty")
    if len(set(lengths.values())) > 1:
        raise ArgumentError(argument, history, problem=f"has lists of different lengths, {lengths}")
    return found


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    inner = {str(key): value for part in row.values() if isinstance(part, Mapping) for key, value in part.items()}
    return inner | {str(key): value for key, value in row.items() if not isinstance(value, Mapping)}


def positions(data: Mapping[str, list[Any]], key: str, argument: str) -> Vector:
    """Return the numbers of a key; 1, 2, 3 and so on if there is none."""
    if key in data:
        return vector(data[key], f"{argument}[{key!r}]")
    return np.arange(1.0, len(next(iter(data.values()))) + 1)


def gammas_of(source: Any, layers: Sequence[str] | None, argument: str) -> Vector:
    """Return abs(γ) of all BatchNorms of a network, or of those named; or the absolute values of given numbers."""
    numbers = source
    if isinstance(source, nn.Module):
        norms = named_batch_norms(source)
        if not norms:
            raise ArgumentError(argument, source, "a network that has a BatchNorm with γ")
        for layer in layers or ():
            if layer not in norms:
                near = f"{next(iter(norms))!r}{nearest(layer, norms)}"
                raise ArgumentError("layers", layer, f"the name of a BatchNorm with γ, such as {near}")
        numbers = {name: norms[name].weight for name in layers or norms}
    if isinstance(numbers, Mapping):
        parts = [vector(values, f"{argument}[{name!r}]") for name, values in numbers.items()]
        numbers = np.concatenate([*parts, np.empty(0)])
    values = np.abs(vector(numbers, argument))
    if not np.isfinite(values).any():
        raise ArgumentError(argument, source, "at least one γ that is a finite number")
    return values[~np.isnan(values)]


def is_rows(values: Any) -> bool:
    """Whether it is a list of mappings."""
    return is_list(values) and all(isinstance(row, Mapping) for row in values)


def is_list(values: Any) -> bool:
    """Whether it is a list, an array or a tensor."""
    return isinstance(values, Sequence | np.ndarray | Tensor) and not isinstance(values, str)


@dataclass(frozen=True)
class Spread:
    """Spread of abs(γ) at one time."""

    logarithms: Vector  # to base 10, of all channels; of a histogram, as if spread evenly within its bins
    is_exact: bool = True  # whether they are those of the channels
    levels: Vector = field(default_factory=lambda: np.empty(0))  # shares whose quantiles were recorded
    quantiles: Vector = field(default_factory=lambda: np.empty(0))  # the logarithms of these

    def shares(self, edges: Vector) -> Vector:
        """Return the share of channels in each bin."""
        return count_in(self.logarithms, edges) / len(self.logarithms)

    def quantile(self, share: float) -> float:
        """Return the value below which a share of the channels lies: between recorded ones, where there are any."""
        if len(self.levels):
            return float(10 ** np.interp(share, self.levels, self.quantiles))
        return float(10 ** np.quantile(self.logarithms, share))

    def below(self, limit: float) -> str:
        """Return how many channels lie below a value, in words."""
        return f"{'' if self.is_exact else 'about '}{(self.logarithms < math.log10(limit)).sum()}"


def count_in(logarithms: Vector, edges: Vector) -> NDArray[np.int64]:
    """Return how many lie in each bin; those a little outside, by rounding, are in the outermost ones."""
    return np.histogram(np.clip(logarithms, edges[0], edges[-1]), edges)[0].astype(np.int64)


def spread_of_counts(entry: Any, edges: Sequence[float], recorded: tuple[Any, Any], argument: str) -> Spread:
    """Return the spread of γ known as counts between logarithms, and as quantiles (levels, values) where recorded."""
    counts, ends = vector(entry, argument), vector(edges, "edges")
    if len(ends) != len(counts) + 1 or not (np.diff(ends) > 0).all():
        expected = f"{len(counts) + 1} rising logarithms of abs(γ), one more than {argument} has counts"
        raise ArgumentError("edges", edges, expected)
    if not (counts >= 0).all() or not 0 < counts.sum() < np.inf:
        raise ArgumentError(argument, entry, "counts of channels between the edges, at least one of them above 0")
    whole = counts.astype(int)
    within = np.concatenate([(np.arange(count) + 0.5) / count for count in whole if count])
    logarithms = np.repeat(ends[:-1], whole) + np.repeat(np.diff(ends), whole) * within
    levels, values = (vector([] if part is None else part, argument) for part in recorded)
    if len(levels) != len(values):
        levels = values = np.empty(0)
    return Spread(logarithms, False, levels, np.log10(np.maximum(values, 10.0 ** ends[0])))
