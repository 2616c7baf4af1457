"""Sums over the processes of a data-parallel run."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

ProcessGroup: TypeAlias = "dist.ProcessGroup | Literal['auto'] | None"
"""Whose processes train together; ``"auto"``: those of DistributedDataParallel, else all; None: each for itself."""


def group_of(model: nn.Module, process_group: ProcessGroup) -> ProcessGroup:
    """Return the group that a wrapped model brings along, where none was chosen."""
    if process_group == "auto" and isinstance(model, DistributedDataParallel):
        return model.process_group
    return process_group


def is_distributed(process_group: ProcessGroup) -> bool:
    """Whether there are other processes to sum over."""
    if process_group is None or not (dist.is_available() and dist.is_initialized()):
        return False
    return dist.get_world_size(None if process_group == "auto" else process_group) > 1


def sum_over_processes(tensors: list[Tensor], process_group: ProcessGroup) -> list[Tensor]:
    """Return the sums of tensors over all processes, the same bits in each, with one call for each kind of tensor."""
    group = None if process_group == "auto" else process_group
    summed = list(tensors)
    kinds: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for index, tensor in enumerate(tensors):
        kinds.setdefault((tensor.device, tensor.dtype), []).append(index)
    for indices in kinds.values():
        flat = torch.cat([tensors[index].reshape(-1) for index in indices])
        dist.all_reduce(flat, group=group)
        parts = flat.split([tensors[index].numel() for index in indices])  # type: ignore[no-untyped-call]  # Tensor.split
        for index, part in zip(indices, parts, strict=True):
            summed[index] = part.view(tensors[index].shape)
    return summed
