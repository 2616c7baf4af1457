"""Saving and reloading a pruned network of timm: its plan travels beside its weights, without pickle."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, cast

import timm
from torch import nn

from ..pruning import PruningPlan, PruningResult, load_plan
from ._checkpoints import load_strictly, read_checkpoint
from ._hub import CONFIG, MODULES, WEIGHTS, HubModel, holds_its_widths, write_config, write_weights
from ._pruned_check import check_architecture, check_fit

PLAN = "plan.json"
_LOCAL = "local-dir:"
_WITHOUT_ARGUMENTS = (("csf", "backbone."), ("scfnet", ""))  # models, and where their layers without widths begin


def save_pruned(
    pruned: PruningResult | nn.Module,
    directory: str | os.PathLike[str],
    plan: PruningPlan | None = None,
    *,
    license: str | None = None,  # noqa: A002  # the field's own word
) -> None:
    """Save a pruned network that timm made: ``config.json``, ``model.safetensors`` and ``plan.json``.

    `load_pruned` and ``goctconv.create_model("local-dir:DIRECTORY")`` make it again. Plain timm cannot, for it knows
    nothing of the plan; but for a CSNet, and for a CSF whose backbone is whole, plain timm will do: their widths are
    arguments of them.

    Args:
        pruned: What `goctconv.prune_channels` gave, or a pruned model.
        directory: Where to; it is made if it does not exist.
        plan: What was cut, if a model is given; of one that was pruned twice ``first.plan.then(second.plan)``.
        license: Licence of the weights, such as "apache-2.0".

    Raises:
        TypeError: There is no plan.
        ValueError: The network was not made by its name, or with arguments that JSON cannot hold, so that there is no
            architecture to save; or model and plan do not belong together. Nothing has been written then.

    Example:
        >>> import tempfile, timm, torch
        >>> from goctconv import load_pruned, prune_channels
        >>> from goctconv.models import save_pruned
        >>> result = prune_channels(timm.create_model("test_resnet"), torch.zeros(1, 3, 64, 64), ratio=0.3)
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
    check_architecture(model)
    with tempfile.TemporaryDirectory() as draft:
        write_config(model, Path(draft), license)
        check_fit(model, plan, Path(draft))
    folder = Path(directory)
    if isinstance(model, HubModel) and holds_its_widths(model):
        model.save_pretrained(folder, license=license)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_config(model, folder, license or getattr(model, "weights_license", None))
        write_weights(model, folder)
    plan.save(folder / PLAN)


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
    for name in (CONFIG, WEIGHTS, PLAN):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}: it was not written by save_pruned")
    if planned_folder(f"{_LOCAL}{folder}"):
        return create_planned(folder)
    model = cast("HubModel", timm.create_model(f"{_LOCAL}{folder}"))
    load_strictly(model, read_checkpoint(folder / WEIGHTS), str(folder / WEIGHTS))
    model.weights_license = model.pretrained_cfg.get("license")
    return model


def planned_folder(name: str) -> Path | None:
    """Return the folder of a name "local-dir:FOLDER" if a plan in it has the widths, and no argument of the network."""
    folder = Path(name.removeprefix(_LOCAL))
    if not name.startswith(_LOCAL) or not all((folder / file).is_file() for file in (CONFIG, PLAN)):
        return None
    architecture = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("architecture", "")
    if not timm.models.is_model_in_modules(architecture, MODULES):
        return folder
    # No argument holds the widths of a backbone, nor those of an SCFNet's head.
    kinds = [start for model, start in _WITHOUT_ARGUMENTS if timm.models.is_model_in_modules(architecture, (model,))]
    if not kinds:
        return None
    removed = load_plan(folder / PLAN).removed
    return folder if any(channels and name.startswith(kinds[0]) for name, channels in removed.items()) else None


def whole_plan(name: str, plan: PruningPlan) -> PruningPlan:
    """Return the plan from the fresh network on, where the named one was pruned before."""
    before = planned_folder(name)
    if before is None:
        return plan
    return load_plan(before / PLAN).then(plan) if plan.steps or plan.masked else load_plan(before / PLAN)


def create_planned(folder: Path, weights: str | os.PathLike[str] | None = None, **kwargs: Any) -> nn.Module:
    """Return the network of a folder, cut by its plan, with its weights or those of another file.

    Raises:
        ValueError: It is to give features only, which the plan is not for.
        PruningError: The plan is for another model.
        CheckpointError: The weights cannot be read or do not fit.
    """
    if kwargs.get("features_only"):
        raise ValueError(
            f"features_only=True: {folder} holds a pruned network, whose plan is for the whole of it: leave it out and "
            "take its forward_intermediates"
        )
    model = load_plan(folder / PLAN).apply(timm.create_model(f"{_LOCAL}{folder}", **kwargs), inplace=True)
    file = folder / WEIGHTS if weights is None else Path(weights)
    load_strictly(model, read_checkpoint(file), str(file))
    if isinstance(model, HubModel) and weights is None:
        model.weights_license = model.pretrained_cfg.get("license")
    return model
