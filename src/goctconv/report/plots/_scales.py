"""Fig. 5: how large the scales γ are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._axes import Axis, linear_axis, log_axis
from ._picture import Bars, Mark, Panel, Picture, Rule
from ._sources import Vector, named, scales_of
from ._text import compact, power_of_ten

SMALLEST = 1e-24  # what is smaller counts as this: the paper removes what is below 1e-20
_BINS = (0.1, 0.2, 0.25, 0.5, 1.0)  # decades
_MOST_BINS = 60


def gamma_distribution(
    networks: Mapping[str, Any],
    *,
    layers: Sequence[str] | None = None,
    threshold: float | None = None,
    smallest: float = SMALLEST,
    log_counts: bool = False,
    title: str = "Distribution of abs(γ)",
) -> Picture:
    """Draw a histogram of the BatchNorm scales γ of several networks, on a logarithmic axis: the paper's Fig. 5.

    Args:
        networks: By name: a network, whose BatchNorms are taken; or the numbers γ, as a sequence, array or tensor, or
            several of these by layer.
        layers: Which BatchNorms of networks, such as ``model.dynamic_decay_names()``; all by default.
        threshold: Where a line is drawn; the tooltips and the description tell how many are below.
        smallest: What is smaller counts as this, 0 above all.
        log_counts: Whether the numbers of channels are on a logarithmic axis too, so that single ones show.
        title: The heading.

    Raises:
        TypeError: Not networks by name, or neither networks nor numbers.
        ValueError: There is nothing to draw, a layer is unknown, or ``smallest`` or ``threshold`` is not positive.

    Example:
        >>> import torch
        >>> from goctconv.report import plots
        >>> gamma = torch.tensor([0.0, 1e-22, 0.3, 0.5, 1.0])
        >>> print(plots.gamma_distribution({"mine": gamma}, threshold=1e-20).description)
        Histogram of abs(γ): mine has 5, of which 2 (40.0%) are below 1e-20, median 0.3.
    """
    check_positive(smallest, threshold)
    values = {
        name: np.maximum(scales_of(source, layers, f"network {name!r}"), smallest)
        for name, source in named(networks, "networks", "networks, or their γ,").items()
    }
    edges = decade_edges(np.concatenate([*values.values(), [threshold] if threshold else []]))
    counts = {name: histogram(np.log10(one), edges) for name, one in values.items()}
    heights = [float(count) for one in counts.values() for count in one]
    y = (
        log_axis("channels", [max(1.0, *heights), 0.7])
        if log_counts
        else linear_axis("channels", heights, from_zero=True)
    )
    marks: list[Mark] = [
        _bars(series, name, one, edges, len(counts)) for series, (name, one) in enumerate(counts.items())
    ]
    if threshold:
        marks.append(Rule(math.log10(threshold), f"threshold {threshold:g}"))
    shares = "; ".join(f"{name} {_share(one, threshold)}" for name, one in values.items())
    panel = Panel(exponent_axis("abs(γ)", edges, smallest), y, tuple(marks))
    return Picture(title, f"Histogram of abs(γ): {shares}.", tuple(counts), (panel,))


def decade_edges(values: Vector) -> Vector:
    """Return the edges of bins for the logarithms of positive values, of equal width."""
    low, high = math.floor(math.log10(values.min()) + 1e-9), math.log10(values.max()) + 1e-9
    wide = float(math.ceil((high - low) / _MOST_BINS))
    width = next((width for width in _BINS if (high - low) / width <= _MOST_BINS), wide)
    edges: Vector = low + width * np.arange(math.floor((high - low) / width) + 2, dtype=np.float64)
    return edges


def histogram(logarithms: Vector, edges: Vector) -> NDArray[np.int64]:
    """Return how many lie in each bin; what rounding has put a little outside is in the outermost ones."""
    return np.histogram(np.clip(logarithms, edges[0], edges[-1]), edges)[0].astype(np.int64)


def exponent_axis(label: str, edges: Vector, smallest: float) -> Axis:
    """Return an axis of logarithms that shows powers of ten; its first tick says where smaller values went."""
    low, high = float(edges[0]), float(edges[-1])
    stride = max(1, math.ceil((high - low) / 7))
    exponents = [one for one in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1) if one % stride == 0]
    ticks = [(float(one), power_of_ten(one)) for one in exponents]
    floor = math.log10(smallest)
    if low <= floor + 1e-9:
        ticks = [(floor, f"≤ {power_of_ten(round(floor))}"), *(tick for tick in ticks if tick[0] > floor + stride / 2)]
    return Axis(label, (low, high), tuple(ticks))


def check_positive(smallest: float, threshold: float | None) -> None:
    """Check that numbers can be on a logarithmic axis.

    Raises:
        ValueError: One cannot.
    """
    for name, value in (("smallest", smallest), ("threshold", threshold)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name}={value!r} must be a positive number: the axis is logarithmic")


def _bars(series: int, name: str, counts: Any, edges: Vector, total: int) -> Bars:
    """Return the bars of one network, beside those of the others."""
    width = float(edges[1] - edges[0])
    kept = [index for index, count in enumerate(counts) if count]
    left = tuple(float(edges[index]) + width * series / total for index in kept)
    right = tuple(float(edges[index]) + width * (series + 0.92) / total for index in kept)
    tips = tuple(
        f"{name}: {counts[index]} channels from {10.0 ** edges[index]:.2g} to {10.0 ** edges[index + 1]:.2g}"
        for index in kept
    )
    return Bars(series, left, right, tuple(float(counts[index]) for index in kept), tips)


def _share(values: Vector, threshold: float | None) -> str:
    below = ""
    if threshold:
        count = int((values < threshold).sum())
        below = f", of which {count} ({count / len(values):.1%}) are below {threshold:g}"
    return f"has {len(values)}{below}, median {compact(float(np.median(values)))}"
