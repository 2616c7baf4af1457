"""The widths of a CSF as data: the published rules, and their checks."""

from __future__ import annotations

from collections.abc import Sequence

from ..._features import ChannelError, parse_channels
from .._fusion_head import HeadChannels, check_keys, parse_head, published_head

_WIDEST, _STEP = 512, 32


class CSFChannels(HeadChannels):
    """All widths of a CSF's fusion head, as JSON holds them.

    "fuse" and "dilated" name every level of the backbone, the finest first: the outputs of the first layer, and of each
    of the branches of dilation 1, 2, 4, 8 and 16, where 0 means absent. "fused" is the width of the last layer.
    """


def parse_csf_channels(
    fuse_channels: Sequence[int] | None, channels: CSFChannels | None, backbone_channels: Sequence[int]
) -> CSFChannels:
    """Return all widths of the head, having checked those that are given.

    Args:
        fuse_channels: Of the first layer; by default half of the backbone's, at most 512, in multiples of 32, which are
            the published widths on a ResNet-50.
        channels: All of them, in place of ``fuse_channels``.
        backbone_channels: Of every level.
    """
    if channels is not None:
        check_keys(channels, ("fuse", "dilated", "fused"), ChannelError)
        return parse_head(channels, len(backbone_channels))
    if fuse_channels is None:
        fuse_channels = [min(_WIDEST, max(_STEP, round(width / 2 / _STEP) * _STEP)) for width in backbone_channels]
    if not isinstance(fuse_channels, Sequence) or len(fuse_channels) != len(backbone_channels):
        levels = f"the {len(backbone_channels)} levels of {tuple(backbone_channels)} channels"
        raise ChannelError("fuse_channels", fuse_channels, f"one width for each of {levels}")
    return published_head(parse_channels(tuple(fuse_channels), "fuse_channels"))
