"""Fig. 13: what networks cost, and what they are worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ._axes import linear_axis, log_axis
from ._picture import Line, Panel, Picture
from ._sources import named
from ._text import compact


class _Point(NamedTuple):
    cost: float
    score: float
    label: str


def complexity(
    series: Mapping[str, Sequence[tuple[float, float] | tuple[float, float, str]]],
    *,
    x_label: str = "parameters",
    y_label: str = "max F",
    joined: bool = True,
    title: str = "Complexity and performance",
) -> Picture:
    """Draw a score against parameters or operations, on a logarithmic axis: the paper's Fig. 13.

    Args:
        series: By name, points: cost, score, and a label if wanted. A point without a score (NaN) is left out.
        x_label: What costs are.
        y_label: What scores are.
        joined: Whether the points of a series are joined, from the cheapest to the dearest.
        title: The heading.

    Raises:
        TypeError: Not series by name, or points that are none.
        ValueError: A cost that is not positive, or nothing to draw.

    Example:
        >>> from goctconv.report import plots
        >>> published = {"CSNet-L": [(93_647, 0.900, "×1"), (140_894, 0.916, "×2")]}
        >>> print(plots.complexity(published).description)
        max F against parameters of 2 networks: CSNet-L from 0.9 at 93.6k to 0.916 at 141k.
    """
    found = {name: _points(points, name) for name, points in named(series, "series", "series of points").items()}
    points = [point for one in found.values() for point in one]
    if not points:
        raise ValueError("series has no point with a cost and a score: there is nothing to draw")
    x = log_axis(x_label, [point.cost for point in points])
    y = linear_axis(y_label, [point.score for point in points])
    marks = tuple(_line(index, name, one, joined=joined) for index, (name, one) in enumerate(found.items()))
    ends = [
        f"{name} from {compact(one[0].score)} at {compact(one[0].cost)} to {compact(one[-1].score)} at "
        f"{compact(one[-1].cost)}"
        for name, one in found.items()
        if one
    ]
    count = f"{len(points)} network{'s' * (len(points) > 1)}"
    description = f"{y_label} against {x_label} of {count}: {'; '.join(ends)}."
    return Picture(title, description, tuple(found), (Panel(x, y, marks),))


def _points(points: Any, name: str) -> list[_Point]:
    found = []
    for index, point in enumerate(points):
        try:
            cost, score, *rest = point
            cost, score = (math.nan if value is None else float(value) for value in (cost, score))
            (label,) = rest or [""]
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"point {index} of {name} is {point!r}, expected (cost, score) or (cost, score, label)"
            ) from error
        if cost <= 0:
            raise ValueError(f"point {index} of {name} costs {cost:g}; the axis is logarithmic: costs must be above 0")
        if math.isfinite(cost) and math.isfinite(score):
            found.append(_Point(cost, score, str(label)))
    return sorted(found)


def _line(index: int, name: str, points: list[_Point], *, joined: bool) -> Line:
    tips = [
        f"{f'{point.label}, ' if point.label else ''}{name}: {compact(point.score)} at {compact(point.cost)}"
        for point in points
    ]
    x, y, labels = (tuple(getattr(point, part) for point in points) for part in ("cost", "score", "label"))
    return Line(index, x, y, tuple(tips), labels, is_joined=joined)
