"""CSNet's weights in the authors' layout, and the widths that only a checkpoint's tensors know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

from ...layers import FusionHead, ILBlock, SimplifiedGOctConv
from .._fusion_head import head_in, places_of_ends, places_of_head
from ..hub import PUBLISHED_LICENSE, Layout, Published, StateDict, moved, nested, paths, renamed
from ._widths import FIRST_FUSABLE_STAGE, STAGES, BlockChannels

FIRST_CONVS = ("stages.0.0.conv1.paths.0_to_0", "stages.0.0.conv1.paths.0_to_1")
# The published choices, the last n stages: of others, such as (2, 4), the tensors do not tell which stages they fuse.
_FUSABLE = tuple(tuple(range(first, STAGES)) for first in range(STAGES, FIRST_FUSABLE_STAGE - 1, -1))
_BLOCK_LAYERS = (("1", "conv1x1"), ("2", "conv3x3_1"), ("3", "conv3x3_2"))


def _places(model: nn.Module) -> Iterator[Published]:
    for name, module in model.named_modules():
        if isinstance(module, ILBlock):
            stage, index = name.split(".")[1:]
            for number, layer in _BLOCK_LAYERS:
                conv, key = getattr(module, f"conv{number}"), f"stage{stage}.{index}.{layer}"
                if isinstance(conv, SimplifiedGOctConv):
                    yield from renamed(conv.convs, f"{name}.conv{number}.convs", key + ".convs.{}")
                else:
                    yield from paths(conv, f"{name}.conv{number}", f"{key}.conv.weight")
                yield from places_of_ends(module, name, number, key)
        elif isinstance(module, FusionHead):
            yield from places_of_head(module, name, "oct_fuse.", "weight")
        elif name == "classifier":
            yield from moved(module, name, "cls_layer")


def _widths_in(state: StateDict) -> dict[str, Any] | None:
    """Return ``channels`` and ``fuse_stages`` of a state dict in either layout; None if it does not tell."""
    ends = r"stage{}\.(\d+)\.conv1x1\.bns\.(\d)\.weight|stages\.{}\.(\d+)\.norm1\.(\d)\.weight"
    stages = [nested(state, ends.format(stage, stage)) for stage in range(STAGES)]
    if not all(list(blocks) == list(range(len(blocks))) and blocks for blocks in stages):
        return None
    fed = _fused_inputs(state)
    outputs = [sum(blocks[len(blocks) - 1].values()) for blocks in stages]
    fuse_stages = next((stages for stages in _FUSABLE if sum(outputs[stage] for stage in stages) == fed), None)
    if fuse_stages is None:
        return None
    channels: dict[str, Any] = {
        "stages": [
            _block_widths(blocks, one_scale_end=stage >= 2 or stage in fuse_stages)
            for stage, blocks in enumerate(stages)
        ]
    }
    if fuse_stages:
        channels |= head_in(state, "oct_fuse.", len(fuse_stages)) or {}
    return {"channels": channels, "fuse_stages": fuse_stages}


def _fused_inputs(state: StateDict) -> int:
    """Return the number of channels that the fusion head takes from all stages together; 0 without a head."""
    whole = state.get("oct_fuse.fuse.conv.weight")
    if whole is not None and whole.dim() > 1:
        return int(whole.shape[1])
    widths = {
        match[1]: int(tensor.shape[1])
        for key, tensor in state.items()
        if (match := re.fullmatch(r"head\.fuse\.paths\.(\d)_to_\d\.weight", key)) and tensor.dim() > 1
    }
    return sum(widths.values())


def _block_widths(blocks: dict[int, dict[int, int]], *, one_scale_end: bool) -> list[BlockChannels]:
    widths: list[BlockChannels] = [[scales.get(0, 0), scales.get(1, 0)] for scales in blocks.values()]
    last = blocks[len(blocks) - 1]
    if one_scale_end and set(last) == {0}:
        widths[-1] = last[0]
    return widths


LAYOUT = Layout(
    keys=re.compile(r"stage\d\.\d+\.conv1x1\.|oct_fuse\.|cls_layer\."),
    places=lambda model, _: list(_places(model)),
    widths=_widths_in,
    first_convs=lambda _: FIRST_CONVS,
    license=PUBLISHED_LICENSE,
)
