"""M of an activation: one number per image and channel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from .._checks import ArgumentError, ArgumentTypeError, nearest

Metric: TypeAlias = Callable[[Tensor], Tensor]
"""A function of an activation (B, C, ...) that gives (B, C) numbers, each of its image and channel alone."""


def global_average_pool(activation: Tensor) -> Tensor:
    """|mean over pixels|, the published metric."""
    if activation.dim() == 2:
        return activation.abs().to(precise(activation.dtype))
    mean: Tensor = activation.mean(list(range(2, activation.dim())), dtype=precise(activation.dtype))
    return torch.abs(mean)


def absolute_mean(activation: Tensor) -> Tensor:
    """Mean over pixels of the absolute value."""
    return _norm(activation, 1) / _pixels(activation)


def root_mean_square(activation: Tensor) -> Tensor:
    """Square root of the mean over pixels of the square."""
    return _norm(activation, 2) / math.sqrt(_pixels(activation))


def maximum(activation: Tensor) -> Tensor:
    """Largest absolute value over pixels."""
    return _norm(activation, torch.inf)


METRICS: dict[str, Metric] = {
    "gap": global_average_pool,
    "abs_mean": absolute_mean,
    "rms": root_mean_square,
    "max": maximum,
}


def parse_metric(metric: str | Metric) -> Metric:
    """Return the function that a name stands for, or the function itself."""
    expected = f"one of {', '.join(METRICS)}, or a function (B, C, ...) -> (B, C)"
    if isinstance(metric, str):
        if metric not in METRICS:
            raise ArgumentError("metric", metric, f"{expected}{nearest(metric, METRICS)}")
        return METRICS[metric]
    if not callable(metric):
        raise ArgumentTypeError("metric", metric, expected)
    return metric


def precise(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which statistics of a type are summed: autocast's low precision does not reach them."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _pixels(activation: Tensor) -> int:
    pixels = 1
    for size in activation.shape[2:]:
        pixels *= size
    return pixels


def _norm(activation: Tensor, order: float) -> Tensor:
    if activation.dim() == 2:
        return activation.abs().to(precise(activation.dtype))
    norm: Tensor = torch.linalg.vector_norm(
        activation, order, list(range(2, activation.dim())), dtype=precise(activation.dtype)
    )
    return norm
