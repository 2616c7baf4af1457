"""M of an activation, one number per image and channel, and the factor of M by what a channel costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from .._checks import ArgumentError, ArgumentTypeError, nearest

Metric: TypeAlias = Callable[[Tensor], Tensor]
"""A function of an activation (B, C, ...) that gives (B, C) numbers, each of its image and channel alone."""
Cost: TypeAlias = str | Mapping[str, float] | None
"""``"resolution"``, ``"macs"``, a factor for every layer by name, or None for 1."""

_MEASURED_COSTS = ("resolution", "macs")


def global_average_pool(activation: Tensor) -> Tensor:
    """|mean over pixels|, the published metric."""
    if activation.dim() == 2:
        return activation.abs().to(precise(activation.dtype))
    mean: Tensor = activation.mean(list(range(2, activation.dim())), dtype=precise(activation.dtype))
    return torch.abs(mean)


def absolute_mean(activation: Tensor) -> Tensor:
    """Mean over pixels of the absolute value."""
    return _norm(activation, 1) / activation.shape[2:].numel()


def root_mean_square(activation: Tensor) -> Tensor:
    """Square root of the mean over pixels of the square."""
    return _norm(activation, 2) / math.sqrt(activation.shape[2:].numel())


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


def _norm(activation: Tensor, order: float) -> Tensor:
    dtype = precise(activation.dtype)
    if activation.dim() == 2:
        return activation.abs().to(dtype)
    norm: Tensor = torch.linalg.vector_norm(activation, order, list(range(2, activation.dim())), dtype=dtype)
    return norm


def check_cost(cost: object, names: Sequence[str], known: Sequence[str]) -> None:
    """Check a cost against the names of the layers that are decayed, and of all that are known."""
    if cost is None or (isinstance(cost, str) and cost in _MEASURED_COSTS):
        return
    expected = "None, 'resolution', 'macs' or a mapping from layers to factors"
    if isinstance(cost, str):
        raise ArgumentError("cost", cost, f"{expected}{nearest(cost, _MEASURED_COSTS)}")
    if not isinstance(cost, Mapping):
        raise ArgumentTypeError("cost", cost, expected)
    unknown = next((name for name in cost if name not in known), None)
    if unknown is not None:
        problem = f"names {unknown!r}, which is none of the {len(known)} BatchNorm layers{nearest(unknown, known)}"
        raise ArgumentError("cost", cost, problem=problem)
    missing = [name for name in names if name not in cost]
    if missing:
        cure = f"give one for each of the {len(names)} layers"
        raise ArgumentError("cost", cost, problem=f"has no factor for {', '.join(missing[:3])}", cure=cure)
    for name in names:
        if not (math.isfinite(cost[name]) and cost[name] >= 0):
            raise ArgumentError(f"cost[{name!r}]", cost[name], "finite and not negative")


def cost_factors(cost: Cost, resolution: Mapping[str, float], macs: Mapping[str, float]) -> dict[str, float]:
    """Return the factor of every layer that has been run; the resolution of others is 0.

    Those of ``"resolution"`` are 2 to the number of halvings between the layer's map and the smallest one, in the
    spirit of the published rule; those of ``"macs"`` are relative to the mean over layers.
    """
    known = [name for name, side in resolution.items() if side > 0]
    if cost is None or not known:
        return dict.fromkeys(resolution, 1.0)
    if isinstance(cost, Mapping):
        return {name: float(cost[name]) for name in resolution}
    if cost == "resolution":
        coarsest = min(resolution[name] for name in known)
        return {name: resolution[name] / coarsest for name in known}
    mean = sum(macs[name] for name in known) / len(known)
    return {name: macs[name] / mean if mean else 1.0 for name in known}
