"""``goctconv learn``: the network to begin with."""

from pathlib import Path
from typing import Any

import timm
from torch import nn

from .._arguments import parse_model_args
from .._command import CommandError
from .._model import create_model
from ._config import CHECKPOINTS, Config

_SIDE = 224  # where neither option nor network tell of a size


def make_network(config: Config) -> nn.Module:
    """Return the network that the options ask for; one that goes on from a checkpoint needs no weights to begin with.

    Raises:
        CommandError: It cannot be made, or its weights cannot be loaded.
    """
    arguments = parse_model_args(config.model_args)
    return create_model(config.model, weights=config.weights, arguments={**arguments, **_backbone(config, arguments)})


def _backbone(config: Config, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return what the network is told of its backbone's weights."""
    asked = config.backbone_weights
    if asked == "none" or config.weights is not None or config.model.startswith(("local-dir:", "hf-hub:")):
        return {}  # or the whole network has its weights already
    if not timm.models.is_model_in_modules(config.model.partition(".")[0], ("csf", "scfnet")):
        raise CommandError(
            f"--backbone-weights {asked}: {config.model} has no backbone: add --backbone-weights none, or take "
            "csf_res2net50, or csf with --model-args backbone=NAME."
        )
    if "pretrained_backbone" in arguments:
        raise CommandError("--model-args: pretrained_backbone is set by --backbone-weights: leave it out.")
    if any((config.output / CHECKPOINTS).glob("[0-9]*")):
        return {}
    if isinstance(asked, Path) and not asked.is_file():
        raise CommandError(f"--backbone-weights {asked}: there is no such file: check the path.")
    return {"pretrained_backbone": True if asked == "timm" else asked}


def count_size(model: nn.Module, config: Config) -> int | tuple[int, int]:
    """Return the size at which operations are counted: the first option, or that which the network is made for."""
    size = config.size[0]
    if size == "own":
        height, width = (getattr(model, "pretrained_cfg", None) or {}).get("input_size", (3, _SIDE, _SIDE))[1:]
        return int(height), int(width)
    return size
