"""Pictures of bars for each layer: channels (Fig. 10 of the paper) and the deviation of outputs (Fig. 4)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from torch import nn

from .._checks import ArgumentError, ArgumentTypeError, check_integer
from .._torch import BatchNorm
from ..pruning import PruningReport
from ._data import named, vector
from ._picture import Panel, Picture, panel_of
from ._plot import Plot
from ._theme import BACKDROP_LOOK, HELD_LOOK, compact

_Widths: TypeAlias = dict[tuple[int, str], int]  # by scale and block, or by layer of scale 0
_Heights: TypeAlias = dict[str, list[float]]  # of bars, by series
_BLOCK = re.compile(r"\d+\.\d+")
_BLOCK_NORM = re.compile(r"stages\.(\d+)\.(\d+)\.norm1\.(\d+)")
_SCALES = {0: "high resolution", 1: "low resolution"}
_HELD = "masked, but stay"
_MOST_NAMES = 50  # on the axis of a panel
_GROUP = 0.84  # of the room of a name, which its bars take


def channel_widths(
    networks: Mapping[str, Any] | PruningReport, *, title: str = "Channels before and after pruning"
) -> Picture:
    """Draw the numbers of channels of networks, the first one behind the others: the paper's Fig. 10.

    Of a `goctconv.models.CSNet`, the outputs of its blocks, a panel for each scale; the fusion head is left out. Of any
    other network, its BatchNorm layers.

    Args:
        networks: By name: a network, ``CSNetChannels`` (the widths of a CSNet as data), or numbers of channels by
            layer; a layer of another network counts as 0 channels where it is missing. Or the report of a pruning: the
            channels before and after, and how many of those that stay are masked.
        title: The heading.

    Raises:
        ArgumentError: Nothing of this kind, nothing to draw, or CSNets beside other networks.

    Example:
        >>> import goctconv
        >>> from goctconv.report import channel_widths
        >>> networks = {name: goctconv.create_model(name) for name in ("csnet_x1", "csnet_x1_l")}
        >>> print(channel_widths(networks).description)
        Channels of 18 blocks, at high resolution and low resolution: csnet_x1 1040, csnet_x1_l 657.
    """
    held: _Widths = {}
    if isinstance(networks, PruningReport):
        found, held = _of_report(networks)
    else:
        things = named(networks, "networks", "networks")
        found = {name: _of_network(source, f"networks[{name!r}]") for name, source in things.items()}
    kinds = {all(_BLOCK.fullmatch(layer) for _, layer in widths) for widths in found.values()}
    if len(kinds) > 1:
        raise ArgumentTypeError("networks", networks, "CSNets alone, or other networks alone", "draw two pictures")
    if not any(any(widths.values()) for widths in found.values()):
        raise ArgumentError("networks", networks, "networks that have channels")
    layers = list(dict.fromkeys(layer for widths in found.values() for _, layer in widths))
    is_blocks = kinds == {True}
    if is_blocks:
        layers.sort(key=lambda block: [int(part) for part in block.split(".")])
    numbers = sorted({scale for widths in found.values() for scale, _ in widths})
    scales = {scale: _SCALES.get(scale, f"1/{2**scale} of the resolution") for scale in numbers}
    shown = {**found, _HELD: held} if any(held.values()) else found
    panels = []
    for scale, scale_name in scales.items():
        heights = {name: [float(widths.get((scale, layer), 0)) for layer in layers] for name, widths in shown.items()}
        heading = f"{scale_name}: channels" if is_blocks else "channels"
        panels += _panels(layers, heights, heading, "stage.block" if is_blocks else "BatchNorm layer", backdrop=True)
    totals = ", ".join(f"{name} {sum(widths.values())}" for name, widths in found.items())
    totals += f", of which {sum(held.values())} are masked" if any(held.values()) else ""
    what = f"{len(layers)} {'block' if is_blocks else 'BatchNorm layer'}{'s' * (len(layers) > 1)}"
    where = f", at {' and '.join(scales.values())}" if is_blocks else ""
    return Picture(title, f"Channels of {what}{where}: {totals}.", tuple(panels))


def output_deviation(
    networks: Mapping[str, Mapping[str, float] | Sequence[float]],
    *,
    title: str = "Standard deviation of outputs among channels",
) -> Picture:
    """Draw how far apart the outputs of the channels are, layer by layer, of several networks: the paper's Fig. 4.

    Args:
        networks: By name, results of `goctconv.study.measure_output_deviation`: a number for each layer, by name or in
            order. The layers are those of the first network; a layer that another lacks is left out there.
        title: The heading.

    Raises:
        ArgumentError: Not networks by name, no numbers, or nothing to draw.

    Example:
        >>> from goctconv.report import output_deviation
        >>> measured = {"dynamic": {"bn1": 0.21, "bn2": 0.32}, "ordinary": {"bn1": 1.4, "bn2": 2}}
        >>> print(output_deviation(measured).description)
        A number for each of 2 layers of 2 networks; on average dynamic 0.265, ordinary 1.7.
    """
    measured = {name: _by_layer(layers, name) for name, layers in named(networks, "networks", "networks").items()}
    layers = list(dict.fromkeys(layer for values in measured.values() for layer in values))
    heights = {name: [values.get(layer, math.nan) for layer in layers] for name, values in measured.items()}
    if not any(math.isfinite(value) for values in heights.values() for value in values):
        raise ArgumentError("networks", networks, "networks with a finite number for some layer")
    averages = {name: float(np.nanmean(list(values.values()) or [0.0])) for name, values in measured.items()}
    means = ", ".join(f"{name} {compact(average)}" for name, average in averages.items())
    count = f"{len(layers)} layer{'s' * (len(layers) > 1)} of {len(measured)} network{'s' * (len(measured) > 1)}"
    panels = _panels(layers, heights, "standard deviation", "layer", backdrop=False)
    return Picture(title, f"A number for each of {count}; on average {means}.", tuple(panels))


def _panels(names: Sequence[str], heights: _Heights, heading: str, x_label: str, *, backdrop: bool) -> list[Panel]:
    """Return panels with a group of bars for each name; many are spread evenly, so that bars stay wide enough.

    Heights are NaN where there is no bar. With ``backdrop``, the first series stands behind the others.
    """
    series = [name for name in heights if name != _HELD]
    looks = {name: look for look, name in enumerate(series, start=-1 if backdrop and len(series) > 1 else 0)}
    looks |= {_HELD: HELD_LOOK} if _HELD in heights else {}
    rows = math.ceil(len(names) / _MOST_NAMES)
    ends = [round(len(names) * row / rows) for row in range(rows + 1)]
    tallest = max(value for values in heights.values() for value in values if math.isfinite(value))

    def panel(start: int, end: int) -> Panel:
        shown, places = names[start:end], np.arange(end - start)

        def draw(plot: Plot) -> None:
            plot.heading(heading, x_label if end == len(names) else "")
            for name, look in looks.items():
                left, right = _sides(look, list(looks.values()))
                plot.bars(look, name, places + left, places + right, heights[name][start:end], shown)
            plot.categories(shown)
            plot.axes.set_ylim(0, 1.05 * tallest or 1)
            plot.linear("y")

        return panel_of(shown, draw)

    return [panel(start, end) for start, end in pairwise(ends)]


def _sides(look: int, looks: list[int]) -> tuple[float, float]:
    """Return the ends of a bar, from the middle of its group."""
    if look == BACKDROP_LOOK:
        return -_GROUP / 2, _GROUP / 2
    total, inner = max(looks) + 1, _GROUP * (0.72 if BACKDROP_LOOK in looks else 1.0)
    left, width = inner * (max(look, 0) / total - 0.5), inner / total
    return left, left + width * (0.9 if total > 1 else 1.0)


def _of_network(source: Any, argument: str) -> _Widths:
    channels = getattr(source, "channels", None) if isinstance(source, nn.Module) else source
    if isinstance(channels, Mapping) and "stages" in channels:
        return _of_stages(channels["stages"])
    if isinstance(source, nn.Module):
        layers = {name: norm.num_features for name, norm in source.named_modules() if isinstance(norm, BatchNorm)}
    elif isinstance(source, Mapping):
        layers = dict(source)
    else:
        raise ArgumentTypeError(argument, source, "a network, CSNetChannels, or channels by layer")
    return {(0, str(layer)): check_integer(f"{argument}[{layer!r}]", width, 0) for layer, width in layers.items()}


def _of_stages(stages: Any) -> _Widths:
    widths = {}
    for stage, blocks in enumerate(stages):
        for block, width in enumerate(blocks):
            for scale, channels in enumerate([width] if isinstance(width, int) else width):
                widths[scale, f"{stage}.{block}"] = channels
    return widths


def _of_report(report: PruningReport) -> tuple[dict[str, _Widths], _Widths]:
    """Return channels before and after, and those masked that stay; of a CSNet by block, by its first layers' names."""
    blocks = {name: match for name in report.layers if (match := _BLOCK_NORM.fullmatch(name))}
    keys = {name: (int(match[3]), f"{match[1]}.{match[2]}") for name, match in blocks.items()}
    shown = {key: report.layers[name] for name, key in (keys or {name: (0, name) for name in report.layers}).items()}
    before = {key: layer.channels for key, layer in shown.items()}
    after = {key: layer.left for key, layer in shown.items()}
    return {"before": before, "after": after}, {key: len(layer.held) for key, layer in shown.items()}


def _by_layer(layers: Mapping[str, float] | Sequence[float], name: str) -> dict[str, float]:
    values = vector(list(layers.values()) if isinstance(layers, Mapping) else layers, f"networks[{name!r}]").tolist()
    names = map(str, layers) if isinstance(layers, Mapping) else map(str, range(1, len(values) + 1))
    return dict(zip(names, values, strict=True))
