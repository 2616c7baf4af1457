"""Pictures of γ: its distribution (Fig. 5 of the paper), and the same over time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .._checks import ArgumentError, ArgumentTypeError, check_choice, check_number
from ..optim import GammaHistory
from ._data import (
    Spread,
    Vector,
    columns,
    count_in,
    gammas_of,
    is_rows,
    named,
    plain,
    positions,
    spread_of_counts,
    vector,
)
from ._picture import Panel, Picture
from ._plot import Plot
from ._theme import compact

SMALLEST = 1e-24  # smaller values count as this: the paper removes channels below 1e-20
_BINS = (0.1, 0.2, 0.25, 0.5, 1.0)  # decades
_MOST_BINS = 60
_MOST_COLUMNS = 100
_QUANTILES = (("median", 0.5), ("quarter and three quarters", 0.25), ("a tenth and nine tenths", 0.1))


def gamma_distribution(
    networks: Mapping[str, Any],
    *,
    layers: Sequence[str] | None = None,
    threshold: float | None = None,
    smallest: float = SMALLEST,
    log_counts: bool = False,
    title: str = "Distribution of abs(γ)",
) -> Picture:
    """Draw a histogram of the BatchNorm weights γ of several networks, on a logarithmic axis: the paper's Fig. 5.

    Args:
        networks: By name: a network, whose BatchNorms are taken; or the numbers γ, as a sequence, array or tensor, or
            several of these by layer.
        layers: Which BatchNorms of networks, such as ``model.dynamic_decay_names()``; all by default.
        threshold: Where a line is drawn; the description tells how many channels are below.
        smallest: Smaller values count as this, 0 above all.
        log_counts: Whether the numbers of channels are on a logarithmic axis too, so that single ones show.
        title: The heading.

    Raises:
        ArgumentError: Not networks or numbers by name, nothing to draw, an unknown layer, or ``smallest`` or
            ``threshold`` is not positive.

    Example:
        >>> import torch
        >>> from goctconv.report import gamma_distribution
        >>> gamma = torch.tensor([0.0, 1e-22, 0.3, 0.5, 1.0])
        >>> print(gamma_distribution({"mine": gamma}, threshold=1e-20).description)
        Histogram of abs(γ): mine has 5, of which 2 (40.0%) are below the threshold 1e-20, median 0.3.
    """
    _check_positive(smallest, threshold)
    found = named(networks, "networks", "networks, or their γ,").items()
    values = {name: np.maximum(gammas_of(source, layers, f"networks[{name!r}]"), smallest) for name, source in found}
    edges = _decade_edges(np.concatenate([*values.values(), [threshold] if threshold else []]))
    counts = {name: count_in(np.log10(gammas), edges) for name, gammas in values.items()}

    def draw(plot: Plot) -> None:
        plot.heading("channels", "abs(γ)", {f"threshold {threshold:g}": threshold} if threshold else None)
        plot.logarithmic("x", *_ends(edges), smallest)
        for series, (name, heights) in enumerate(counts.items()):
            kept, step = np.flatnonzero(heights), (edges[1] - edges[0]) / len(counts)
            left, right = (10.0 ** (edges[kept] + step * (series + part)) for part in (0, 0.92))
            ranges = [f"{10.0 ** edges[index]:.2g} to {10.0 ** edges[index + 1]:.2g}" for index in kept]
            plot.bars(series, name, left, right, heights[kept], ranges)
        if log_counts:
            plot.logarithmic("y", 0.7, 1.5 * max(int(heights.max()) for heights in counts.values()))
        else:
            plot.linear("y")

    shares = "; ".join(f"{name} {_share(gammas, threshold)}" for name, gammas in values.items())
    return Picture(title, f"Histogram of abs(γ): {shares}.", (Panel(draw),))


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
    """Draw how the BatchNorm weights γ of a network change during training: the paper's Fig. 5, over time.

    Args:
        history: What `goctconv.DynamicWeightDecay` records (``optimizer.history``); or any history (see
            `learning_curves`) with γ of all channels, or a histogram of them, in each entry of ``key``; or an array
            (times, channels), or a list with γ of each time, whose number may change.
        key: Where a history has γ: "gamma" if not given, or "histogram" where the history tells "histogram_edges".
            Where rows also hold "quantiles", and the history their levels, medians are these, not estimates.
        x: The key that counts; it is the label of the axis too. Without it, times are numbered from 1.
        kind: ``"histogram"``, the share of channels in each bin as a shade; or ``"quantiles"``, as lines.
        edges: Where entries are histograms, the logarithms (to base 10) between which they count channels, one more
            than counts; if not given, what the history tells as "histogram_edges".
        events: Where on the axis something happened, by name, such as ``{"pruned": 20}``.
        threshold: The tooltips count channels below it.
        smallest: Smaller values count as this, 0 above all.
        title: The heading.

    Raises:
        ArgumentError: Not such a history, nothing to draw, no ``key``, or another argument that cannot be used.

    Example:
        >>> import torch
        >>> from goctconv.report import gamma_over_time
        >>> gamma = torch.tensor([[1.0, 0.9, 1.1], [0.8, 1e-3, 1.0], [0.7, 1e-22, 1.0]])
        >>> print(gamma_over_time(gamma).description)
        abs(γ) of 3 channels by epoch, from 1 to 3: the median goes from 1 to 0.7.
    """
    check_choice("kind", kind, ("histogram", "quantiles"))
    _check_positive(smallest, threshold)
    times, spreads, label, edges = _read(history, key, x, edges, smallest)
    bins = _bins(spreads, edges)
    floor = smallest if edges is None else 10.0 ** edges[0]
    tips = [_tip(label, time, spread, threshold) for time, spread in zip(times, spreads, strict=True)]

    def draw(plot: Plot) -> None:
        plot.heading("abs(γ), share of channels" if kind == "histogram" else "abs(γ)", label, events)
        plot.logarithmic("y", *_ends(bins), floor)
        plot.linear("x", whole=True)
        if kind == "histogram":
            _draw_cells(plot, times, spreads, bins, tips)
            return
        for series, (name, share) in enumerate(_QUANTILES):
            for quantile in dict.fromkeys((share, 1 - share)):
                plot.line(series, name, times.tolist(), [spread.quantile(quantile) for spread in spreads])

    ends = (spreads[0], spreads[-1])
    first, last = (compact(spread.quantile(0.5)) for spread in ends)
    channels = " to ".join(dict.fromkeys(str(len(spread.logarithms)) for spread in ends))
    shown = f"abs(γ) of {channels} channels by {label}, from {compact(times[0])} to {compact(times[-1])}"
    return Picture(title, f"{shown}: the median goes from {first} to {last}.", (Panel(draw),))


def _check_positive(smallest: float, threshold: float | None) -> None:
    check_number("smallest", smallest, above=0, cure="the axis is logarithmic")
    if threshold is not None:
        check_number("threshold", threshold, above=0, cure="the axis is logarithmic")


def _decade_edges(values: Vector) -> Vector:
    """Return the edges of bins for the logarithms of positive values, of equal width."""
    low, high = math.floor(math.log10(values.min()) + 1e-9), math.log10(values.max()) + 1e-9
    wide = float(math.ceil((high - low) / _MOST_BINS))
    width = next((width for width in _BINS if (high - low) / width <= _MOST_BINS), wide)
    return low + width * np.arange(math.floor((high - low) / width) + 2, dtype=np.float64)


def _ends(edges: Vector) -> tuple[float, float]:
    return float(10.0 ** edges[0]), float(10.0 ** edges[-1])


def _share(values: Vector, threshold: float | None) -> str:
    below = ""
    if threshold:
        count = int((values < threshold).sum())
        below = f", of which {count} ({count / len(values):.1%}) are below the threshold {threshold:g}"
    return f"has {len(values)}{below}, median {compact(float(np.median(values)))}"


def _read(
    history: Any, key: str | None, x: str, edges: Sequence[float] | None, smallest: float
) -> tuple[Vector, list[Spread], str, Sequence[float] | None]:
    """Return the times, how γ are spread at each, what times are called, and the edges of histograms."""
    data = plain(history)
    levels = data.get("quantiles") if isinstance(data, Mapping) else None
    if isinstance(history, GammaHistory):
        data, x = {"gamma": list(history.gammas()), "step": history.steps}, "step"
    elif isinstance(data, Mapping) and key in {None, "histogram"} and edges is None and "histogram_edges" in data:
        key, edges = "histogram", data["histogram_edges"]
        data = {name: values for name, values in data.items() if name not in {"histogram_edges", "quantiles"}}
    elif not isinstance(data, Mapping) and not is_rows(data):
        if not isinstance(data, Iterable):
            raise ArgumentTypeError("history", history, "a history, or γ of each time")
        data = {"gamma": list(data)}
    found, key = columns(data, "history"), key or "gamma"
    if key not in found:
        raise ArgumentError("key", key, f"one of the history's: {', '.join(found)}")
    rows, times, quantiles = found[key], positions(found, x, "history"), found.get("quantiles")
    known = [index for index, row in enumerate(rows) if row is not None]
    if not known:
        cure = "DynamicWeightDecay(history=N) records every N-th step"
        raise ArgumentError("history", history, "a history that holds γ", cure)
    spreads = []
    for index in known:
        argument = f"history[{index}]"
        if edges is None:
            spreads.append(Spread(np.log10(np.maximum(gammas_of(rows[index], None, argument), smallest))))
        else:
            recorded = (levels, quantiles[index] if quantiles else None)
            spreads.append(spread_of_counts(rows[index], edges, recorded, argument))
    return times[known], spreads, x, edges


def _bins(spreads: list[Spread], edges: Sequence[float] | None) -> Vector:
    """Return edges of bins, as logarithms: of those given, the ones around values."""
    if edges is None:
        return _decade_edges(np.array([spread.quantile(share) for spread in spreads for share in (0, 1)]))
    given = vector(edges, "edges")
    used = np.flatnonzero(sum(spread.shares(given) for spread in spreads))
    return given[used[0] : used[-1] + 2]


def _tip(label: str, time: float, spread: Spread, threshold: float | None) -> str:
    below = f", {spread.below(threshold)} below the threshold {threshold:g}" if threshold else ""
    low, middle, high = (compact(spread.quantile(share)) for share in (0.1, 0.5, 0.9))
    shares = f"a tenth ≤ {low}, half ≤ {middle}, nine tenths ≤ {high}"
    return f"{label} {compact(time)}: {len(spread.logarithms)} channels{below}; {shares}"


def _draw_cells(plot: Plot, times: Vector, spreads: list[Spread], edges: Vector, tips: list[str]) -> None:
    """Draw a column for each time; of very many, for some."""
    step = math.ceil(len(times) / _MOST_COLUMNS)
    chosen = sorted({*range(0, len(times), step), len(times) - 1})
    at = times[chosen]
    middles = (at[1:] + at[:-1]) / 2
    half = (middles[0] - at[0], at[-1] - middles[-1]) if len(at) > 1 else (0.5, 0.5)
    x_edges = [float(end) for end in (at[0] - half[0], *middles, at[-1] + half[1])]
    shares = np.array([np.clip(spreads[index].shares(edges), 0, 1) for index in chosen])
    plot.cells(x_edges, (10.0**edges).tolist(), shares, [tips[index] for index in chosen])
