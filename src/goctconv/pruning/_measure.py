"""What a model costs: parameters, operations, memory of activations, time."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ._verify import Call

_ROUNDS = 9


def measure(model: nn.Module, call: Call) -> tuple[int, int, int]:
    """Return parameters, MACs of convolutions and linear layers, and bytes of their outputs."""
    macs = activations = 0

    def count(module: nn.Module, _: Any, output: Any) -> None:
        nonlocal macs, activations
        weight = module.weight
        if isinstance(output, Tensor) and isinstance(weight, Tensor):
            macs += output.numel() * (weight.numel() // max(weight.shape[0], 1))
            activations += output.numel() * output.element_size()

    handles = [
        module.register_forward_hook(count) for module in model.modules() if isinstance(module, _ConvNd | nn.Linear)
    ]
    try:
        with torch.no_grad():
            model(*call[0], **call[1])
    finally:
        for handle in handles:
            handle.remove()
    return sum(parameter.numel() for parameter in model.parameters()), macs, activations


def milliseconds(before: nn.Module, after: nn.Module, call: Call) -> tuple[float, float]:
    """Return the medians of the time of a forward pass of two models, measured in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    with torch.no_grad():
        for _ in range(_ROUNDS):
            for model, its in zip((before, after), times, strict=True):
                start = time.perf_counter()
                model(*call[0], **call[1])
                _wait(call)
                its.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


def _wait(call: Call) -> None:
    if any(isinstance(one, Tensor) and one.is_cuda for one in (*call[0], *call[1].values())):
        torch.cuda.synchronize()
