"""The fusion head that CSNet and CSF share: its widths as data, and its tensors in the authors' checkpoints."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypedDict

from .._checks import ArgumentError, check_integer
from .._features import ChannelError, even_branches, parse_channels
from ..layers import Block, FusionHead
from .hub import Published, StateDict, nested, paths, renamed

DILATIONS = (1, 2, 4, 8, 16)


class HeadChannels(TypedDict):
    """All widths of a fusion head: of the first layer, of the branches of every dilation, and of the last layer."""

    fuse: list[int]
    dilated: list[list[int]]
    fused: int


def published_head(fuse: Sequence[int]) -> HeadChannels:
    """Return the widths that follow from those of the first layer by the published rules."""
    dilated = [list(even_branches(width, len(DILATIONS))) for width in fuse]
    return {"fuse": list(fuse), "dilated": dilated, "fused": sum(fuse)}


def make_head(
    in_channels: Sequence[Any], channels: Mapping[str, Any], reductions: Sequence[int], **options: Any
) -> FusionHead:
    """Return a head of these widths on features of these strides."""
    widths = (channels[key] for key in ("fuse", "dilated", "fused"))
    return FusionHead(list(in_channels), *widths, in_reductions=reductions, dilations=DILATIONS, **options)


def widths_of_head(head: FusionHead) -> HeadChannels:
    """Return the widths of a head, as its layers are now."""
    return {
        "fuse": list(head.norm1.in_widths),
        "dilated": [list(widths) for widths in head.dilated.branch_channels],
        "fused": head.out_channels,
    }


def check_keys(channels: Any, keys: Collection[str], error: type[ArgumentError]) -> None:
    """Check that widths are a dict with these keys."""
    if not isinstance(channels, Mapping) or set(channels) != set(keys):
        has = f"it has {', '.join(map(str, channels)) or 'none'}" if isinstance(channels, Mapping) else ""
        raise error("channels", channels, f"a dict with the keys {', '.join(sorted(keys))}", has)


def parse_head(channels: Mapping[str, Any], scales: int) -> HeadChannels:
    """Return the widths of a head, having checked them."""
    fuse = list(parse_channels(tuple(channels["fuse"]), "channels['fuse']"))
    dilated = [
        [check_integer(f"channels['dilated'][{scale}]", width, 0) for width in branches]
        for scale, branches in enumerate(channels["dilated"])
    ]
    for name, rows in (("fuse", fuse), ("dilated", dilated)):
        if len(rows) != scales:
            raise ChannelError(f"channels[{name!r}]", rows, f"one entry for each of the {scales} scales that are fused")
    for scale, branches in enumerate(dilated):
        if len(branches) != len(DILATIONS):
            expected = f"{len(DILATIONS)} widths, of the dilations {DILATIONS}; 0: absent"
            raise ChannelError(f"channels['dilated'][{scale}]", branches, expected)
    return {"fuse": fuse, "dilated": dilated, "fused": parse_channels(channels["fused"], "channels['fused']")[0]}


def places_of_head(head: FusionHead, name: str, prefix: str, weight: str) -> Iterator[Published]:
    """Yield where the tensors of a head lie in a checkpoint of authors with a ``prefix`` and a name for weights."""
    for number, conv, layer in (("1", "fuse", "fuse"), ("3", "merge", "fuse1x1")):
        yield from paths(getattr(head, conv), f"{name}.{conv}", f"{prefix}{layer}.conv.{weight}")
        yield from places_of_ends(head, name, number, f"{prefix}{layer}")
    yield from renamed(head.dilated.branches, f"{name}.dilated.branches", prefix + "ms.convs.{}.msconv")
    yield from renamed(head.norm2, f"{name}.norm2", prefix + "ms.convs.{}.bn")
    yield from renamed(head.act2, f"{name}.act2", prefix + "ms.convs.{}.prelu")


def places_of_ends(block: Block, name: str, number: str, key: str) -> Iterator[Published]:
    """Yield where the tensors of the normalisation and the activation behind a layer lie, side by side."""
    yield from renamed(getattr(block, f"norm{number}"), f"{name}.norm{number}", key + ".bns.{}")
    yield from renamed(getattr(block, f"act{number}"), f"{name}.act{number}", key + ".prelus.{}")


def head_in(state: StateDict, prefix: str, scales: int | None = None) -> dict[str, Any] | None:
    """Return the widths of the head in a state dict of either layout; None if the tensors do not tell."""
    before = re.escape(prefix)
    fuse = nested(state, rf"(){before}fuse\.bns\.(\d)\.weight|()head\.norm1\.(\d)\.weight")[0]
    merge = nested(state, rf"(){before}fuse1x1\.bns\.(\d)\.weight|()head\.norm3\.(\d)\.weight")[0]
    dilated = nested(
        state, rf"{before}ms\.convs\.(\d)\.msconv\.(\d)\.weight|head\.dilated\.branches\.(\d)\.(\d)\.weight"
    )
    if scales is None:
        if not (fuse and merge and dilated):
            return None
        scales = max(*fuse, *dilated) + 1
    return {
        "fuse": [fuse.get(scale, 0) for scale in range(scales)],
        "dilated": [[dilated[scale].get(branch, 0) for branch in range(len(DILATIONS))] for scale in range(scales)],
        "fused": merge.get(0, 0),
    }
