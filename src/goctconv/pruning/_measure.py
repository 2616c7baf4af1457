"""What a model costs: parameters, operations, memory of activations, time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ._inputs import Call, copied

_ROUNDS = 9


@dataclass
class Cost:
    """Of one forward pass.

    Attributes:
        parameters: Of the model.
        macs: Multiply-accumulate operations of convolutions and linear layers.
        activations: Bytes of their outputs.
    """

    parameters: int = 0
    macs: int = 0
    activations: int = 0


@contextmanager
def measured(model: nn.Module) -> Iterator[Cost]:
    """Count what is computed while the context lasts."""
    cost = Cost(sum(parameter.numel() for parameter in model.parameters()))

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        weight = module.weight
        if isinstance(output, Tensor) and isinstance(weight, Tensor):
            positions = inputs[0] if isinstance(module, _ConvTransposeNd) and inputs else output
            cost.macs += positions.numel() * (weight.numel() // max(weight.shape[0], 1))
            cost.activations += output.numel() * output.element_size()

    handles = [
        module.register_forward_hook(count) for module in model.modules() if isinstance(module, _ConvNd | nn.Linear)
    ]
    try:
        yield cost
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def milliseconds(before: nn.Module, after: nn.Module, call: Call) -> tuple[float, float]:
    """Return the medians of the time of a forward pass of two models, measured in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_ROUNDS):
        for model, its in zip((before, after), times, strict=True):
            args, keywords = copied(call)
            _wait(call)
            start = time.perf_counter()
            model(*args, **keywords)
            _wait(call)
            its.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


def _wait(call: Call) -> None:
    if any(isinstance(one, Tensor) and one.is_cuda for one in (*call[0], *call[1].values())):
        torch.cuda.synchronize()
