"""Fig. 4: how far apart the outputs of a layer's channels are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ._axes import category_axis, linear_axis
from ._groups import grouped_bars, rows_of
from ._picture import Panel, Picture
from ._sources import named, vector
from ._text import compact


def output_deviation(
    networks: Mapping[str, Mapping[str, float] | Sequence[float]],
    *,
    title: str = "Standard deviation of outputs among channels",
) -> Picture:
    """Draw how far apart the outputs of the channels are, layer by layer, of several networks: the paper's Fig. 4.

    Args:
        networks: By name, what `goctconv.report.measure_output_deviation` gives: a number for each layer, by name or
            in order. The layers are those of the first network; a layer that another lacks is left out there.
        title: The heading.

    Raises:
        TypeError: Not networks by name, or no numbers.
        ValueError: There is nothing to draw.

    Example:
        >>> from goctconv.report import plots
        >>> measured = {"dynamic": {"bn1": 0.21, "bn2": 0.32}, "ordinary": {"bn1": 1.4, "bn2": 2}}
        >>> picture = plots.output_deviation(measured)
        >>> print(picture.description)
        A number for each of 2 layers of 2 networks; on average dynamic 0.265, ordinary 1.7.
    """
    measured = {name: _by_layer(layers, name) for name, layers in named(networks, "networks", "networks").items()}
    layers = list(dict.fromkeys(layer for one in measured.values() for layer in one))
    heights = [[one.get(layer, math.nan) for layer in layers] for one in measured.values()]
    y = linear_axis("standard deviation", [value for row in heights for value in row], from_zero=True)
    means = {name: _mean(list(one.values())) for name, one in measured.items()}
    listed = ", ".join(f"{name} {compact(mean)}" for name, mean in means.items())
    count = f"{len(layers)} layer{'s' * (len(layers) > 1)} of {len(measured)} network{'s' * (len(measured) > 1)}"
    panels = tuple(
        Panel(
            category_axis("layer" if row.stop == len(layers) else "", layers[row]),
            y,
            grouped_bars(layers[row], {name: one[row] for name, one in zip(measured, heights, strict=True)}),
        )
        for row in rows_of(len(layers))
    )
    return Picture(title, f"A number for each of {count}; on average {listed}.", tuple(measured), panels)


def _by_layer(layers: Mapping[str, float] | Sequence[float], name: str) -> dict[str, float]:
    if isinstance(layers, Mapping):
        return dict(zip(map(str, layers), vector(list(layers.values()), name).tolist(), strict=True))
    return {str(index): value for index, value in enumerate(vector(layers, name).tolist(), start=1)}


def _mean(values: list[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
