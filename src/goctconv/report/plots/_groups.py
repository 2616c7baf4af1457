"""Bars of several series, side by side for each thing on the axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from ._picture import BACKDROP, Bars, Mark
from ._text import compact

_MOST_THINGS = 50  # in a panel
_GROUP = 0.84  # of the room of a thing that its bars take


def rows_of(count: int) -> list[slice]:
    """Return how things are spread evenly over panels, so that bars do not become too narrow."""
    rows = math.ceil(count / _MOST_THINGS)
    ends = [round(count * row / rows) for row in range(rows + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


def grouped_bars(
    things: Sequence[str], heights: Mapping[str, Sequence[float]], backdrop: tuple[str, Sequence[float]] | None = None
) -> tuple[Mark, ...]:
    """Return bars at 0, 1, 2 and so on.

    Args:
        things: What is on the axis.
        heights: Of each series, a height for each thing.
        backdrop: The name and heights of wide bars behind the others.
    """
    marks: list[Mark] = []
    if backdrop is not None:
        marks.append(_bars(BACKDROP, things, *backdrop, -_GROUP / 2, _GROUP / 2))
    inner = _GROUP * (0.72 if backdrop is not None else 1.0)
    width = inner / max(len(heights), 1)
    for series, (name, row) in enumerate(heights.items()):
        left = -inner / 2 + series * width
        marks.append(_bars(series, things, name, row, left, left + width * (0.9 if len(heights) > 1 else 1.0)))
    return tuple(marks)


def _bars(series: int, things: Sequence[str], name: str, row: Sequence[float], left: float, right: float) -> Bars:
    lefts, rights = ([index + side for index in range(len(things))] for side in (left, right))
    tips = [f"{thing}, {name}: {compact(value)}" for thing, value in zip(things, row, strict=True)]
    return Bars(series, tuple(lefts), tuple(rights), tuple(row), tuple(tips))
