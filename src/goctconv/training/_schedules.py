"""Schedules of the learning rate: functions of an optimizer and the number of epochs of a phase."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, MultiStepLR

PUBLISHED_MILESTONES = (2 / 3, 5 / 6)  # 200 and 250 of 300 epochs
PUBLISHED_WARMUP = 5  # epochs of 69


def step_schedule(
    optimizer: Optimizer, epochs: int, milestones: Sequence[float] = PUBLISHED_MILESTONES, factor: float = 0.1
) -> LRScheduler:
    """Return a schedule that multiplies the learning rates after some of the epochs.

    Args:
        optimizer: Whose learning rates change.
        epochs: Of this phase.
        milestones: After which shares of them, each between 0 and 1.
        factor: What they are multiplied by.

    Raises:
        ValueError: A milestone that is no share.

    Example:
        >>> import functools, torch
        >>> from goctconv.training import step_schedule
        >>> schedule = functools.partial(step_schedule, milestones=(15 / 24,))  # CSF's
        >>> sorted(schedule(torch.optim.Adam(torch.nn.Linear(2, 3).parameters()), 24).milestones)
        [15]
    """
    if not all(0 < share < 1 for share in milestones):
        raise ValueError(f"milestones={tuple(milestones)} must be shares of the epochs between 0 and 1, such as 2/3")
    return MultiStepLR(optimizer, [max(1, math.floor(share * epochs + 0.5)) for share in milestones], factor)


def published_schedule(optimizer: Optimizer, epochs: int) -> LRScheduler:
    """Return the schedule that CSNet was published with: a tenth after 2/3, and again after 5/6 of the epochs.

    Args:
        optimizer: Whose learning rates change.
        epochs: Of this phase.

    Example:
        >>> import torch
        >>> from goctconv.training import published_optimizer, published_schedule
        >>> sorted(published_schedule(published_optimizer(torch.nn.Linear(2, 3)), 300).milestones)
        [200, 250]
    """
    return step_schedule(optimizer, epochs)


def cosine_schedule(optimizer: Optimizer, epochs: int) -> LRScheduler:
    """Return a schedule along half a cosine: the last epoch has the smallest learning rate, above 0.

    Args:
        optimizer: Whose learning rates change.
        epochs: Of this phase.

    Example:
        >>> import torch
        >>> from goctconv.training import cosine_schedule
        >>> optimizer = torch.optim.SGD(torch.nn.Linear(2, 3).parameters(), 1.0)
        >>> schedule = cosine_schedule(optimizer, 4)
        >>> rates = []
        >>> for _ in range(4):
        ...     rates.append(round(optimizer.param_groups[0]["lr"], 3))
        ...     optimizer.step()
        ...     schedule.step()
        >>> rates
        [1.0, 0.854, 0.5, 0.146]
    """
    return CosineAnnealingLR(optimizer, epochs)


def warmup_cosine_schedule(
    optimizer: Optimizer, epochs: int, *, warmup: int = PUBLISHED_WARMUP, start: float = 0.01, end: float = 0.01
) -> LRScheduler:
    """Return a schedule of linear warm-up, and half a cosine after it; as KD-SCFNet was published.

    Args:
        optimizer: Whose learning rates change.
        epochs: Of this phase.
        warmup: Epochs in which rates rise; of a phase of fewer than twice as many, half of them.
        start: What share of the rates the first epoch has.
        end: What share the last epoch has.

    Raises:
        ValueError: ``warmup`` is negative, or a share is not above 0.

    Example:
        >>> import torch
        >>> from goctconv.training import warmup_cosine_schedule
        >>> optimizer = torch.optim.SGD(torch.nn.Linear(2, 3).parameters(), lr=0.064)
        >>> schedule = warmup_cosine_schedule(optimizer, 69)
        >>> rates = []
        >>> for _ in range(69):
        ...     rates.append(round(optimizer.param_groups[0]["lr"], 5))
        ...     optimizer.step()
        ...     schedule.step()
        >>> rates[0], rates[5], rates[-1]
        (0.00064, 0.064, 0.00064)
    """
    if warmup < 0 or not (start > 0 and end > 0):
        raise ValueError(f"warmup={warmup!r}, start={start!r}, end={end!r}: expected epochs from 0, and shares above 0")
    rising = min(warmup, epochs // 2)
    falling = max(1, epochs - 1 - rising)

    def share(epoch: int) -> float:
        if epoch < rising:
            return start + (1 - start) * epoch / rising
        return end + (1 - end) * (1 + math.cos(math.pi * min(1.0, (epoch - rising) / falling))) / 2

    return LambdaLR(optimizer, share)
