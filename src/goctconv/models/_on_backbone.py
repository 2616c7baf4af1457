"""What registered networks on a backbone share: which backbone they may have, and what images it knows."""

from __future__ import annotations

from typing import Any

import timm

from ._backbone import check_backbone_name

# Networks of convolutions take images of any size and give a stem and four stages, of which the stages are fused.
CONVOLUTIONS: dict[str, Any] = {"levels": (1, 2, 3, 4), "image_sizes": (1, 1, None)}


def on_own_backbone(variant: str, backbone: str, arguments: dict[str, Any], create: str) -> dict[str, Any]:
    """Return the arguments of a variant that stands on one backbone, whose weights alone may be chosen.

    Args:
        variant: Its name.
        backbone: The name of its backbone.
        arguments: Those that it is made with.
        create: The function that takes other backbones.

    Raises:
        ValueError: The arguments name another backbone.
    """
    given = arguments.get("backbone", backbone)
    if str(given).partition(".")[0] != backbone:
        raise ValueError(f"backbone={given!r}: {variant} stands on {backbone}; use {create}({given!r}) instead")
    return {**arguments, "backbone": given}


def on_any_backbone(family: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a network on the backbone that they name, with its mean and deviation of images.

    Args:
        family: The name of the network.
        arguments: Those that it is made with.

    Raises:
        ValueError: They name no backbone.
        UnknownModelError: timm has no such network.
    """
    if "backbone" not in arguments:
        raise ValueError(f"{family} needs the name of one of timm's networks: backbone='resnet50', for example")
    check_backbone_name(arguments["backbone"])
    cfg = timm.models.get_pretrained_cfg(arguments["backbone"], allow_unregistered=True)
    if cfg is None:
        return arguments
    told = {"mean": cfg.mean, "std": cfg.std}
    return {**arguments, "pretrained_cfg_overlay": {**told, **(arguments.get("pretrained_cfg_overlay") or {})}}
