"""Pictures of curves: learning curves (Fig. 14 of the paper) and complexity against performance (Fig. 13)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._checks import ArgumentError, ArgumentTypeError
from ._data import columns, is_list, is_rows, named, positions, vector
from ._picture import Panel, Picture
from ._plot import Plot
from ._theme import compact


class _Curve(NamedTuple):
    series: int
    name: str
    x: list[float]
    y: list[float]


def learning_curves(
    runs: Mapping[str, Any],
    keys: Sequence[str] = ("loss", "mae"),
    *,
    x: str | Sequence[str] = "epoch",
    events: Mapping[str, float] | None = None,
    log: bool = False,
    title: str = "Learning curves",
) -> Picture:
    """Draw the records of several runs, a panel for each key: the paper's Fig. 14.

    Args:
        runs: Histories by name. A history is a mapping of lists (``{"epoch": [1, 2], "loss": [0.7, 0.5]}``), a list of
            rows (``[{"epoch": 1, "loss": 0.7}, …]``), a mapping that has such rows as "epochs" or "rows", or an object
            whose ``to_dict()`` gives one of these. Mappings within rows (``"validation": {"mae": 0.2}``) count as part
            of the row. NaN is a gap; None, or what a row lacks, was not measured: the line goes on from one measurement
            to the next.
        keys: What to draw; a run that lacks a key is left out of its panel.
        x: The key on the horizontal axis, or one for each of ``keys``; a run without "epoch" is numbered from 1.
        events: Where on the axis something happened, by name, such as ``{"pruned": 20}``.
        log: Whether the values are on logarithmic axes.
        title: The heading.

    Raises:
        ArgumentError: Not histories by name, nothing to draw, no run with one of the keys, or a value that is no number
            or, on a logarithmic axis, not positive.

    Example:
        >>> from goctconv.report import learning_curves
        >>> rows = [{"epoch": 1, "loss": 0.7}, {"epoch": 2, "loss": 0.4, "mae": 0.2}]
        >>> print(learning_curves({"mine": rows}).description)
        loss by epoch: mine from 0.7 to 0.4, lowest 0.4. mae by epoch: mine from 0.2 to 0.2, lowest 0.2.
    """
    if isinstance(keys, str) or not keys:
        raise ArgumentError("keys", keys, "a list of what to draw, such as ('loss', 'mae')")
    if isinstance(runs, Mapping) and any(is_list(run) and not is_rows(run) for run in runs.values()):
        raise ArgumentTypeError("runs", runs, "histories by name", "name it: {'mine': history}")
    labels = [x] * len(keys) if isinstance(x, str) else list(x)
    if len(labels) != len(keys):
        raise ArgumentError("x", x, f"a key, or one for each of the {len(keys)} keys")
    found = {name: columns(history, f"runs[{name!r}]") for name, history in named(runs, "runs", "histories").items()}
    panels, sentences = [], []
    for key, label in zip(keys, labels, strict=True):
        curves = _curves(found, key, label)
        panels.append(_panel(curves, key, label, events or {}, log=log))
        sentences.append(f"{key} by {label}: {'; '.join(_summary(curve) for curve in curves)}.")
    return Picture(title, " ".join(sentences), tuple(panels))


def _curves(runs: Mapping[str, dict[str, list[Any]]], key: str, x: str) -> list[_Curve]:
    curves = []
    for series, (name, data) in enumerate(runs.items()):
        if x not in data and x != "epoch":
            raise ArgumentError("x", x, f"one of the keys of {name!r}: {', '.join(data)}")
        at = positions(data, x, f"runs[{name!r}]")
        if key in data:
            known = np.array([value is not None for value in data[key]])
            values = vector(data[key], f"runs[{name!r}][{key!r}]")[known]
            order = np.argsort(at[known], kind="stable")
            curves.append(_Curve(series, name, at[known][order].tolist(), values[order].tolist()))
    if not curves:
        known_keys = dict.fromkeys(key for data in runs.values() for key in data)
        raise ArgumentError("keys", key, f"one that a run has: {', '.join(known_keys)}")
    if not any(math.isfinite(value) for curve in curves for value in curve.y):
        raise ArgumentError("keys", key, "one that has a finite value in some run")
    return curves


def _panel(curves: list[_Curve], key: str, x: str, events: Mapping[str, float], *, log: bool) -> Panel:
    finite = [value for curve in curves for value in curve.y if math.isfinite(value)]
    if log and min(finite) <= 0:
        raise ArgumentError("log", log, problem=f"cannot show {min(finite):g} of {key!r}", cure="leave {log} out")
    whole = all(place == round(place) for curve in curves for place in curve.x if math.isfinite(place))

    def draw(plot: Plot) -> None:
        plot.heading(key, x, events)
        for curve in curves:
            plot.line(curve.series, curve.name, curve.x, curve.y)
        plot.linear("x", whole=whole)
        if log:
            plot.logarithmic("y", min(finite) / 1.2, max(finite) * 1.2)
        else:
            plot.linear("y")

    return Panel(draw)


def _summary(curve: _Curve) -> str:
    values = [value for value in curve.y if math.isfinite(value)]
    if not values:
        return f"{curve.name} without values"
    return f"{curve.name} from {compact(values[0])} to {compact(values[-1])}, lowest {compact(min(values))}"


class _Point(NamedTuple):
    cost: float
    score: float
    label: str

    def __str__(self) -> str:
        return f"{compact(self.score)} at {compact(self.cost)}"


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
        ArgumentError: Not series of points by name, nothing to draw, or a cost that is not positive.

    Example:
        >>> from goctconv.report import complexity
        >>> published = {"CSNet-L": [(93_647, 0.900, "×1"), (140_894, 0.916, "×2")]}
        >>> print(complexity(published).description)
        max F against parameters of 2 networks: CSNet-L from 0.9 at 93.6k to 0.916 at 141k.
    """
    found = {name: _points(points, name) for name, points in named(series, "series", "series of points").items()}
    every = [point for points in found.values() for point in points]
    if not every:
        raise ArgumentError("series", series, "series that have a point with a cost and a score")
    costs = [point.cost for point in every]
    margin = max((max(costs) / min(costs)) ** 0.08, 1.12)

    def draw(plot: Plot) -> None:
        plot.heading(y_label, x_label)
        plot.logarithmic("x", min(costs) / margin, max(costs) * margin)
        plot.axes.margins(y=0.12)
        for index, (name, points) in enumerate(found.items()):
            x, y = [point.cost for point in points], [point.score for point in points]
            plot.line(index, name, x, y, labels=[point.label for point in points], joined=joined)
        plot.linear("y")
        plot.labels([point for point in every if point.label])

    ends = "; ".join(f"{name} from {points[0]} to {points[-1]}" for name, points in found.items() if points)
    count = f"{len(every)} network{'s' * (len(every) > 1)}"
    return Picture(title, f"{y_label} against {x_label} of {count}: {ends}.", (Panel(draw),))


def _points(points: Any, name: str) -> list[_Point]:
    found = []
    for index, point in enumerate(points):
        argument = f"series[{name!r}][{index}]"
        try:
            cost, score, *rest = point
            cost, score = (math.nan if value is None else float(value) for value in (cost, score))
            (label,) = rest or [""]
        except (TypeError, ValueError) as error:
            raise ArgumentTypeError(argument, point, "(cost, score) or (cost, score, label)") from error
        if cost <= 0:
            raise ArgumentError(argument, point, "a point with a cost above 0", "the axis is logarithmic")
        if math.isfinite(cost) and math.isfinite(score):
            found.append(_Point(cost, score, str(label)))
    return sorted(found)
