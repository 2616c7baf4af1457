"""Fig. 10: how many channels networks have learned to keep."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from torch import nn

from ..._torch import BatchNorm
from ...pruning import PruningReport
from ._axes import category_axis, linear_axis
from ._groups import grouped_bars, rows_of
from ._picture import Panel, Picture
from ._sources import named

_Widths: TypeAlias = dict[tuple[int, str], int]  # by scale and block, or by layer of scale 0
_BLOCK_NORM = re.compile(r"stages\.(\d+)\.(\d+)\.norm1\.(\d+)")
_SCALES = ("high resolution", "low resolution")


def channel_widths(
    networks: Mapping[str, Any] | PruningReport, *, title: str = "Channels before and after pruning"
) -> Picture:
    """Draw the numbers of channels of networks, the first one behind the others: the paper's Fig. 10.

    Of a `goctconv.models.CSNet`, what its blocks put out, a panel for each scale; the fusion head is left out. Of any
    other network, its BatchNorm layers.

    Args:
        networks: By name: a network, ``CSNetChannels`` (the widths of a CSNet as data), or numbers of channels by
            layer; or the report of a pruning, for what was before and after. What a network lacks that another has
            counts as 0 channels.
        title: The heading.

    Raises:
        TypeError: Nothing of this kind, or CSNets beside other networks.
        ValueError: There is nothing to draw.

    Example:
        >>> import goctconv
        >>> from goctconv.report import plots
        >>> networks = {name: goctconv.create_model(name) for name in ("csnet_x1", "csnet_x1_l")}
        >>> picture = plots.channel_widths(networks)
        >>> print(picture.description)
        Channels of 18 blocks, at high resolution and low resolution: csnet_x1 1040, csnet_x1_l 657.
    """
    if isinstance(networks, PruningReport):
        found = _of_report(networks)
    else:
        found = {
            name: _widths(source, f"network {name!r}")
            for name, source in named(networks, "networks", "networks").items()
        }
    kinds = {bool(_is_blocks(one)) for one in found.values()}
    if len(kinds) > 1:
        raise TypeError("networks mixes CSNets with other networks: draw them in two pictures")
    if not any(any(one.values()) for one in found.values()):
        raise ValueError("networks have no channels: there is nothing to draw")
    scales = sorted({scale for one in found.values() for scale, _ in one})
    things = list(dict.fromkeys(thing for one in found.values() for _, thing in one))
    is_blocks = kinds == {True}
    if is_blocks:
        things.sort(key=lambda block: [int(part) for part in block.split(".")])
    panels = tuple(panel for scale in scales for panel in _panels(found, scale, things, is_blocks=is_blocks))
    first, *others = found
    totals = ", ".join(f"{name} {sum(one.values())}" for name, one in found.items())
    what = f"{len(things)} {'block' if is_blocks else 'BatchNorm layer'}{'s' * (len(things) > 1)}"
    where = f", at {' and '.join(_scale_name(scale) for scale in scales)}" if is_blocks else ""
    description = f"Channels of {what}{where}: {totals}."
    return Picture(title, description, tuple(others) or (first,), panels, first if others else "")


def _panels(found: Mapping[str, _Widths], scale: int, things: list[str], *, is_blocks: bool) -> list[Panel]:
    heights = {name: [float(one.get((scale, thing), 0)) for thing in things] for name, one in found.items()}
    y = linear_axis("channels", [value for row in heights.values() for value in row], from_zero=True)
    label, title = ("stage.block", _scale_name(scale)) if is_blocks else ("BatchNorm layer", "")
    panels = []
    for row in rows_of(len(things)):
        first, *others = heights
        backdrop = (first, heights[first][row]) if others else None
        marks = grouped_bars(things[row], {name: heights[name][row] for name in others or [first]}, backdrop)
        axis = category_axis(label if row.stop == len(things) else "", things[row])
        panels.append(Panel(axis, y, marks, title))
    return panels


def _scale_name(scale: int) -> str:
    return _SCALES[scale] if scale < len(_SCALES) else f"1/{2**scale} of the resolution"


def _is_blocks(widths: _Widths) -> bool:
    return all(re.fullmatch(r"\d+\.\d+", thing) for _, thing in widths)


def _widths(source: Any, name: str) -> _Widths:
    channels = getattr(source, "channels", None) if isinstance(source, nn.Module) else source
    if isinstance(channels, Mapping) and "stages" in channels:
        return _of_stages(channels["stages"])
    if isinstance(source, nn.Module):
        layers = {one: norm.num_features for one, norm in source.named_modules() if isinstance(norm, BatchNorm)}
    elif isinstance(source, Mapping):
        layers = dict(source)
    else:
        raise TypeError(f"{name} is {type(source).__name__}, expected a network, CSNetChannels, or channels by layer")
    for layer, width in layers.items():
        if isinstance(width, bool) or not hasattr(width, "__index__") or width < 0:
            raise TypeError(f"{name} has {width!r} channels in {layer!r}, expected an integer of at least 0")
    return {(0, str(layer)): int(width) for layer, width in layers.items()}


def _of_stages(stages: Any) -> _Widths:
    widths = {}
    for stage, blocks in enumerate(stages):
        for block, width in enumerate(blocks):
            for scale, one in enumerate([width] if isinstance(width, int) else width):
                widths[scale, f"{stage}.{block}"] = one
    return widths


def _of_report(report: PruningReport) -> dict[str, _Widths]:
    """Return what was before and after; of a CSNet by block, which its first layers' names tell."""
    blocks = {name: match for name in report.layers if (match := _BLOCK_NORM.fullmatch(name))}
    before: _Widths = {}
    after: _Widths = {}
    for name, layer in report.layers.items():
        if blocks and name not in blocks:
            continue
        match = blocks.get(name)
        key = (int(match[3]), f"{match[1]}.{match[2]}") if match else (0, name)
        before[key], after[key] = layer.channels, layer.left
    return {"before": before, "after": after}
