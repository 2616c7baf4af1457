"""Whether γ can fall below a threshold within a run: the optimizer's own steps, on the decay alone."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import torch
from torch import nn
from torch.optim import LBFGS

from .._checks import ArgumentWarning, warn_caller
from ..optim import DynamicWeightDecay
from ._config import TrainingConfig
from ._network import decaying_groups
from ._optimizers import SchedulerFactory, make_scheduler, set_values, step_schedule, values_of

_MOST_STEPS = 20_000  # that are looked at, in about a second; longer runs are not judged
_LASTING = 10  # steps that a γ must stay below: momentum carries it through 0 and out again
_MORE_EPOCHS, _FASTER = (2, 4, 10), (3, 10, 30)
_PARAMS = "params"
_OTHER_M = {"cost", "metric", "transform"}  # options of dynamic weight decay
_HAS_FADED = 0.5  # the share of its first value below which a γ tells something

Course = list[list[dict[str, Any]]]
"""The options of the param groups of γ, in every epoch."""


def warn_unreachable(
    decay: DynamicWeightDecay, schedule: SchedulerFactory, config: TrainingConfig, steps: int | None
) -> None:
    """Warn before training where the decay alone takes no γ below the threshold by the end of it.

    The loss moves γ too, but those that it does not need have the decay alone. M of a channel is taken for 1: that of a
    channel with a γ of 1 and a β of 0 is no larger. ``steps`` are those of an epoch.
    """
    threshold, epochs = config.known_threshold, config.epochs
    starts = [start for group in decaying_groups(decay) if (start := _smallest(group["params"])) is not None]
    is_known = (
        threshold
        and config.weight_decay
        and steps
        and not config.decay_options.keys() & _OTHER_M
        and len(starts) == len(decaying_groups(decay))
    )
    if not is_known or not threshold or not steps or not starts or min(starts) < threshold:
        return

    def lowest(factor: float = 1.0, more: int = 1) -> float | None:
        course, found = _course(decay, schedule, epochs * more), []
        for index, start in enumerate(starts):
            rates = [groups[index] for groups in course]
            if (value := _simulated(decay, rates, start, steps, threshold, factor)) is None:
                return None
            found.append(value)
        return min(found)

    reached = lowest()
    if reached is None or reached < threshold:
        return
    cures = [f"{{epochs={epochs * more}}}" for more in _MORE_EPOCHS if _is_below(lowest(more=more), threshold)][:1]
    rates = [factor for factor in _FASTER if _is_below(lowest(factor), threshold)]
    cures += [f"{{gamma_rate={config.gamma_rate * factor:g}}}" for factor in rates[:1]]
    nearest = 10.0 ** math.ceil(math.log10(reached))
    if nearest < _HAS_FADED * min(starts):
        cures.append(f"{{threshold={nearest:g}}}")
    problem = (
        f"is below what γ can be expected to reach: in {steps * epochs:,} steps the decay alone takes them from "
        f"{min(starts):g} to {reached:.1g}"
    )
    cure = f"pass {' or '.join(cures)}" if cures else "train for many more {epochs}"
    warn_caller(ArgumentWarning("threshold", threshold, problem=problem, cure=cure))


def _is_below(value: float | None, threshold: float) -> bool:
    return value is not None and value < threshold


def _smallest(parameters: list[nn.Parameter]) -> float | None:
    """Return the smallest of some abs(γ) that are not 0."""
    values = torch.cat([parameter.detach().abs().flatten().cpu() for parameter in parameters])
    values = values[values > 0]
    return float(values.min()) if len(values) else None


def _course(decay: DynamicWeightDecay, schedule: SchedulerFactory, epochs: int) -> Course:
    """Go through a schedule; the optimizer stays as it is."""
    before, found = values_of(decay), []
    scheduler = make_scheduler(schedule, decay, epochs)
    for _ in range(epochs):
        found.append([{**group, _PARAMS: []} for group in decaying_groups(decay)])
        if scheduler is not None:
            step_schedule(scheduler)
    set_values(decay, before)
    return found


def _simulated(
    decay: DynamicWeightDecay, course: list[dict[str, Any]], start: float, steps: int, threshold: float, factor: float
) -> float | None:
    """Return the lowest value that a γ keeps for some steps; None if the run is long, or the optimizer another kind."""
    gamma = nn.Parameter(torch.tensor([start], dtype=torch.float64))
    make: Any = type(decay.optimizer)
    if make is LBFGS or course[0].get("maximize"):
        return None
    try:
        optimizer = make([{**course[0], _PARAMS: [gamma]}])
    except Exception:  # noqa: BLE001  # of a class that wants other arguments, which may raise anything
        return None
    latest, lowest = deque([start] * _LASTING, _LASTING), start
    for epoch, group in enumerate(course):
        optimizer.param_groups[0].update({name: value for name, value in group.items() if name != _PARAMS})
        rate = float(group["lr"]) * factor
        optimizer.param_groups[0]["lr"] = rate
        for step in range(steps):
            if epoch * steps + step == _MOST_STEPS:
                return None
            decayed = group["dynamic_weight_decay"] * gamma.detach()
            gamma.grad = torch.zeros_like(decayed) if decay.decoupled else decayed
            optimizer.step()
            if decay.decoupled:
                gamma.data -= rate * decayed
            latest.append(abs(gamma.item()))
            lowest = min(lowest, max(latest))
            if lowest < threshold:
                return lowest
    return lowest
