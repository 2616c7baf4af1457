"""Several processes that train together, through torch.distributed; everything is harmless with one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


def world_size(group: dist.ProcessGroup | None = None) -> int:
    """Return the number of processes, of all or of a group."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def summed(values: Sequence[float], device: torch.device) -> list[float]:
    """Return sums over all processes, exact to float64."""
    if world_size() == 1:
        return list(values)
    numbers = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(numbers)
    return [float(number) for number in numbers]


def gathered(value: Any) -> list[Any]:
    """Return what every process has, by rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Wait for the other processes."""
    if world_size() > 1:
        dist.barrier()


def share_state(model: nn.Module) -> None:
    """Give all processes the parameters and buffers of the first one: BatchNorm's statistics are each one's own."""
    if world_size() > 1:
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                dist.broadcast(tensor, 0)
