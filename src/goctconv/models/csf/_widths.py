"""Widths of the cross-stage fusion head that is put on a backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

from ..._features import ChannelError, even_branches, parse_channels, width_of

DILATIONS = (1, 2, 4, 8, 16)
_WIDEST, _STEP = 512, 32


class CSFChannels(TypedDict):
    """All widths of a CSF's fusion head, as JSON holds them.

    "fuse" and "dilated" name every level of the backbone, the finest first: the outputs of the first layer, and of each
    of the branches of dilation 1, 2, 4, 8 and 16, where 0 means absent. "fused" is the width of the last layer.
    """

    fuse: list[int]
    dilated: list[list[int]]
    fused: int


def default_fuse_channels(backbone_channels: Sequence[int]) -> list[int]:
    """Return half the channels of every level, at most 512, in multiples of 32: the published widths on a ResNet-50."""
    return [min(_WIDEST, max(_STEP, round(width / 2 / _STEP) * _STEP)) for width in backbone_channels]


def csf_channels(fuse: Sequence[int]) -> CSFChannels:
    """Return the widths that follow from those of the first layer by the published rules.

    Raises:
        ChannelError: Widths that cannot be.
    """
    widths = parse_channels(tuple(fuse), "fuse_channels")
    return {
        "fuse": list(widths),
        "dilated": [list(even_branches(width, len(DILATIONS))) for width in widths],
        "fused": sum(widths),
    }


def parse_csf_channels(channels: Mapping[str, Any], levels: int) -> CSFChannels:
    """Return widths as data, having checked them.

    Raises:
        ChannelError: A key is missing or unknown, or a list is not as long as the levels or dilations.
        TypeError: A width is no integer.
    """
    expected = set(CSFChannels.__annotations__)
    if not isinstance(channels, Mapping) or set(channels) != expected:
        found = sorted(channels) if isinstance(channels, Mapping) else channels
        raise ChannelError(f"channels must have the keys {', '.join(sorted(expected))}, got {found!r}")
    fuse = parse_channels(tuple(channels["fuse"]), "channels['fuse']")
    dilated = [[width_of(w, f"channels['dilated']={row!r}") for w in row] for row in channels["dilated"]]
    fused = width_of(channels["fused"], f"channels['fused']={channels['fused']!r}")
    if len(fuse) != levels or len(dilated) != levels:
        raise ChannelError(
            f"channels: 'fuse' names {len(fuse)} and 'dilated' {len(dilated)} levels, the backbone gives {levels}"
        )
    if any(len(row) != len(DILATIONS) or min(row) < 0 for row in dilated) or fused < 1:
        raise ChannelError(
            f"channels: every row of 'dilated' needs {len(DILATIONS)} widths of at least 0, and 'fused' at least 1; "
            f"got {dilated!r} and {fused}"
        )
    return cast("CSFChannels", {"fuse": list(fuse), "dilated": dilated, "fused": fused})
