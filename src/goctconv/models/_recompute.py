"""Activation checkpointing that leaves BatchNorm's running statistics as they would be without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from .._torch import BatchNorm


def recomputed(module: nn.Module, features: Any) -> Any:
    """Run a module and forget its activations, to compute them again in the backward pass.

    PyTorch's checkpointing updates running statistics twice, in the forward pass and in the recomputation; here the
    recomputation leaves them alone.
    """
    return checkpoint(
        module, features, use_reentrant=False, context_fn=lambda: (nullcontext(), _frozen_statistics(module))
    )


@contextmanager
def _frozen_statistics(module: nn.Module) -> Iterator[None]:
    norms = [norm for norm in module.modules() if isinstance(norm, BatchNorm) and norm.track_running_stats]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # the same kernel runs and saves the same tensors, and adds nothing
        norm.num_batches_tracked = None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, momentum, counter in before:
            norm.momentum, norm.num_batches_tracked = momentum, counter
