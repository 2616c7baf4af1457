"""Saving and reloading a pruned network of timm: its plan travels beside its weights, without pickle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import timm
from torch import nn

from ..pruning import PruningPlan, PruningResult, load_plan
from ._checkpoints import load_strictly, read_checkpoint
from ._hub import HubModel

PLAN = "plan.json"
_WEIGHTS = "model.safetensors"


def save_pruned(
    pruned: PruningResult | nn.Module,
    directory: str | os.PathLike[str],
    plan: PruningPlan | None = None,
    *,
    license: str | None = None,  # noqa: A002  # the field's own word
) -> None:
    """Save a pruned network that timm made: ``config.json``, ``model.safetensors`` and ``plan.json``.

    `load_pruned` makes it again. The widths of a CSNet are arguments of it, so that plain timm reloads it too.

    Args:
        pruned: What `goctconv.prune_channels` gave, or a pruned model.
        directory: Where to; it is made if it does not exist.
        plan: What was cut, if a model is given.
        license: Licence of the weights, such as "apache-2.0".

    Raises:
        TypeError: There is no plan.
        ValueError: The network was not made by its name, so that there is no architecture to save.

    Example:
        >>> import tempfile, timm, torch
        >>> from goctconv import load_pruned, prune_channels
        >>> from goctconv.models import save_pruned
        >>> result = prune_channels(timm.create_model("test_resnet"), torch.zeros(1, 3, 64, 64), ratio=0.3, beta="zero")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_pruned(result, folder)
        ...     model = load_pruned(folder)
        >>> torch.equal(model.conv1[0].weight, result.model.conv1[0].weight)
        True
    """
    if isinstance(pruned, PruningResult):
        model, plan = pruned.model, plan or pruned.plan
    else:
        model = pruned
    if not isinstance(model, nn.Module) or not isinstance(plan, PruningPlan):
        raise TypeError("save_pruned takes what prune_channels gave, or a pruned model with plan=")
    if not hasattr(model, "pretrained_cfg"):
        raise ValueError(
            f"this {type(model).__name__} was not made by timm, so no name stands for it: save plan.save(FILE) and its "
            "state dict, and apply load_plan(FILE) to a fresh model before loading that"
        )
    if isinstance(model, HubModel):
        model.save_pretrained(directory, license=license)
    else:
        config: dict[str, Any] = {"pretrained_cfg": {"license": license}} if license else {}
        timm.models.save_for_hf(model, str(directory), model_config=config, safe_serialization=True)
    plan.save(Path(directory) / PLAN)


def load_pruned(directory: str | os.PathLike[str]) -> nn.Module:
    """Return a pruned network that `save_pruned` saved, with its weights.

    Args:
        directory: Holds ``config.json``, ``model.safetensors`` and ``plan.json``.

    Raises:
        FileNotFoundError: One of the files is missing.
        PruningError: The plan is for another model.
        CheckpointError: The weights cannot be read or do not fit.

    Example:
        See `save_pruned`.

        >>> from goctconv import load_pruned
        >>> load_pruned("nowhere")
        Traceback (most recent call last):
        FileNotFoundError: nowhere has no config.json: it was not written by save_pruned
    """
    folder = Path(directory)
    for name in ("config.json", _WEIGHTS, PLAN):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}: it was not written by save_pruned")
    plan = load_plan(folder / PLAN)
    model = timm.create_model(f"local-dir:{folder}", pretrained=False)
    if not isinstance(model, HubModel):
        model = plan.apply(model, inplace=True)
    load_strictly(model, read_checkpoint(folder / _WEIGHTS), str(folder / _WEIGHTS))
    return model
