"""Optimizers and schedules of the learning rate: by name, or given as objects and functions."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, MultiStepLR, ReduceLROnPlateau

from .._checks import ArgumentError, ArgumentTypeError, check_choice, check_integer, check_number

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

WITH_BETAS = {"adam", "adamw"}
_PARAMS = "params"

SchedulerFactory: TypeAlias = Callable[[Optimizer, int], LRScheduler]
"""A function of an optimizer and the number of epochs of its phase; its scheduler steps once an epoch."""

PUBLISHED_MILESTONES = (2 / 3, 5 / 6)  # 200 and 250 of 300 epochs
PUBLISHED_WARMUP = 5  # epochs of 69, of KD-SCFNet
COOLDOWN = 10  # epochs


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
    cure = "to freeze a backbone, set its parameters' requires_grad to False"
    check_number("backbone_rate", backbone_rate, above=0, cure=cure)
    if backbone_rate != 1:
        check_backbone(model, "backbone_rate", backbone_rate, "pass {backbone_rate=1}")
    groups = _groups(model, lr, backbone_rate, weight_decay, skip_norms=name == "adamw")
    options: dict[str, Any] = {"betas": betas} if name in WITH_BETAS else {}
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
    rates, decays = (lr, lr * backbone_rate), (weight_decay, 0.0)
    return [
        {"params": groups[is_slow, is_free], "lr": rates[is_slow], "weight_decay": decays[is_free]}
        for is_slow, is_free in sorted(groups)
    ]


def check_backbone(model: nn.Module, argument: str, value: object, cure: str) -> None:
    """Check, for the sake of an argument, that a model says which part of it is a pretrained backbone."""
    if not isinstance(getattr(model, BACKBONE, None), nn.Module):
        problem = f"is for a pretrained backbone, and this {type(model).__name__} has no attribute {BACKBONE!r}"
        raise ArgumentError(argument, value, problem=problem, cure=cure)


def make_optimizer(given: OptimizerFactory | Optimizer, model: nn.Module) -> Optimizer:
    """Return an optimizer of a model that the user gives."""
    if not isinstance(given, Optimizer | Callable):
        raise ArgumentTypeError("optimizer", given, "a torch.optim.Optimizer, or a function of the model")
    inner = given.func if isinstance(given, functools.partial) else given
    is_class = isinstance(inner, type) and issubclass(inner, Optimizer)
    argument: Any = model.parameters() if is_class else model
    made = given if isinstance(given, Optimizer) else given(argument)
    if not isinstance(made, Optimizer):
        raise ArgumentTypeError("optimizer", given, problem=f"gave {made!r}", expected="a torch.optim.Optimizer")
    if isinstance(made, LBFGS):
        problem = "evaluates the loss of a batch several times"
        raise ArgumentError("optimizer", "LBFGS", problem=problem, cure="choose an optimizer that does not")
    return made


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


def create_schedule(
    optimizer: Optimizer,
    epochs: int,
    name: str = "step",
    *,
    milestones: Sequence[float] = PUBLISHED_MILESTONES,
    factor: float = 0.1,
    warmup: int = PUBLISHED_WARMUP,
    start: float = 0.01,
    end: float = 0.01,
    cooldown: int = COOLDOWN,
) -> LRScheduler:
    """Return a schedule of the learning rates by its name; it steps once an epoch.

    - ``"step"`` multiplies the learning rates by ``factor`` after each of the ``milestones``: CSNet's and CSF's.
    - ``"cosine"`` follows half a cosine; the last epoch has the smallest learning rate, above 0.
    - ``"warmup-cosine"`` rises linearly for ``warmup`` epochs and follows half a cosine then: KD-SCFNet's.
    - ``"constant"`` leaves the learning rates as they are.
    - ``"cooldown"`` leaves them as they are, but for the last ``cooldown`` epochs, in which they fall linearly; the
      last has the smallest learning rate, above 0. A run that has ended can go on with more epochs from where they
      began to fall.

    Args:
        optimizer: Whose learning rates change.
        epochs: Of the phase.
        name: Of the schedule.
        milestones: Of "step": shares of the epochs, each between 0 and 1.
        factor: Of "step": what the learning rates are multiplied by.
        warmup: Of "warmup-cosine": epochs in which they rise; half of a phase that has fewer than twice as many.
        start: Of "warmup-cosine": what share of the learning rates the first epoch has.
        end: Of "warmup-cosine": what share the last epoch has.
        cooldown: Of "cooldown": epochs in which they fall; all of a phase that has fewer.

    Raises:
        ArgumentError: An unknown name, a milestone that is no share, a negative ``warmup`` or ``cooldown``, a share
            below 0.

    Example:
        >>> import torch
        >>> from goctconv.training import create_schedule
        >>> optimizer = torch.optim.SGD(torch.nn.Linear(2, 3).parameters(), lr=0.064)
        >>> sorted(create_schedule(optimizer, 300).milestones)
        [200, 250]
        >>> schedule = create_schedule(optimizer, 69, "warmup-cosine")
        >>> rates = []
        >>> for _ in range(69):
        ...     rates.append(round(optimizer.param_groups[0]["lr"], 5))
        ...     optimizer.step()
        ...     schedule.step()
        >>> rates[0], rates[5], rates[-1]
        (0.00064, 0.064, 0.00064)
    """
    make = SCHEDULES[check_choice("name", name, tuple(SCHEDULES))]
    for share in milestones:
        check_number("milestones", share, above=0, below=1, cure="pass shares of the epochs, such as 2/3")
    check_integer("warmup", warmup, 0)
    check_number("start", start, above=0)
    check_number("end", end, above=0)
    check_integer("cooldown", cooldown, 0)
    options = {"milestones": milestones, "factor": factor, "warmup": warmup, "start": start, "end": end}
    return make(optimizer, epochs, cooldown=cooldown, **options)


def _at_milestones(
    optimizer: Optimizer, epochs: int, *, milestones: Sequence[float], factor: float, **_: object
) -> LRScheduler:
    return MultiStepLR(optimizer, [max(1, math.floor(share * epochs + 0.5)) for share in milestones], factor)


def _warmup_cosine(
    optimizer: Optimizer, epochs: int, *, warmup: int, start: float, end: float, **_: object
) -> LRScheduler:
    rising = min(warmup, epochs // 2)
    falling = max(1, epochs - 1 - rising)

    def share(epoch: int) -> float:
        if epoch < rising:
            return start + (1 - start) * epoch / rising
        return end + (1 - end) * (1 + math.cos(math.pi * min(1.0, (epoch - rising) / falling))) / 2

    return LambdaLR(optimizer, share)


def _cooling(optimizer: Optimizer, epochs: int, *, cooldown: int, **_: object) -> LRScheduler:
    falling = min(cooldown, epochs)
    return LambdaLR(optimizer, lambda epoch: min(1.0, max(epochs - epoch, 1) / (falling + 1)))


SCHEDULES: dict[str, Callable[..., LRScheduler]] = {
    "step": _at_milestones,
    "cosine": lambda optimizer, epochs, **_: CosineAnnealingLR(optimizer, epochs),
    "warmup-cosine": _warmup_cosine,
    "constant": lambda optimizer, _epochs, **_: LambdaLR(optimizer, lambda _: 1.0),
    "cooldown": _cooling,
}
"""Functions of an optimizer, the number of epochs and the options of all schedules, of which each takes its own."""


def make_scheduler(factory: SchedulerFactory, optimizer: Optimizer, epochs: int) -> LRScheduler | None:
    """Return the schedule of a phase, if it has epochs."""
    if not epochs:
        return None
    made = factory(optimizer, epochs)
    if isinstance(made, ReduceLROnPlateau) or not isinstance(made, LRScheduler):
        expected = "a torch.optim.lr_scheduler whose step() needs no argument"
        raise ArgumentTypeError("scheduler", factory, expected, problem=f"gave a {type(made).__name__}")
    return made


def values_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return copies of the options of the param groups: learning rates and whatever else a schedule may change."""
    return [
        {
            name: value.clone() if isinstance(value, Tensor) else value
            for name, value in group.items()
            if name != _PARAMS
        }
        for group in optimizer.param_groups
    ]


def set_values(optimizer: Optimizer, values: list[dict[str, Any]]) -> None:
    """Set the options of the param groups to what `values_of` returned."""
    for group, own in zip(optimizer.param_groups, values, strict=True):
        for name in group.keys() - own.keys() - {_PARAMS}:
            del group[name]
        group.update(own)


def step_schedule(scheduler: LRScheduler) -> None:
    """Go on to the next epoch, also where a scaler has skipped all steps of this one, of which torch warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
        scheduler.step()
