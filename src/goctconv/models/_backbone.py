"""Any of timm's networks as the backbone of a saliency head: its features, at increasing strides."""

from __future__ import annotations

import copy
import difflib
import itertools
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import timm
import torch
from timm.layers.format import Format
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from . import _paddle_mobilenet  # noqa: F401  # registers its network with timm
from ._checkpoints import StateDict, check_fit, read_checkpoint
from ._create import UnknownModelError
from ._image_sizes import ImageSizes, find_image_sizes
from ._simple_pyramid import LEVELS

# Arguments by which timm's transformers take images of any size; those that a network does not know are left out.
_ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"dynamic_img_size": True},
    {"strict_img_size": False},
    {},
)
_RESERVED = {"features_only", "out_indices", "in_chans", "pretrained", "num_classes", "checkpoint_path"}


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
    """Return a network of timm that gives features.

    Args:
        name: Its name, with or without a tag of weights.
        arguments: Of the network, beside the number of its image's channels.
        levels: Which of its features; if not given, the last four strides, or four depths of a plain transformer.
        pretrained: Whether to download timm's weights, or a file of weights.
        in_chans: Channels of the image.

    Raises:
        UnknownModelError: timm has no such network.
        ValueError: It gives no features, or not these ones; arguments that are not its own.
        CheckpointError: The file does not fit.
    """
    check_backbone_name(name)
    refused = sorted(_RESERVED & set(arguments))
    if refused:
        raise ValueError(
            f"backbone_args: {', '.join(refused)} is set by this model's own arguments: leave it out there"
        )
    kwargs: dict[str, Any] = {**arguments, "in_chans": in_chans}
    known, info = _feature_info(name, kwargs)
    chosen = _default_levels([entry["reduction"] for entry in info]) if levels is None else tuple(levels)
    chosen = _checked_levels(name, chosen, [entry["reduction"] for entry in info])
    if isinstance(pretrained, bool):
        weights: dict[str, Any] = {"pretrained": pretrained}
    else:
        weights = {
            "pretrained": True,
            "pretrained_cfg_overlay": {"state_dict": backbone_state(name, pretrained, kwargs)},
        }
    network = _with_features(name, {**kwargs, **known, **weights, "out_indices": chosen})
    for attribute in ("pretrained_cfg", "default_cfg"):
        getattr(network, attribute, {}).pop("state_dict", None)
    return Backbone(
        network,
        {**arguments, **known},
        chosen,
        tuple(info[level]["num_chs"] for level in chosen),
        tuple(info[level]["reduction"] for level in chosen),
    )


def check_backbone_name(name: str) -> None:
    """Check that timm has a network of this name.

    Raises:
        UnknownModelError: It has not; the nearest names are suggested.
        TypeError: The name is no string.
    """
    if not isinstance(name, str):
        raise TypeError(f"backbone={name!r} must be the name of one of timm's networks, such as 'resnet50'")
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        nearest = difflib.get_close_matches(architecture.lower().replace("-", "_"), timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(nearest)}? " if nearest else ""
        raise UnknownModelError(f"unknown backbone {name!r}: {hint}timm.list_models() lists them")


def _feature_info(name: str, kwargs: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the arguments that let the network take any size, and what it tells of all its features."""
    for known in _ANY_SIZE:
        missing = {key: value for key, value in known.items() if key not in kwargs}
        try:
            network = _without_values(name, {**kwargs, **missing})
        except TypeError as error:
            if not any(key in str(error) for key in missing):
                raise ValueError(f"backbone_args={kwargs!r} do not suit {name}: {error}") from error
            continue
        return missing, list(cast("Any", network).feature_info.info)
    raise AssertionError("the last of _ANY_SIZE has no argument to refuse")


def _without_values(name: str, kwargs: dict[str, Any]) -> nn.Module:
    """Return the network on the meta device, or with values where its constructor needs them."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return _with_features(name, kwargs)
        except (NotImplementedError, RuntimeError) as error:
            if "features" in str(error).lower():
                raise
            return _with_features(name, kwargs)


def _with_features(name: str, kwargs: dict[str, Any]) -> nn.Module:
    try:
        return timm.create_model(name, features_only=True, **kwargs)
    except (AttributeError, AssertionError, RuntimeError, KeyError) as error:
        if "features_only" in str(error) or "feature_info" in str(error) or "forward_intermediates" in str(error):
            raise ValueError(
                f"backbone={name!r} gives no features in timm ({error}): take another one; "
                "timm.create_model(NAME, features_only=True) tells whether one does"
            ) from error
        raise


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
        raise ValueError(f"levels={levels!r}: {name} gives features 0 to {len(strides) - 1}") from error
    taken = [strides[level] for level in levels]
    rising = all(a < b for a, b in itertools.pairwise(taken))
    alike = len(set(taken)) == 1 and len(taken) in {1, LEVELS}
    if not levels or len(levels) > 5 or not (rising or alike):
        raise ValueError(
            f"levels={levels!r} of {name} have the strides {taken}: choose up to five of increasing stride from "
            f"{list(strides)}, or of one stride one or {LEVELS}"
        )
    return levels


def backbone_state(name: str, file: str | os.PathLike[str], kwargs: dict[str, Any]) -> StateDict:
    """Return the tensors of a file of a backbone's weights, with or without its classifier, in timm's layout.

    Raises:
        CheckpointError: The file cannot be read or does not fit; everything that does not is listed.
    """
    state = read_checkpoint(file)
    with torch.random.fork_rng(devices=[]):
        whole = timm.create_model(name, **kwargs)
    module = sys.modules[timm.models.model_entrypoint(name.partition(".")[0]).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    if convert is not None:
        state = convert(dict(state), whole)
    cfg = cast("dict[str, Any]", whole.pretrained_cfg)
    expected = {key: tuple(tensor.shape) for key, tensor in whole.state_dict().items()}
    heads = tuple(f"{layer}." for layer in _names(cfg.get("classifier")))
    for conv in _names(cfg.get("first_conv")):
        weight = f"{conv}.weight"
        if weight in state and weight in expected and state[weight].dim() == 4:  # timm adapts the image's channels
            expected[weight] = (expected[weight][0], state[weight].shape[1], *expected[weight][2:])
    kept = {key: tensor for key, tensor in state.items() if not key.startswith(heads)} if heads else state
    check_fit(
        kept,
        {key: shape for key, shape in expected.items() if not (heads and key.startswith(heads))},
        f"{os.fspath(file)}, for the backbone {name},",
    )
    return kept


def _names(value: str | Sequence[str] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def is_channels_last(network: nn.Module) -> bool:
    """Whether a network's features have their channels in the last dimension."""
    return getattr(network, "output_fmt", None) == Format.NHWC


def native_side(network: nn.Module) -> int:
    """Return the side of the images that a backbone was made for."""
    cfg: dict[str, Any] = getattr(network, "pretrained_cfg", None) or {}
    patches = getattr(getattr(network, "model", network), "patch_embed", None)
    size = getattr(patches, "img_size", None) or (cfg.get("input_size") or (3, 224, 224))[1:]
    return int(max(size))


def sizes_taken(backbone: Backbone, in_chans: int, native: int | None = None) -> ImageSizes:
    """Return which image sizes a backbone takes, having run small images through a copy of it.

    Raises:
        ValueError: It takes none.
    """
    network = copy.deepcopy(backbone.network).eval()
    like = next(network.parameters())

    def run(height: int, width: int) -> None:
        features: Sequence[Tensor] = network(like.new_zeros(1, in_chans, height, width))
        if not all(feature.numel() for feature in features):
            raise ValueError("a feature has no pixel")

    return find_image_sizes(run, max(backbone.strides), native or native_side(backbone.network))
