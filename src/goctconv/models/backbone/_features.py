"""Features of timm's networks at increasing strides, and four resolutions of those that have one."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import timm
import torch.nn.functional as F
from timm.layers.norm import LayerNorm2d
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from ..._checks import ArgumentError, unexpected_keyword
from ..hub import drop_weights_in_cfg, without_values
from ._timm import backbone_state, check_backbone_name

LEVELS = 4
# Arguments by which timm's transformers take images of any size; those that a network does not know are left out.
_ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"dynamic_img_size": True},
    {"strict_img_size": False},
    {},
)
_RESERVED = ("features_only", "out_indices", "in_chans", "pretrained", "num_classes", "checkpoint_path")


class Backbone(NamedTuple):
    """A network of timm that gives features, and what it was made with."""

    network: nn.Module
    arguments: dict[str, Any]
    levels: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]


def make_backbone(
    name: str,
    arguments: dict[str, Any],
    levels: Sequence[int] | None,
    pretrained: bool | str | os.PathLike[str],
    in_chans: int,
) -> Backbone:
    """Return a network of timm that gives features: the last four strides, or four depths of a plain transformer."""
    check_backbone_name(name)
    if reserved := [argument for argument in _RESERVED if argument in arguments]:
        problem = f"names {reserved[0]}, which the model's own arguments set"
        raise ArgumentError("backbone_args", arguments, problem=problem, cure="leave it out there")
    kwargs: dict[str, Any] = {**arguments, "in_chans": in_chans}
    known, info = _feature_info(name, kwargs)
    strides = [entry["reduction"] for entry in info]
    chosen = _checked_levels(name, _default_levels(strides) if levels is None else tuple(levels), strides)
    weights: dict[str, Any] = {"pretrained": bool(pretrained)}
    if not isinstance(pretrained, bool):
        state = backbone_state(name, pretrained, kwargs)
        weights = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": state}}
    network = _with_features(name, {**kwargs, **known, **weights, "out_indices": chosen})
    drop_weights_in_cfg(network)
    channels = tuple(info[level]["num_chs"] for level in chosen)
    return Backbone(network, {**arguments, **known}, chosen, channels, tuple(strides[level] for level in chosen))


def _feature_info(name: str, kwargs: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the arguments that let the network take any size, and what it tells of all its features."""
    for known in _ANY_SIZE:
        missing = {key: value for key, value in known.items() if key not in kwargs}
        try:
            network = without_values(functools.partial(_with_features, name, {**kwargs, **missing}))
        except TypeError as error:
            refused = unexpected_keyword(error)
            if refused in missing:
                continue
            reason = f"which has no argument {refused!r}" if refused else f"which says: {error}"
            raise ArgumentError("backbone_args", kwargs, problem=f"does not suit {name}, {reason}") from error
        return missing, list(cast("Any", network).feature_info.info)
    raise AssertionError("the last of _ANY_SIZE has no argument to refuse")


def _with_features(name: str, kwargs: dict[str, Any]) -> nn.Module:
    try:
        return timm.create_model(name, features_only=True, **kwargs)
    except (AttributeError, AssertionError, RuntimeError, KeyError) as error:
        if not _tells_of_no_features(error):
            raise
        cure = "take another one; timm.create_model(NAME, features_only=True) tells whether one does"
        raise ArgumentError("backbone", name, problem=f"gives no features in timm ({error})", cure=cure) from error


def _tells_of_no_features(error: Exception) -> bool:
    """Whether timm refuses ``features_only``, for which it has no exception of its own (timm 1.0.27 to 1.0.31)."""
    return any(word in str(error) for word in ("features_only", "feature_info", "forward_intermediates"))


def _default_levels(strides: Sequence[int]) -> tuple[int, ...]:
    """Return the last feature of each of the last four strides; of a single stride, four depths evenly apart."""
    last = {stride: level for level, stride in enumerate(strides)}
    if len(last) > 1 or len(strides) < LEVELS:
        return tuple(last.values())[-LEVELS:]
    return tuple(len(strides) * (part + 1) // LEVELS - 1 for part in range(LEVELS))


def _checked_levels(name: str, levels: tuple[int, ...], strides: Sequence[int]) -> tuple[int, ...]:
    try:
        levels = tuple(feature_take_indices(len(strides), list(levels))[0])
    except (AssertionError, TypeError, RuntimeError) as error:
        raise ArgumentError("levels", levels, f"features of {name}, from 0 to {len(strides) - 1}") from error
    taken = [strides[level] for level in levels]
    rising = all(a < b for a, b in itertools.pairwise(taken))
    alike = len(set(taken)) == 1 and len(taken) in {1, LEVELS}
    if not levels or len(levels) > 5 or not (rising or alike):
        expected = f"up to five features of {name} of increasing stride, or one or {LEVELS} of one stride"
        raise ArgumentError("levels", levels, expected, f"choose from {list(strides)}; these have {taken}")
    return levels


class SimplePyramid(nn.Module):
    """Bring one to four features of one stride, the shallowest first, to a quarter, a half, once and twice that stride.

    Source: Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection", ECCV 2022, section 3; its
    pyramid takes the last feature only.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = (max(1, width // 4), max(1, width // 2), width, width)
        self.finest = nn.Sequential(
            nn.ConvTranspose2d(width, self.channels[1], 2, stride=2),
            LayerNorm2d(self.channels[1]),
            nn.GELU(),
            nn.ConvTranspose2d(self.channels[1], self.channels[0], 2, stride=2),
        )
        self.finer = nn.ConvTranspose2d(width, self.channels[1], 2, stride=2)

    @staticmethod
    def reductions(stride: int) -> tuple[int, ...]:
        """Return the strides of the four outputs."""
        return (max(1, stride // 4), max(2, stride // 2), max(3, stride), 2 * max(2, stride))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the four resolutions."""
        first, second, third, last = features if len(features) == LEVELS else [features[-1]] * LEVELS
        return [self.finest(first), self.finer(second), third, F.max_pool2d(last, 2, ceil_mode=True)]
