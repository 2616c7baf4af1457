"""State that running a model leaves as it was: training modes, and the global generators of random numbers."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._torch import cuda_is_used, cuda_random_states


@contextmanager
def evaluating(model: nn.Module, device: torch.device | str | None = None) -> Iterator[nn.Module]:
    """Put a model into eval mode for a while; every module gets its own training mode back.

    Args:
        model: Any network.
        device: Where it has to run; None or "auto" is where it is. A model that lies elsewhere is not moved but copied.

    Yields:
        The model, or a copy of it on ``device``.
    """
    if device not in {None, "auto"}:
        model = _on_device(model, torch.device(device))
    modes = {module: module.training for module in model.modules()}
    try:
        yield model.eval()
    finally:
        for module, mode in modes.items():
            module.training = mode


def _on_device(model: nn.Module, target: torch.device) -> nn.Module:
    tensors = (*model.parameters(), *model.buffers())
    here = next((tensor.device for tensor in tensors if tensor.is_floating_point()), torch.device("cpu"))
    is_there = target.type == here.type and target.index in {None, here.index}
    return model if is_there else copy.deepcopy(model).to(target)


def random_states() -> dict[str, Any]:
    """Return the states of the global generators of Python, NumPy and torch."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002  # the global one
    return {
        "python": random.getstate(),
        "numpy": (str(name), [int(key) for key in keys], int(position), int(has_gauss), float(cached)),
        "torch": torch.get_rng_state(),
        "cuda": cuda_random_states() if cuda_is_used() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Put the global generators into the states that `random_states` gave."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002  # the global one
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])


def seed_generators(seed: int, tensors: Iterable[Tensor] = ()) -> None:
    """Seed torch's global generators; that of the processor alone where all tensors that matter lie there.

    `torch.manual_seed` takes two milliseconds where no other device was used: it writes down who called it.
    """
    if cuda_is_used() or any(not tensor.is_cpu for tensor in tensors):
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave the global generators of random numbers as they were."""
    states = random_states()
    try:
        yield
    finally:
        set_random_states(states)
