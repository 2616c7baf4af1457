"""Optimizers by name, with a learning rate of its own for the backbone, and optimizers that are given."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim import LBFGS, Optimizer

from .._checks import ArgumentError, ArgumentTypeError, check_choice, check_number

OptimizerFactory: TypeAlias = Callable[[nn.Module], Optimizer]
"""A function of the model; a class of optimizers, or a partial of one, is given the parameters instead."""

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": functools.partial(torch.optim.SGD, momentum=0.9, nesterov=False),
    "nesterov": functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True),
}
BACKBONE = "backbone"
"""The attribute of a model that holds its pretrained part."""

_WITH_BETAS = {"adam", "adamw"}


def create_optimizer(
    model: nn.Module,
    name: str = "adam",
    *,
    lr: float = 1e-4,
    weight_decay: float = 0.0,
    betas: tuple[float, ...] = (0.9, 0.999),
    backbone_rate: float = 1.0,
) -> Optimizer:
    """Return an optimizer of a network by its name; a pretrained backbone may learn more slowly.

    Parameters that are frozen (``requires_grad=False``) are left out.

    Args:
        model: The network. Its backbone is what its attribute ``backbone`` holds.
        name: "adam"; "adamw", which leaves biases, normalisations and what the model's ``no_weight_decay()`` names
            without weight decay, as is usual with it; "sgd", with momentum of 0.9; "nesterov", with Nesterov's.
        lr: The learning rate.
        weight_decay: Of everything but the γ that decay dynamically.
        betas: Of Adam and AdamW; CSNet was published with 0.9 and 0.99.
        backbone_rate: The backbone learns with this times ``lr``.

    Raises:
        ArgumentError: There is no such optimizer; a rate that is not above 0; a ``backbone_rate`` other than 1 for a
            model without a backbone.

    Example:
        >>> import goctconv
        >>> from goctconv.training import create_optimizer
        >>> optimizer = create_optimizer(goctconv.create_model("test_csf_resnet"), "adamw", lr=1e-3, backbone_rate=0.1)
        >>> sorted({group["lr"] for group in optimizer.param_groups})
        [0.0001, 0.001]
    """
    make = OPTIMIZERS[check_choice("name", name, tuple(OPTIMIZERS))]
    check_number(
        "backbone_rate", backbone_rate, above=0, cure="to freeze a backbone, set its parameters' requires_grad to False"
    )
    if backbone_rate != 1 and not has_backbone(model):
        raise ArgumentError(
            "backbone_rate",
            backbone_rate,
            problem=f"is for a pretrained backbone, and this {type(model).__name__} has no attribute {BACKBONE!r}",
            cure="pass {backbone_rate=1}",
        )
    groups = _groups(model, lr, backbone_rate, weight_decay, skip_norms=name == "adamw")
    options: dict[str, Any] = {"betas": betas} if name in _WITH_BETAS else {}
    return make(groups, lr, weight_decay=weight_decay, **options)


def _groups(
    model: nn.Module, lr: float, backbone_rate: float, weight_decay: float, *, skip_norms: bool
) -> list[dict[str, object]]:
    """Return param groups, those that learn at the full rate first; one for all where none differ."""
    named = getattr(model, "no_weight_decay", None)
    without = set(named()) if skip_norms and callable(named) else set()
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_slow = backbone_rate != 1 and name.startswith(f"{BACKBONE}.")
            is_free = skip_norms and (parameter.dim() <= 1 or name in without)
            groups.setdefault((is_slow, is_free), []).append(parameter)
    return [
        {
            "params": groups[is_slow, is_free],
            "lr": lr * backbone_rate if is_slow else lr,
            "weight_decay": 0.0 if is_free else weight_decay,
        }
        for is_slow, is_free in sorted(groups)
    ]


def has_backbone(model: nn.Module) -> bool:
    """Whether a model says which part of it is a pretrained backbone."""
    return isinstance(getattr(model, BACKBONE, None), nn.Module)


def make_optimizer(given: OptimizerFactory | Optimizer, model: nn.Module) -> Optimizer:
    """Return an optimizer of a model that the user gives."""
    made = given if isinstance(given, Optimizer) else _called(given, model)
    if not isinstance(made, Optimizer):
        raise ArgumentTypeError("optimizer", given, problem=f"gave {made!r}", expected="a torch.optim.Optimizer")
    if isinstance(made, LBFGS):
        raise ArgumentError(
            "optimizer",
            "LBFGS",
            problem="evaluates the loss of a batch several times",
            cure="choose an optimizer that does not",
        )
    return made


def _called(given: object, model: nn.Module) -> object:
    if not callable(given):
        raise ArgumentTypeError("optimizer", given, "a torch.optim.Optimizer, or a function of the model")
    inner = given.func if isinstance(given, functools.partial) else given
    if isinstance(inner, type) and issubclass(inner, Optimizer):
        return given(model.parameters())
    return given(model)


def parameter_names(optimizer: Optimizer, model: nn.Module) -> list[list[str]]:
    """Return the names of the parameters of every param group."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [[names[parameter] for parameter in group["params"]] for group in optimizer.param_groups]


def rebind(optimizer: Optimizer, model: nn.Module, names: list[list[str]]) -> None:
    """Replace an optimizer's parameters by those of another model, by name, and clear its state."""
    parameters: dict[str, Any] = dict(model.named_parameters())
    for group, own in zip(optimizer.param_groups, names, strict=True):
        group["params"] = [parameters[name] for name in own]
        group.pop("param_names", None)
    optimizer.state.clear()
