"""A schedule that warms up, and then falls along half a cosine."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


def warmup_cosine_schedule(
    optimizer: Optimizer, epochs: int, *, warmup: int = 5, start: float = 0.01, end: float = 0.01
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
        >>> from goctconv.learning import warmup_cosine_schedule
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
