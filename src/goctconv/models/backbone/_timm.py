"""timm's networks as backbones: their names, configurations and weights."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from typing import Any, cast

import timm
import torch
from timm.layers.format import Format
from torch import nn

from ..._checks import ArgumentError, check_instance
from ..hub import StateDict, UnknownModelError, check_fit, read_checkpoint, shapes_of
from . import _paddle_mobilenet  # noqa: F401  # registers its network with timm

# Networks of convolutions take images of any size and give a stem and four stages, of which the stages are fused.
CONVOLUTIONS: dict[str, Any] = {"levels": (1, 2, 3, 4), "image_sizes": (1, 1, None)}


def check_backbone_name(name: object) -> str:
    """Return the name of one of timm's networks, with or without a tag of weights."""
    known = check_instance("backbone", name, str, "the name of one of timm's networks, such as 'resnet50'")
    architecture = known.partition(".")[0]
    if not timm.is_model(architecture):
        wanted = architecture.lower().replace("-", "_")
        close = difflib.get_close_matches(wanted, timm.list_models(), n=3, cutoff=0.5)
        raise UnknownModelError.of("backbone", known, "network of timm", close, "timm.list_models() lists them")
    return known


def on_backbone(backbone: str | None, family: str, variant: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a variant on a backbone: its own, or, of None, any, whose mean and deviation they get."""
    given = arguments.get("backbone", backbone)
    if given is None:
        expected = f"the name of one of timm's networks, on which {family} stands"
        raise ArgumentError("backbone", None, expected, "pass {backbone='resnet50'}, for example")
    if backbone is not None:
        if str(given).partition(".")[0] != backbone:  # a tag chooses its weights
            cure = f'use create_model("{family}", backbone={given!r}) instead'
            raise ArgumentError("backbone", given, problem=f"is not that of {variant}, {backbone}", cure=cure)
        return {**arguments, "backbone": given}
    cfg = timm.models.get_pretrained_cfg(check_backbone_name(given), allow_unregistered=True)
    if cfg is None:
        return arguments
    told = {"mean": cfg.mean, "std": cfg.std}
    return {**arguments, "pretrained_cfg_overlay": {**told, **(arguments.get("pretrained_cfg_overlay") or {})}}


def backbone_state(name: str, file: str | os.PathLike[str], kwargs: dict[str, Any]) -> StateDict:
    """Return the tensors of a file of a backbone's weights, with or without its classifier, in timm's layout."""
    state = read_checkpoint(file)
    with torch.random.fork_rng(devices=[]):
        whole = timm.create_model(name, **kwargs)
    module = sys.modules[timm.models.model_entrypoint(name.partition(".")[0]).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    if convert is not None:
        state = convert(dict(state), whole)
    cfg = cast("dict[str, Any]", whole.pretrained_cfg)
    expected = shapes_of(whole)
    heads = tuple(f"{layer}." for layer in _names(cfg.get("classifier")))
    for conv in _names(cfg.get("first_conv")):
        weight = f"{conv}.weight"
        if weight in state and weight in expected and state[weight].dim() == 4:  # timm adapts the image's channels
            expected[weight] = (expected[weight][0], state[weight].shape[1], *expected[weight][2:])
    kept = {key: tensor for key, tensor in state.items() if not key.startswith(heads)}
    needed = {key: shape for key, shape in expected.items() if not key.startswith(heads)}
    check_fit(kept, needed, f"{os.fspath(file)}, for the backbone {name},")
    return kept


def first_convs(model: Any) -> list[str]:
    """Return the names of the convolutions of a `BackboneModel` that take the image, as far as timm tells them."""
    modules = dict(model.backbone.named_modules())
    found = []
    for name in _names(model.backbone_cfg.get("first_conv")):
        # timm's extractor may have renamed the outermost layers, or have put "model." before them
        candidates = (name, name.replace(".", "_", 1), f"model.{name}", f"body.{name}")
        found += [f"backbone.{candidate}" for candidate in candidates if candidate in modules][:1]
    return found


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
