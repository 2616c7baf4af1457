"""Whether a pruned network, its plan and the name that it was made by belong together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias

import timm
import torch
from torch import nn

from ..pruning import PruningError, PruningPlan
from ._hub import holds_its_widths

_BY_HAND = "save plan.save(FILE) and its state dict, and apply load_plan(FILE) to a fresh model before loading that"
_CURES = (
    "If it was pruned twice, combine the plans: first.plan.then(second.plan). If a layer was replaced, make the model "
    "with it before pruning, as num_classes= and reset_classifier do. Otherwise the plan is of another model"
)
_NOT_PRUNED = "The model is not pruned: give the result of prune_channels, or its model and its plan"

Sizes: TypeAlias = dict[str, tuple[int, ...]]


def check_architecture(model: nn.Module) -> None:
    """Check that a name and arguments that JSON can hold make a network of this architecture.

    Raises:
        ValueError: They do not.
    """
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


def check_fit(model: nn.Module, plan: PruningPlan, folder: Path) -> None:
    """Check that what ``config.json`` in a folder makes, cut as the plan says, is of the model's shape.

    Raises:
        ValueError: It is not; the first tensor that differs is named.
    """
    fresh = _made_by(folder)
    whole, own, name = _sizes(fresh), _sizes(model), type(model).__name__
    if holds_its_widths(model):
        _compare(own, whole, f"what the widths of this {name} make", _CURES)
        _compare_widths(model, plan)
        return
    shapes_only = PruningPlan(plan.masks, plan.removed, plan.steps, plan.report)
    try:
        slim = shapes_only.apply(fresh, inplace=True)
    except PruningError as error:
        raise ValueError(f"the plan does not fit a fresh {name}: {error}. {_CURES}") from error
    _compare(own, _sizes(slim), f"what the plan makes of a fresh {name}", _NOT_PRUNED if own == whole else _CURES)


def _made_by(folder: Path) -> nn.Module:
    """Return the network of a configuration; without values if its constructor needs none."""
    name = f"local-dir:{folder}"
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return timm.create_model(name)
        except (RuntimeError, NotImplementedError):
            return timm.create_model(name)


def _sizes(model: nn.Module) -> Sizes:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _compare(own: Sizes, expected: Sizes, source: str, cures: str) -> None:
    for name in {**expected, **own}:
        if own.get(name) != expected.get(name):
            there, here = (sizes.get(name, "missing") for sizes in (expected, own))
            raise ValueError(f"{name} is {here} in the model, and {there} in {source}. {cures}")


def _compare_widths(model: nn.Module, plan: PruningPlan) -> None:
    """Check that every BatchNorm has the channels that the plan leaves; one without any is gone."""
    modules = dict(model.named_modules())
    for name, layer in plan.report.layers.items():
        width = getattr(modules.get(name), "num_features", 0)
        if width != layer.left:
            cure = _NOT_PRUNED if width == layer.channels else "The plan is of another model"
            raise ValueError(f"{name} has {width} channels in the model, and {layer.left} by the plan. {cure}")
