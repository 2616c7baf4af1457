"""CSNet's weights in the authors' layout, and the widths that only a checkpoint's tensors know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

from ..layers import FusionHead, ILBlock, SimplifiedGOctConv
from ._checkpoints import StateDict, check_fit, counters
from ._csnet_channels import DILATIONS, FIRST_FUSABLE_STAGE, STAGES, BlockChannels
from ._published import (
    PUBLISHED_LICENSE,
    Published,
    fusion_head,
    head_widths,
    nested,
    paths,
    prediction_layer,
    renamed,
    taken_over,
)

RELEASED_LICENSE = PUBLISHED_LICENSE
_FIRST = "stage0.0.conv1x1.conv.weight"
# The published choices, the last n stages: of others, such as (2, 4), the tensors do not tell which stages they fuse.
_FUSABLE = tuple(tuple(range(first, STAGES)) for first in range(STAGES, FIRST_FUSABLE_STAGE - 1, -1))
_BLOCK_LAYERS = (("1", "conv1x1"), ("2", "conv3x3_1"), ("3", "conv3x3_2"))


def is_published_layout(state: StateDict) -> bool:
    """Whether a state dict has the authors' key names."""
    return any(re.match(r"stage\d\.\d+\.conv1x1\.|oct_fuse\.|cls_layer\.", key) for key in state)


def from_published(
    state: StateDict,
    model: nn.Module,
    source: str = "the checkpoint",
    *,
    prediction: bool = True,
    in_chans: int | None = None,
) -> StateDict:
    """Return the authors' tensors under our names, their whole weights cut into paths.

    Args:
        state: Tensors under the authors' names.
        model: The CSNet that they are for.
        source: What they come from, for the error.
        prediction: Whether to convert the prediction layer too.
        in_chans: Channels of the image that the tensors are for; the model's if not given.

    Raises:
        CheckpointError: Tensors are missing, superfluous or of the wrong shape, all listed under the authors' names.
    """
    places = list(_published_layout(model))
    if not prediction:
        places = [place for place in places if not place.key.startswith("cls_layer.")]
        state = {key: tensor for key, tensor in state.items() if not key.startswith("cls_layer.")}
    if in_chans is not None:
        places = [_for_image(place, in_chans) for place in places]
    return taken_over(state, places, model, source)


def convert_for_timm(state: StateDict, model: Any) -> StateDict:
    """Return a state dict in our layout for timm, which then adapts the first convolution and the prediction."""
    if not is_published_layout(state):
        return {**counters(model), **_checked_for_timm(state, model)}
    model.weights_license = PUBLISHED_LICENSE
    prediction = "cls_layer.weight" in state and state["cls_layer.weight"].shape[0] == model.num_classes
    first = state.get(_FIRST)
    return from_published(state, model, prediction=prediction, in_chans=None if first is None else first.shape[1])


def _checked_for_timm(state: StateDict, model: Any) -> StateDict:
    """Return a state dict of our layout, having checked all but what timm adapts: image and prediction channels."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in expected.keys() & state.keys():
        found = tuple(state[name].shape)
        if name.startswith("stages.0.0.conv1.") and len(found) == 4:
            expected[name] = (expected[name][0], found[1], *expected[name][2:])
    same_classes = "classifier.weight" in state and state["classifier.weight"].shape[0] == model.num_classes
    kept = {name: tensor for name, tensor in state.items() if same_classes or not name.startswith("classifier.")}
    check_fit(kept, {name: expected[name] for name in expected if same_classes or not name.startswith("classifier.")})
    return state


def _for_image(place: Published, in_chans: int) -> Published:
    if place.key != _FIRST:
        return place
    rows, _ = place.block
    return place._replace(shape=(place.shape[0], in_chans, *place.shape[2:]), block=(rows, slice(0, in_chans)))


def _published_layout(model: nn.Module) -> Iterator[Published]:
    for name, module in model.named_modules():
        if isinstance(module, ILBlock):
            stage, index = name.split(".")[1:]
            for number, layer in _BLOCK_LAYERS:
                yield from _conv_norm_act(module, name, number, f"stage{stage}.{index}.{layer}")
        elif isinstance(module, FusionHead):
            yield from fusion_head(module, name, "oct_fuse.", "weight")
        elif name == "classifier":
            yield from prediction_layer(module)


def _conv_norm_act(block: nn.Module, name: str, number: str, key: str) -> Iterator[Published]:
    conv = getattr(block, f"conv{number}")
    if isinstance(conv, SimplifiedGOctConv):
        yield from renamed(conv.convs, f"{name}.conv{number}.convs", key + ".convs.{}")
    else:
        yield from paths(conv, f"{name}.conv{number}", f"{key}.conv.weight")
    yield from renamed(getattr(block, f"norm{number}"), f"{name}.norm{number}", key + ".bns.{}")
    yield from renamed(getattr(block, f"act{number}"), f"{name}.act{number}", key + ".prelus.{}")


def widths_in(state: StateDict) -> dict[str, Any] | None:
    """Return the arguments ``channels`` and ``fuse_stages`` of the CSNet that a state dict comes from.

    Both layouts are read; None if the tensors do not tell.
    """
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
        channels |= head_widths(state, "oct_fuse.", scales=len(fuse_stages), branches=len(DILATIONS)) or {}
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
