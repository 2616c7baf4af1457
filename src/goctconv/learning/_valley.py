"""Where values are sparse between two crowds: the valley of a histogram that has no empty gap."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

_WINDOW, _STEP = 0.5, 0.1  # decades: what is counted together, and how far apart places are looked at
_HALF = 0.5  # of the lower crowd's height: what a valley does not rise above
_DEVIATIONS = 4.0  # by which a crowd and the valley's bottom must differ, counts being Poisson's


@dataclass(frozen=True)
class Valley:
    """A sparse stretch of sorted logarithms.

    Attributes:
        low: The index of the last value below it.
        high: The index of the first value above it.
        bottom: Where it is lowest.
        filled: The share of the lower crowd's height that its bottom has.
    """

    low: int
    high: int
    bottom: float
    filled: float


def find_valley(logs: list[float], least: int, least_decades: float) -> Valley | None:
    """Return the deepest valley.

    A crowd is the half decade with most values, left or right of a place. In the valley, no half decade holds more than
    half of the lower crowd; at its bottom, the difference is beyond chance.

    Args:
        logs: Sorted, to base 10.
        least: How many values must lie on either side.
        least_decades: How wide the valley must be.
    """
    if len(logs) <= 2 * least:
        return None
    places = [logs[0] + _STEP * index for index in range(math.ceil((logs[-1] - logs[0]) / _STEP) + 1)]
    counts = [_count(logs, place) for place in places]
    apart = round(_WINDOW / _STEP)
    left, right = _highest(counts, apart), _highest(counts[::-1], apart)[::-1]
    crowds = [min(pair) for pair in zip(left, right, strict=True)]
    deep = [at for at, (count, crowd) in enumerate(zip(counts, crowds, strict=True)) if _is_deep(count, crowd)]
    for at in sorted(deep, key=lambda at: counts[at] / crowds[at]):
        first, last = _stretch(counts, at, _HALF * crowds[at])
        low, high = bisect_left(logs, places[first]) - 1, bisect_right(logs, places[last])
        wide = places[last] - places[first] >= least_decades
        if wide and low + 1 >= least and len(logs) - high >= least:
            lowest = [place for place in range(first, last + 1) if counts[place] == counts[at]]
            return Valley(low, high, places[lowest[len(lowest) // 2]], counts[at] / crowds[at])
    return None


def _count(logs: list[float], place: float) -> int:
    return bisect_right(logs, place + _WINDOW / 2) - bisect_left(logs, place - _WINDOW / 2)


def _highest(counts: list[int], apart: int) -> list[int]:
    """Return, for every place, the highest count at least so many places before it."""
    found, highest = [], 0
    for at in range(len(counts)):
        if at >= apart:
            highest = max(highest, counts[at - apart])
        found.append(highest)
    return found


def _is_deep(count: int, crowd: int) -> bool:
    return count <= _HALF * crowd and crowd - count > _DEVIATIONS * math.sqrt(crowd + count)


def _stretch(counts: list[int], at: int, most: float) -> tuple[int, int]:
    first = last = at
    while first and counts[first - 1] <= most:
        first -= 1
    while last < len(counts) - 1 and counts[last + 1] <= most:
        last += 1
    return first, last
