"""Optimizers and schedules of the two phases: with dynamic weight decay, and of the slim network without it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Collection
from typing import TypeAlias, cast

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from .._checks import ArgumentError, ArgumentTypeError
from ..graph import named_batch_norms
from ..optim import DynamicWeightDecay
from ..pruning import PruningResult
from ._config import TrainingConfig
from ._optimizers import create_optimizer
from ._schedules import create_schedule

SchedulerFactory: TypeAlias = Callable[[Optimizer, int], LRScheduler]
"""A function of an optimizer and the number of epochs of its phase; its scheduler steps once an epoch."""


def optimizer_of(config: TrainingConfig) -> Callable[[nn.Module], Optimizer]:
    """Return the function that makes the optimizer of a configuration."""
    return functools.partial(
        create_optimizer,
        name=config.optimizer,
        lr=config.lr,
        weight_decay=config.ordinary_weight_decay,
        betas=config.betas,
        backbone_rate=config.backbone_rate,
    )


def scheduler_of(config: TrainingConfig) -> SchedulerFactory:
    """Return the function that makes the schedule of a configuration."""
    return functools.partial(create_schedule, name=config.schedule, milestones=config.milestones, warmup=config.warmup)


def make_scheduler(factory: SchedulerFactory, optimizer: Optimizer, epochs: int) -> LRScheduler | None:
    """Return the schedule of a phase, if it has epochs.

    Raises:
        ArgumentTypeError: It is none, or one that needs validation.
    """
    if not epochs:
        return None
    made = factory(optimizer, epochs)
    if isinstance(made, ReduceLROnPlateau) or not isinstance(made, LRScheduler):
        raise ArgumentTypeError(
            "scheduler",
            factory,
            problem=f"gave a {type(made).__name__}",
            expected="a torch.optim.lr_scheduler whose step() needs no argument",
        )
    return made


def step_schedule(scheduler: LRScheduler) -> None:
    """Go on to the next epoch, also where a scaler has skipped all steps of this one, of which torch warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
        scheduler.step()


def decayed(
    optimizer: Optimizer, model: nn.Module, runner: nn.Module, config: TrainingConfig, frozen: Collection[str] = ()
) -> DynamicWeightDecay:
    """Wrap an optimizer in dynamic weight decay.

    Args:
        optimizer: Holds the parameters of ``model``.
        model: The network itself.
        runner: The network as it runs, which may be parallel or compiled.
        config: Of the run.
        frozen: BatchNorm layers that are not trained.

    Raises:
        ArgumentError: No BatchNorm is left to learn channels of.
    """
    include = config.include
    if include is None and callable(names := getattr(model, "dynamic_decay_names", None)):
        include = names()
    left = named_batch_norms(model).keys() - set(frozen)
    if not left:
        frozen_too = " (all are frozen)" if frozen else ""
        raise ArgumentError(
            "model",
            model,
            problem=f"has no BatchNorm that is trained{frozen_too}, so no channels can be learned",
            cure="make it with BatchNorm (norm='batch' for the head of a CSF), or train it as it is, with "
            "{weight_decay=0}, {threshold=None} and {finetune_epochs=0}",
        )
    if include is None and frozen:
        include = sorted(left)
    return DynamicWeightDecay(
        optimizer, runner, weight_decay=config.weight_decay, include=include, **config.decay_options
    )


def for_finetuning(optimizer: DynamicWeightDecay, result: PruningResult, config: TrainingConfig) -> Optimizer:
    """Return the optimizer of the slim model, at its first learning rates, with no dynamic weight decay.

    Raises:
        PruningError: Its state cannot be cut.
    """
    if config.finetune_optimizer == "fresh":
        optimizer.state.clear()
    moved = cast("DynamicWeightDecay", result.transfer_optimizer(optimizer))
    moved.remove()
    rewind(moved.optimizer, config)
    inner: Optimizer = moved.optimizer
    return inner


def rewind(optimizer: Optimizer, config: TrainingConfig) -> None:
    """Set the learning rates to those that training began with, times the factor of fine-tuning."""
    for group in optimizer.param_groups:
        group["lr"] = group.pop("initial_lr", group["lr"]) * config.finetune_factor
