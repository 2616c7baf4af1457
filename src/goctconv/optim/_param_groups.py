"""Param groups: the scales γ go into groups of their own, with every other setting kept."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

COEFFICIENT = "dynamic_weight_decay"
"""Key of a param group: λ of the scales in it."""
LAYERS = "dynamic_layers"
"""Key of a param group: the layers whose scales are in it, so that state dicts are not loaded for others."""


def separate(optimizer: Optimizer, scales: dict[nn.Parameter, str], coefficient: float) -> None:
    """Move scales out of every param group that holds others too, into one behind them, with no ordinary decay.

    LBFGS knows one group only, and no weight decay; it keeps it.
    """
    for group in list(optimizer.param_groups):
        chosen = [index for index, parameter in enumerate(group["params"]) if parameter in scales]
        names = [scales[group["params"][index]] for index in chosen]
        if not chosen:
            continue
        if isinstance(optimizer, LBFGS):
            group.update({COEFFICIENT: coefficient, LAYERS: names})
        elif len(chosen) == len(group["params"]):
            group.update(_own_settings(group, coefficient, names))
        else:
            optimizer.add_param_group(_split(group, chosen, coefficient, names))


def _split(group: dict[str, Any], chosen: list[int], coefficient: float, layers: list[str]) -> dict[str, Any]:
    names = group.get("param_names")
    settings = {key: value for key, value in group.items() if key not in {"params", "param_names"}}
    settings = {key: value.clone() if isinstance(value, Tensor) else value for key, value in settings.items()}
    taken: list[Any] = [group["params"][index] for index in chosen]
    if names is not None:
        taken = [(names[index], group["params"][index]) for index in chosen]
        group["param_names"] = [name for index, name in enumerate(names) if index not in chosen]
    group["params"] = [parameter for index, parameter in enumerate(group["params"]) if index not in chosen]
    return {**settings, **_own_settings(group, coefficient, layers), "params": taken}


def _own_settings(group: dict[str, Any], coefficient: float, layers: list[str]) -> dict[str, Any]:
    return {COEFFICIENT: coefficient, LAYERS: layers, **({"weight_decay": 0.0} if "weight_decay" in group else {})}


def groups_by_parameter(optimizer: Optimizer) -> dict[nn.Parameter, dict[str, Any]]:
    """Return the param group of every parameter."""
    return {parameter: group for group in optimizer.param_groups for parameter in group["params"]}


def check_same_groups(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Check that a state dict's groups decay the layers that ours do.

    Raises:
        ValueError: They do not.
    """
    decayed = [[COEFFICIENT in group for group in groups] for groups in (ours, theirs)]
    if decayed[0] != decayed[1]:
        counts = [f"{len(one)} param groups, of which {sum(one)} decay dynamically" for one in decayed]
        raise ValueError(
            f"the state dict has {counts[1]}; this optimizer has {counts[0]}: load it before wrapping if it was saved "
            "without dynamic weight decay, else wrap with the include and exclude that it was saved with"
        )
    for own, saved in zip(ours, theirs, strict=True):
        if LAYERS in own and LAYERS in saved and list(own[LAYERS]) != list(saved[LAYERS]):
            only = [name for name in saved[LAYERS] if name not in own[LAYERS]] or saved[LAYERS]
            missing = [name for name in own[LAYERS] if name not in saved[LAYERS]] or own[LAYERS]
            raise ValueError(
                f"the state dict decays {only[0]!r} where this optimizer decays {missing[0]!r} "
                f"({len(saved[LAYERS])} and {len(own[LAYERS])} layers): wrap with the include and exclude "
                "that it was saved with"
            )


def check_coefficient(value: Any, name: str) -> None:
    """Check that a coefficient of decay is one.

    Raises:
        ValueError: It is negative, infinite or NaN.
        TypeError: It is no number.
    """
    if isinstance(value, Tensor) and value.numel() == 1:
        return  # a tensor of a captured step: reading it would wait for the device
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}={value!r} must be a number, 0 or larger; 3.0 is published")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}={value!r} must be finite and not negative; 3.0 is published, 0 is no decay")


def has_scheduler(optimizer: Optimizer) -> bool:
    """Whether a learning-rate scheduler counts this optimizer's steps."""
    return hasattr(optimizer.step, "_wrapped_by_lr_sched")


def may_have_scheduler(optimizer: Optimizer) -> bool:
    """Whether something has noted the initial learning rates, as schedulers of other packages do."""
    return any("initial_lr" in group for group in optimizer.param_groups)
