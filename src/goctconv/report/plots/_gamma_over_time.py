"""Fig. 5 over time: how the scales γ come to be what they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._axes import linear_axis
from ._picture import Cells, Line, Mark, Panel, Picture, Rule
from ._scales import SMALLEST, check_positive, decade_edges, exponent_axis
from ._sources import Vector, column, columns, plain, vector
from ._spread import Spread, spread_of
from ._text import compact

_QUANTILES = (("median", 0.5), ("quarter and three quarters", 0.25), ("a tenth and nine tenths", 0.1))
_MOST_COLUMNS = 100
_KINDS = ("histogram", "quantiles")


def gamma_over_time(
    history: Any,
    *,
    key: str | None = None,
    x: str = "epoch",
    kind: str = "histogram",
    edges: Sequence[float] | None = None,
    events: Mapping[str, float] | None = None,
    threshold: float | None = None,
    smallest: float = SMALLEST,
    title: str = "abs(γ) over time",
) -> Picture:
    """Draw how the BatchNorm scales γ of a network change while it learns: the paper's Fig. 5, over time.

    Args:
        history: What `goctconv.DynamicWeightDecay` records (``optimizer.history``); or any history (see
            `learning_curves`) with γ of all channels, or a histogram of them, in each entry of ``key``; or an array
            (times, channels), or a list with γ of each time, whose number may change.
        key: Where a history has γ: "scales" if not given, or "histogram" where the history tells "histogram_edges".
        x: The key that counts; it is the label of the axis too. Without it, times are numbered from 1.
        kind: ``"histogram"``, the share of channels in each bin as a shade; or ``"quantiles"``, as lines.
        edges: Where entries are histograms, the logarithms (to base 10) between which they count channels, one more
            than counts; if not given, what the history tells as "histogram_edges".
        events: What happened where on the axis, by name, such as ``{"pruned": 20}``.
        threshold: What the tooltips count channels below.
        smallest: What is smaller counts as this, 0 above all.
        title: The heading.

    Raises:
        TypeError: ``history`` is nothing of this kind.
        ValueError: There is nothing to draw, or an argument is none of what it can be.
        KeyError: The history has no ``key``.

    Example:
        >>> import torch
        >>> from goctconv.report import plots
        >>> gamma = torch.tensor([[1.0, 0.9, 1.1], [0.8, 1e-3, 1.0], [0.7, 1e-22, 1.0]])
        >>> print(plots.gamma_over_time(gamma).description)
        abs(γ) of 3 channels by epoch, from 1 to 3: the median goes from 1 to 0.7.
    """
    if kind not in _KINDS:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(_KINDS)}")
    check_positive(smallest, threshold)
    times, rows, label, edges = _read(history, key, x, edges)
    rules = tuple(Rule(float(place), name) for name, place in (events or {}).items())
    spreads = [spread_of(row, edges, smallest, f"entry {index}") for index, row in enumerate(rows)]
    tips = [_tip(label, time, spread, threshold) for time, spread in zip(times, spreads, strict=True)]
    bins = _bins(spreads, edges)
    y = exponent_axis(
        "abs(γ)" + ("" if kind == "quantiles" else ", share of channels"),
        bins,
        smallest if edges is None else 10.0 ** edges[0],
    )
    marks: list[Mark]
    series: tuple[str, ...] = ()
    bounds = times.tolist()
    if kind == "histogram":
        cells = _cells(times, spreads, bins, tips)
        marks, bounds = [cells], [cells.x_edges[0], cells.x_edges[-1]]
    else:
        marks, series = _lines(times, spreads, label), tuple(name for name, _ in _QUANTILES)
    axis = linear_axis(label, [*bounds, *(rule.x for rule in rules)], whole=True)
    ends = (spreads[0], spreads[-1])
    first, last = (compact(10 ** spread.quantile(0.5)) for spread in ends)
    channels = " to ".join(dict.fromkeys(str(spread.channels) for spread in ends))
    description = (
        f"abs(γ) of {channels} channels by {label}, from {compact(times[0])} to {compact(times[-1])}: the median goes "
        f"from {first} to {last}."
    )
    return Picture(title, description, series, (Panel(axis, y, (*marks, *rules)),))


def _read(
    history: Any, key: str | None, x: str, edges: Sequence[float] | None
) -> tuple[Vector, list[Any], str, Sequence[float] | None]:
    """Return the times, γ at each time or histograms of them, what times are called, and the histograms' edges."""
    data = plain(history)
    if callable(getattr(history, "scales", None)) and hasattr(history, "steps"):
        rows, times, x = list(history.gammas()), vector(history.steps, "the steps"), "step"
    elif isinstance(data, Mapping) or (isinstance(data, Sequence) and data and isinstance(data[0], Mapping)):
        if isinstance(data, Mapping) and key in {None, "histogram"} and edges is None and "histogram_edges" in data:
            key, edges = "histogram", data["histogram_edges"]
            data = {name: values for name, values in data.items() if name != "histogram_edges"}
        found, key = columns(data, "the history"), key or "scales"
        if key not in found:
            raise KeyError(f"the history has no {key!r}: it has {', '.join(found)}")
        rows = found[key]
        times = column(found, x, "the history") if x in found else np.arange(1.0, len(rows) + 1)
    else:
        try:
            rows = list(data)
        except TypeError as error:
            raise TypeError(f"history is {type(history).__name__}, expected a history, or γ of each time") from error
        times = np.arange(1.0, len(rows) + 1)
    known = [index for index, row in enumerate(rows) if row is not None]
    if not known:
        raise ValueError("the history holds no γ: with DynamicWeightDecay(history=N), every N-th step is recorded")
    return times[known], [rows[index] for index in known], x, edges


def _bins(spreads: list[Spread], edges: Sequence[float] | None) -> Vector:
    """Return edges of bins, as logarithms: those given, where anything lies between them."""
    if edges is None:
        return decade_edges(10 ** np.array([spread.quantile(share) for spread in spreads for share in (0, 1)]))
    given = vector(edges, "edges")
    used = np.flatnonzero(sum(spread.shares(given) for spread in spreads))
    return given[used[0] : used[-1] + 2]


def _tip(label: str, time: float, spread: Spread, threshold: float | None) -> str:
    below = f", {spread.below(math.log10(threshold))} below {threshold:g}" if threshold else ""
    low, middle, high = (compact(10 ** spread.quantile(share)) for share in (0.1, 0.5, 0.9))
    return (
        f"{label} {compact(time)}: {spread.channels} channels{below}; a tenth ≤ {low}, half ≤ {middle}, "
        f"nine tenths ≤ {high}"
    )


def _cells(times: Vector, spreads: list[Spread], edges: Vector, tips: list[str]) -> Cells:
    """Return a column for each time; of very many, some."""
    step = math.ceil(len(times) / _MOST_COLUMNS)
    chosen = sorted({*range(0, len(times), step), len(times) - 1})
    at = times[chosen]
    middles = (at[1:] + at[:-1]) / 2
    half = (middles[0] - at[0], at[-1] - middles[-1]) if len(at) > 1 else (0.5, 0.5)
    x_edges = [at[0] - half[0], *middles, at[-1] + half[1]]
    shares = [np.clip(spreads[index].shares(edges), 0, 1) for index in chosen]
    return Cells(
        tuple(map(float, x_edges)),
        tuple(edges.tolist()),
        tuple(tuple(row.tolist()) for row in shares),
        tuple(tips[index] for index in chosen),
    )


def _lines(times: Vector, spreads: list[Spread], label: str) -> list[Mark]:
    """Return a line for the median, and two for each pair of quantiles around it."""
    lines: list[Mark] = []
    for series, (_, share) in enumerate(_QUANTILES):
        for quantile in dict.fromkeys((share, 1 - share)):
            values = [spread.quantile(quantile) for spread in spreads]
            tips = [
                f"{label} {compact(time)}: {quantile:.0%} of the channels ≤ {compact(10.0**value)}"
                for time, value in zip(times.tolist(), values, strict=True)
            ]
            lines.append(Line(series, tuple(times.tolist()), tuple(values), tuple(tips)))
    return lines
