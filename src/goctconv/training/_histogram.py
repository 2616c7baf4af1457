"""Histograms of γ: quantiles, bins, and the valley between two crowds."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .._torch import BatchNorm

HISTOGRAM_EDGES = tuple(exponent / 2 for exponent in range(-50, 5))
"""Edges of the histogram of log10 abs(γ): half decades from -25 to 2; the outer bins hold what lies beyond them."""

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
SMALLEST = 1e-45
"""Of float32: what 0 is taken for, to have a logarithm."""


_WINDOW, _STEP = 0.5, 0.1  # decades: what is counted together, and how far apart places are looked at
_FILLED = 0.75  # of the lower crowd's height: what a valley's bottom does not rise above
_DEVIATIONS = 4.5  # by which a crowd and the bottom must differ, counts being Poisson's
_LIVING = 2.0  # decades from the largest value within which the upper crowd must lie
_RIVAL = 0.5  # of the deepest valley's depth: what another must have to be chosen because it lies higher


def gammas(model: nn.Module, layers: Collection[str] | None = None) -> dict[str, Tensor]:
    """Return abs(γ) of every BatchNorm that has channels, (C,) in float64 on the processor."""
    return {
        name: module.weight.detach().abs().double().cpu()
        for name, module in model.named_modules()
        if isinstance(module, BatchNorm) and module.weight is not None and (layers is None or name in layers)
    }


def joined(found: dict[str, Tensor]) -> Tensor:
    """Return the γ of all layers together."""
    return torch.cat([*found.values(), torch.empty(0, dtype=torch.float64)])


def quantiles(values: Tensor) -> list[float]:
    """Return the quantiles that `QUANTILES` names; none of nothing."""
    if not len(values):
        return []
    ordered = values.sort().values
    return [float(ordered[round(share * (len(ordered) - 1))]) for share in QUANTILES]


def histogram(values: Tensor) -> list[int]:
    """Return how many values lie in each bin of `HISTOGRAM_EDGES`."""
    edges = torch.tensor(HISTOGRAM_EDGES[1:-1], dtype=torch.float64)
    bins = torch.bucketize(values.clamp_min(SMALLEST).log10(), edges, right=True)
    return [int(count) for count in torch.bincount(bins, minlength=len(HISTOGRAM_EDGES) - 1)]


@dataclass(frozen=True)
class Valley:
    """A sparse stretch of sorted logarithms.

    Attributes:
        low: The index of the last value below it.
        high: The index of the first value above it.
        bottom: Where it is lowest.
        filled: The share of the lower crowd's height that its bottom has.
        depth: How many values fewer there are at the bottom than in the lower crowd.
    """

    low: int
    high: int
    bottom: float
    filled: float
    depth: int


def find_valley(logs: list[float], least: int, least_decades: float) -> Valley | None:
    """Return the uppermost of the deep valleys.

    A crowd is the half decade with most values, left or right of a place; the right one must be near the largest value.
    A valley's bottom holds at most three quarters of the lower crowd beside it, by a difference beyond chance; the
    valley reaches as far as half decades hold less than the mean of the two.

    Args:
        logs: Sorted, to base 10.
        least: How many values must lie on either side.
        least_decades: How far the crowds must be from the bottom, on average.
    """
    if len(logs) <= 2 * least:
        return None
    places = [logs[0] + _STEP * index for index in range(math.ceil((logs[-1] - logs[0]) / _STEP) + 1)]
    counts = [_count(logs, place) for place in places]
    left, right = _crowds(counts), [len(counts) - 1 - at for at in _crowds(counts[::-1])[::-1]]
    found = [
        _valley(logs, places, counts, at, min(counts[left[at]], counts[right[at]]))
        for at in range(len(counts))
        if (right[at] - left[at]) * _STEP >= 2 * least_decades
        and logs[-1] - places[right[at]] <= _LIVING
        and _is_deep(counts[at], min(counts[left[at]], counts[right[at]]))
    ]
    found = [valley for valley in found if valley.low + 1 >= least and len(logs) - valley.high >= least]
    deepest = max((valley.depth for valley in found), default=0)
    high = max((valley.high for valley in found if valley.depth >= _RIVAL * deepest), default=0)
    return max((valley for valley in found if valley.high == high), key=lambda valley: valley.depth, default=None)


def _valley(logs: list[float], places: list[float], counts: list[int], at: int, crowd: int) -> Valley:
    first, last = _stretch(counts, at, (counts[at] + crowd) / 2)
    low, high = bisect_left(logs, places[first]) - 1, bisect_right(logs, places[last])
    lowest = [place for place in range(first, last + 1) if counts[place] == counts[at]]
    return Valley(low, high, places[lowest[len(lowest) // 2]], counts[at] / crowd, crowd - counts[at])


def _count(logs: list[float], place: float) -> int:
    return bisect_right(logs, place + _WINDOW / 2) - bisect_left(logs, place - _WINDOW / 2)


def _crowds(counts: list[int]) -> list[int]:
    """Return, for every place, where the highest count before it is, at least a window away; the first if none is."""
    apart, found, highest = round(_WINDOW / _STEP), [], 0
    for at in range(len(counts)):
        if at >= apart and counts[at - apart] > counts[highest]:
            highest = at - apart
        found.append(highest)
    return found


def _is_deep(count: int, crowd: int) -> bool:
    return count <= _FILLED * crowd and crowd - count > _DEVIATIONS * math.sqrt(crowd + count)


def _stretch(counts: list[int], at: int, most: float) -> tuple[int, int]:
    first = last = at
    while first and counts[first - 1] <= most:
        first -= 1
    while last < len(counts) - 1 and counts[last + 1] <= most:
        last += 1
    return first, last
