"""Fig. 14: errors and losses over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._axes import linear_axis, log_axis
from ._picture import Line, Panel, Picture, Rule
from ._sources import Vector, column, columns, is_list, is_rows, named
from ._text import compact


def learning_curves(
    runs: Mapping[str, Any],
    keys: Sequence[str] = ("loss", "mae"),
    *,
    x: str = "epoch",
    events: Mapping[str, float] | None = None,
    log: bool = False,
    title: str = "Learning curves",
) -> Picture:
    """Draw what several runs have recorded, a panel for each key: the paper's Fig. 14.

    Args:
        runs: Histories by name. A history is a mapping of lists (``{"epoch": [1, 2], "loss": [0.7, 0.5]}``), a list of
            rows (``[{"epoch": 1, "loss": 0.7}, …]``), a mapping that has such rows as "epochs" or "rows", or an object
            whose ``to_dict()`` gives one of these. Mappings within rows (``"validation": {"mae": 0.2}``) count as part
            of the row. NaN is a
            gap; None, or what a row lacks, was not measured: the line goes on from one measurement to the next.
        keys: What to draw; a run that lacks a key is left out of its panel.
        x: The key that counts; a run without "epoch" is numbered from 1.
        events: What happened where on the axis, by name, such as ``{"pruned": 20}``.
        log: Whether the values are on logarithmic axes.
        title: The heading.

    Raises:
        TypeError: Not histories by name, or values that are not numbers.
        ValueError: There is nothing to draw, or, on a logarithmic axis, a value that is not positive.
        KeyError: No run has one of the keys.

    Example:
        >>> from goctconv.report import plots
        >>> rows = [{"epoch": 1, "loss": 0.7}, {"epoch": 2, "loss": 0.4, "mae": 0.2}]
        >>> print(plots.learning_curves({"mine": rows}).description)
        loss by epoch: mine from 0.7 to 0.4, lowest 0.4. mae by epoch: mine from 0.2 to 0.2, lowest 0.2.
    """
    if isinstance(keys, str) or not keys:
        raise ValueError(f"keys={keys!r} must list what to draw, such as ('loss', 'mae')")
    if isinstance(runs, Mapping) and any(is_list(one) and not is_rows(one) for one in runs.values()):
        raise TypeError("runs is a history itself, expected histories by name: give it one, {'mine': history}")
    found = {name: columns(history, f"run {name!r}") for name, history in named(runs, "runs", "histories").items()}
    rules = tuple(Rule(float(place), name) for name, place in (events or {}).items())
    counted = {name: _counted(data, x, name) for name, data in found.items()}
    every_x = [*(value for values in counted.values() for value in values), *(rule.x for rule in rules)]
    axis = linear_axis(x, every_x, whole=True)
    panels, sentences = [], []
    for key in keys:
        lines = [
            _line(series, name, _measured(data, key, counted[name], name), x)
            for series, (name, data) in enumerate(found.items())
            if key in data
        ]
        if not lines:
            raise KeyError(
                f"no run has {key!r}: there are {', '.join(dict.fromkeys(k for d in found.values() for k in d))}"
            )
        values = [value for line in lines for value in line.y]
        panels.append(Panel(axis, _values_axis(key, values, log=log), (*rules, *lines)))
        sentences.append(f"{key} by {x}: {'; '.join(_summary(line, tuple(found)) for line in lines)}.")
    return Picture(title, " ".join(sentences), tuple(found), tuple(panels))


def _counted(data: Mapping[str, list[Any]], x: str, name: str) -> Vector:
    if x in data:
        return column(data, x, f"run {name!r}")
    if x != "epoch":
        raise KeyError(f"run {name!r} has no {x!r} to count by: there are {', '.join(data)}")
    return np.arange(1.0, len(next(iter(data.values()))) + 1)


def _values_axis(key: str, values: list[float], *, log: bool) -> Any:
    if not any(math.isfinite(value) for value in values):
        raise ValueError(f"{key!r} has no finite value in any run: there is nothing to draw")
    if not log:
        return linear_axis(key, values)
    lowest = min(value for value in values if math.isfinite(value))
    if lowest <= 0:
        raise ValueError(f"{key!r} has the value {lowest:g}, which a logarithmic axis cannot show: leave log=True out")
    return log_axis(key, values)


def _measured(data: Mapping[str, list[Any]], key: str, x: Vector, name: str) -> tuple[Vector, Vector]:
    """Return where a key was measured, and what."""
    known = np.array([value is not None for value in data[key]])
    return x[known], column(data, key, f"run {name!r}")[known]


def _line(series: int, name: str, points: tuple[Vector, Vector], x_name: str) -> Line:
    x, y = points
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    tips = [f"{name}, {x_name} {compact(a)}: {compact(b)}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    return Line(series, tuple(x.tolist()), tuple(y.tolist()), tuple(tips))


def _summary(line: Line, names: tuple[str, ...]) -> str:
    values = [value for value in line.y if math.isfinite(value)]
    if not values:
        return f"{names[line.series]} without values"
    return f"{names[line.series]} from {compact(values[0])} to {compact(values[-1])}, lowest {compact(min(values))}"
