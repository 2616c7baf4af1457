"""Folders of pruned networks: the plan travels beside the weights, without pickle."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, TypeAlias, cast

import timm
from torch import nn

from ..._checks import ArgumentError, ArgumentTypeError
from ...pruning import PruningError, PruningPlan, PruningResult, load_plan
from ._checkpoint_formats import load_strictly, read_checkpoint, shapes_of
from ._hub_model import CONFIG, MODULES, WEIGHTS, HubModel, holds_its_widths, write_config, write_weights
from ._registry import without_values
from ._saved_folders import LOCAL, check_saved, read_config

PLAN = "plan.json"
_WITHOUT_ARGUMENTS = (("csf", "backbone."), ("scfnet", ""))  # models, and where their layers without widths begin
_BY_HAND = "save plan.save(FILE) and its state dict, and apply load_plan(FILE) to a fresh model before loading that"
_CURES = (
    "if it was pruned twice, combine the plans, first.plan.then(second.plan); if a layer was replaced, make the model "
    "with it before pruning, as num_classes= and reset_classifier do; otherwise the plan is of another model"
)
_NOT_PRUNED = "the model is not pruned: give the result of prune_channels, or its model and its plan"

Shapes: TypeAlias = dict[str, tuple[int, ...]]


def save_pruned(
    pruned: PruningResult | nn.Module,
    directory: str | os.PathLike[str],
    plan: PruningPlan | None = None,
    *,
    license: str | None = None,  # noqa: A002  # the field's own word
    base: str | None = None,
) -> None:
    """Save a pruned network that timm made: ``config.json``, ``model.safetensors`` and ``plan.json``.

    `load_pruned` and ``goctconv.create_model("local-dir:DIRECTORY")`` make it again. Plain timm ignores the plan, so it
    reloads only networks whose arguments hold their widths: a CSNet, or a CSF whose backbone is whole.

    Args:
        pruned: What `goctconv.prune_channels` gave, or a pruned model.
        directory: Where to; it is made if it does not exist.
        plan: What was cut, if a model is given; of one that was pruned twice ``first.plan.then(second.plan)``.
        license: Licence of the weights, such as "apache-2.0".
        base: The name that the network was made by before pruning. If that was pruned itself, as "local-dir:DIRECTORY"
            may be, the plan of its folder comes before ``plan``.

    Raises:
        ArgumentTypeError: There is no plan.
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
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError("pruned", pruned, "what prune_channels gave, or a pruned model")
    if not isinstance(plan, PruningPlan):
        cure = "pass what prune_channels gave, or the model with its {plan}"
        raise ArgumentTypeError("plan", plan, "a PruningPlan", cure)
    if base is not None:
        plan = _whole_plan(base, plan)
    _check_architecture(model)
    with tempfile.TemporaryDirectory() as draft:
        write_config(model, Path(draft), license)
        _check_fit(model, plan, Path(draft))
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
    check_saved(f"{LOCAL}{folder}")
    if planned_folder(f"{LOCAL}{folder}"):
        return create_planned(folder)
    model = cast("HubModel", timm.create_model(f"{LOCAL}{folder}"))
    load_strictly(model, read_checkpoint(folder / WEIGHTS), str(folder / WEIGHTS))
    model.weights_license = model.pretrained_cfg.get("license")
    return model


def planned_folder(name: str) -> Path | None:
    """Return the folder of a name "local-dir:FOLDER" if a plan in it has the widths, and no argument of the network."""
    folder = Path(name.removeprefix(LOCAL))
    if not name.startswith(LOCAL) or not all((folder / file).is_file() for file in (CONFIG, PLAN)):
        return None
    architecture = read_config(folder)["architecture"]
    if not timm.models.is_model_in_modules(architecture, MODULES):
        return folder
    # No argument holds the widths of a backbone, nor those of an SCFNet's head.
    kinds = [start for model, start in _WITHOUT_ARGUMENTS if timm.models.is_model_in_modules(architecture, (model,))]
    if not kinds:
        return None
    removed = load_plan(folder / PLAN).removed
    return folder if any(channels and name.startswith(kinds[0]) for name, channels in removed.items()) else None


def _whole_plan(name: str, plan: PruningPlan) -> PruningPlan:
    """Return the plan from the fresh network on, where the named one was pruned before."""
    before = planned_folder(name)
    if before is None:
        return plan
    return load_plan(before / PLAN).then(plan) if plan.steps or plan.masked else load_plan(before / PLAN)


def create_planned(folder: Path, weights: str | os.PathLike[str] | None = None, **kwargs: Any) -> nn.Module:
    """Return the network of a folder, cut by its plan, with its weights or those of another file."""
    if kwargs.get("features_only"):
        problem = f"does not suit {folder}, which holds a pruned network, whose plan is for the whole of it"
        cure = "leave it out and take its forward_intermediates"
        raise ArgumentError("features_only", True, problem=problem, cure=cure)
    model = load_plan(folder / PLAN).apply(timm.create_model(f"{LOCAL}{folder}", **kwargs), inplace=True)
    file = folder / WEIGHTS if weights is None else Path(weights)
    load_strictly(model, read_checkpoint(file), str(file))
    if isinstance(model, HubModel) and weights is None:
        model.weights_license = model.pretrained_cfg.get("license")
    return model


def _check_architecture(model: nn.Module) -> None:
    """Check that a name and arguments that JSON can hold make a network of this architecture."""
    kind = type(model).__name__
    if not hasattr(model, "pretrained_cfg"):
        raise ValueError(f"this {kind} was not made by timm, so no name stands for it: {_BY_HAND}")
    if not hasattr(model, "num_classes"):
        raise ValueError(
            f"this {kind} was made with features_only=True, which the folder cannot say: prune the whole network and "
            f"take its forward_intermediates, or {_BY_HAND}"
        )
    for name, value in getattr(model, "_model_args", {}).items():
        if not _is_plain(value):
            raise ValueError(
                f"{name}={value!r} of this {kind} cannot be written as JSON: make the model with a name in place of it "
                f"where timm takes one, such as act_layer='silu', or {_BY_HAND}"
            )


def _is_plain(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _check_fit(model: nn.Module, plan: PruningPlan, folder: Path) -> None:
    """Check that what ``config.json`` in a folder makes, cut as the plan says, is of the model's shape."""
    fresh = without_values(lambda: timm.create_model(f"{LOCAL}{folder}"))
    whole, own, name = shapes_of(fresh), shapes_of(model), type(model).__name__
    if holds_its_widths(model):
        _compare(own, whole, f"what the widths of this {name} make", _CURES)
        _compare_widths(model, plan)
        return
    shapes_only = PruningPlan(plan.masks, plan.removed, plan.steps, plan.report)
    try:
        slim = shapes_only.apply(fresh, inplace=True)
    except PruningError as error:
        raise ValueError(f"the plan does not fit a fresh {name}: {error}: {_CURES}") from error
    _compare(own, shapes_of(slim), f"what the plan makes of a fresh {name}", _NOT_PRUNED if own == whole else _CURES)


def _compare(own: Shapes, expected: Shapes, source: str, cures: str) -> None:
    for name in {**expected, **own}:
        if own.get(name) != expected.get(name):
            there, here = (shapes.get(name, "missing") for shapes in (expected, own))
            raise ValueError(f"{name} is {here} in the model, and {there} in {source}: {cures}")


def _compare_widths(model: nn.Module, plan: PruningPlan) -> None:
    """Check that every BatchNorm has the channels that the plan leaves; one without any is gone."""
    modules = dict(model.named_modules())
    for name, layer in plan.report.layers.items():
        width = getattr(modules.get(name), "num_features", 0)
        if width != layer.left:
            cure = _NOT_PRUNED if width == layer.channels else "the plan is of another model"
            raise ValueError(f"{name} has {width} channels in the model, and {layer.left} by the plan: {cure}")
