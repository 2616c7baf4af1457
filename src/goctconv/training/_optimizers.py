"""The optimizers of the two phases and their schedules, published or given."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias, cast

import torch
from torch import nn
from torch.optim import LBFGS, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ..graph import named_batch_norms
from ..optim import DynamicWeightDecay
from ..pruning import PruningError, PruningResult
from ._settings import Settings, describe

OptimizerFactory: TypeAlias = Callable[[nn.Module], Optimizer]
"""A function of the model; a class of optimizers, or a partial of one, is given the parameters instead."""

SchedulerFactory: TypeAlias = Callable[[Optimizer, int], LRScheduler]
"""A function of an optimizer and the number of epochs of its phase; its scheduler steps once an epoch."""


def published_optimizer(model: nn.Module, lr: float = 1e-4, weight_decay: float = 5e-3) -> Optimizer:
    """Return the optimizer that CSNet was published with: Adam with β of 0.9 and 0.99.

    Args:
        model: The network.
        lr: The learning rate.
        weight_decay: Of everything but the scales that decay dynamically.

    Example:
        >>> import torch
        >>> from goctconv.training import published_optimizer
        >>> published_optimizer(torch.nn.Linear(2, 3)).defaults["betas"]
        (0.9, 0.99)
    """
    return torch.optim.Adam(model.parameters(), lr, betas=(0.9, 0.99), weight_decay=weight_decay)


def make_optimizer(given: OptimizerFactory | Optimizer, model: nn.Module) -> Optimizer:
    """Return an optimizer of a model.

    Raises:
        TypeError: What was given makes none.
        ValueError: It is one that evaluates the loss several times.
    """
    made = given if isinstance(given, Optimizer) else _called(given, model)
    if not isinstance(made, Optimizer):
        raise TypeError(f"optimizer={describe(given)} gave {made!r}, expected a torch.optim.Optimizer")
    if isinstance(made, LBFGS):
        raise ValueError("LBFGS evaluates the loss of a batch several times: choose an optimizer that does not")  # noqa: TRY004  # it is one
    return made


def _called(given: object, model: nn.Module) -> object:
    if not callable(given):
        raise TypeError(f"optimizer={given!r} must be a torch.optim.Optimizer, or a function of the model")
    inner = given.func if isinstance(given, functools.partial) else given
    if isinstance(inner, type) and issubclass(inner, Optimizer):
        return given(model.parameters())
    return given(model)


def make_scheduler(factory: SchedulerFactory | None, optimizer: Optimizer, epochs: int) -> LRScheduler | None:
    """Return the schedule of a phase, if there is one.

    Raises:
        TypeError: It is none, or one that needs validation.
    """
    if factory is None or not epochs:
        return None
    made = factory(optimizer, epochs)
    if isinstance(made, ReduceLROnPlateau) or not isinstance(made, LRScheduler):
        raise TypeError(
            f"scheduler={describe(factory)} gave a {type(made).__name__}, expected a torch.optim.lr_scheduler whose "
            "step() needs no argument"
        )
    return made


def step_schedule(scheduler: LRScheduler) -> None:
    """Go on to the next epoch, also where a scaler has skipped all steps of this one, of which torch warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
        scheduler.step()


def decayed(
    optimizer: Optimizer, model: nn.Module, runner: nn.Module, settings: Settings, frozen: Collection[str] = ()
) -> DynamicWeightDecay:
    """Wrap an optimizer in dynamic weight decay.

    Args:
        optimizer: Holds the parameters of ``model``.
        model: The network itself.
        runner: The network as it runs, which may be parallel or compiled.
        settings: Those of the run.
        frozen: BatchNorm layers that are not trained.

    Raises:
        ValueError: No BatchNorm is left to learn channels of.
    """
    include, options = settings.include, dict(settings.decay_options)
    if include is None and callable(names := getattr(model, "dynamic_decay_names", None)):
        include = names()
    left = named_batch_norms(model).keys() - set(frozen)
    if not left:
        raise ValueError(
            f"this {type(model).__name__} has no BatchNorm that is trained{' (all are frozen)' * bool(frozen)}, so no "
            "channels can be learned: make it with BatchNorm (norm='batch' for the head of a CSF), or train it as it "
            "is, with weight_decay=0, threshold=None and finetune_epochs=0"
        )
    if include is None and frozen:
        include = sorted(left)
    return DynamicWeightDecay(optimizer, runner, weight_decay=settings.weight_decay, include=include, **options)


def for_finetuning(optimizer: DynamicWeightDecay, result: PruningResult, settings: Settings) -> Optimizer:
    """Return the optimizer of the slim model, at its first learning rates, with no dynamic weight decay.

    Raises:
        PruningError: Its state cannot be cut.
    """
    if settings.finetune_optimizer == "fresh":
        optimizer.state.clear()
    try:
        moved = cast("DynamicWeightDecay", result.transfer_optimizer(optimizer))
    except PruningError as error:
        raise PruningError(f"{error} (finetune_optimizer='fresh')") from error
    moved.remove()
    rewind(moved.optimizer, settings)
    inner: Optimizer = moved.optimizer
    return inner


def rewind(optimizer: Optimizer, settings: Settings) -> None:
    """Set the learning rates to those that training began with, times the factor of fine-tuning."""
    for group in optimizer.param_groups:
        group["lr"] = group.pop("initial_lr", group["lr"]) * settings.finetune_factor


def parameter_names(optimizer: Optimizer, model: nn.Module) -> list[list[str]]:
    """Return the names of the parameters of every param group."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [[names[parameter] for parameter in group["params"]] for group in optimizer.param_groups]


def rebind(optimizer: Optimizer, model: nn.Module, names: list[list[str]]) -> None:
    """Let an optimizer hold parameters of another model, by name, and forget its state."""
    parameters: Mapping[str, Any] = dict(model.named_parameters())
    for group, own in zip(optimizer.param_groups, names, strict=True):
        group["params"] = [parameters[name] for name in own]
        group.pop("param_names", None)
    optimizer.state.clear()
