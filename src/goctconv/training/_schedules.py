"""Schedules of the learning rate: by name, or given as functions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, MultiStepLR, ReduceLROnPlateau

from .._checks import ArgumentTypeError, check_choice, check_integer, check_number

SchedulerFactory: TypeAlias = Callable[[Optimizer, int], LRScheduler]
"""A function of an optimizer and the number of epochs of its phase; its scheduler steps once an epoch."""

PUBLISHED_MILESTONES = (2 / 3, 5 / 6)  # 200 and 250 of 300 epochs
PUBLISHED_WARMUP = 5  # epochs of 69, of KD-SCFNet


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
) -> LRScheduler:
    """Return a schedule of the learning rates by its name; it steps once an epoch.

    - ``"step"`` multiplies the learning rates by ``factor`` after each of the ``milestones``: CSNet's and CSF's.
    - ``"cosine"`` follows half a cosine; the last epoch has the smallest learning rate, above 0.
    - ``"warmup-cosine"`` rises linearly for ``warmup`` epochs and follows half a cosine then: KD-SCFNet's.
    - ``"constant"`` leaves the learning rates as they are.

    Args:
        optimizer: Whose learning rates change.
        epochs: Of the phase.
        name: Of the schedule.
        milestones: Of "step": shares of the epochs, each between 0 and 1.
        factor: Of "step": what the learning rates are multiplied by.
        warmup: Of "warmup-cosine": epochs in which they rise; half of a phase that has fewer than twice as many.
        start: Of "warmup-cosine": what share of the learning rates the first epoch has.
        end: Of "warmup-cosine": what share the last epoch has.

    Raises:
        ArgumentError: An unknown name, a milestone that is no share, a negative ``warmup``, a share below 0.

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
    return make(optimizer, epochs, milestones=milestones, factor=factor, warmup=warmup, start=start, end=end)


def _step(optimizer: Optimizer, epochs: int, *, milestones: Sequence[float], factor: float, **_: object) -> LRScheduler:
    return MultiStepLR(optimizer, [max(1, math.floor(share * epochs + 0.5)) for share in milestones], factor)


def _cosine(optimizer: Optimizer, epochs: int, **_: object) -> LRScheduler:
    return CosineAnnealingLR(optimizer, epochs)


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


def _constant(optimizer: Optimizer, epochs: int, **_: object) -> LRScheduler:  # noqa: ARG001  # of every schedule
    return LambdaLR(optimizer, lambda _: 1.0)


SCHEDULES: dict[str, Callable[..., LRScheduler]] = {
    "step": _step,
    "cosine": _cosine,
    "warmup-cosine": _warmup_cosine,
    "constant": _constant,
}
"""Functions of an optimizer, the number of epochs and the options of all schedules, of which each takes its own."""


def make_scheduler(factory: SchedulerFactory, optimizer: Optimizer, epochs: int) -> LRScheduler | None:
    """Return the schedule of a phase, if it has epochs."""
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
