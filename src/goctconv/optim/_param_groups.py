"""Param groups: γ go into groups of their own, with every other setting kept."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from .._checks import ArgumentError, check_number
from .._torch import add_sharded_group, can_be_sharded_anew, inner_optimizers, is_sharded

COEFFICIENT = "dynamic_weight_decay"
"""Key of a param group: λ of the γ in it."""
LAYERS = "dynamic_layers"
"""Key of a param group: the layers whose γ are in it, so that state dicts are not loaded for others."""


def separate(optimizer: Optimizer, gammas: dict[nn.Parameter, str], coefficient: float) -> None:
    """Move γ out of every param group that holds others too, into one behind them, with no ordinary decay.

    LBFGS knows one group only, and no weight decay; it keeps it.
    """
    before = [list(group["params"]) for group in optimizer.param_groups]
    for group in list(optimizer.param_groups):
        chosen = [index for index, parameter in enumerate(group["params"]) if parameter in gammas]
        names = [gammas[group["params"][index]] for index in chosen]
        if not chosen:
            continue
        if isinstance(optimizer, LBFGS):
            group.update({COEFFICIENT: coefficient, LAYERS: names})
        elif len(chosen) == len(group["params"]):
            group.update(_own_settings(group, coefficient, names))
        elif is_sharded(optimizer) and not can_be_sharded_anew(optimizer):
            problem = "has stepped, or overlaps with DistributedDataParallel, so its parameters are shared out for good"
            cure = "wrap it before its first step, or give it γ of the BatchNorm layers in param groups of their own"
            raise ArgumentError("optimizer", optimizer, problem=problem, cure=cure)
        else:
            _add(optimizer, _split(group, chosen, coefficient, names))
    after = [list(group["params"]) for group in optimizer.param_groups]
    if len(after) != len(before) and not is_sharded(optimizer):
        for owner in (optimizer, *inner_optimizers(optimizer)):
            _reorder(owner, before, after)


def _reorder(owner: Optimizer, before: list[list[nn.Parameter]], after: list[list[nn.Parameter]]) -> None:
    """Give lists that an optimizer keeps beside its groups the new order, such as slow weights of the first Lookahead.

    They hold a list for each group, or one list for all of them, of tensors of the shapes of the parameters.
    """
    flat, flat_after = ([parameter for group in groups for parameter in group] for groups in (before, after))
    for value in vars(owner).values():
        if type(value) is not list:
            continue
        if _is_like(value, flat):
            known = dict(zip(flat, value, strict=True))
            value[:] = [known[parameter] for parameter in flat_after]
        elif len(value) == len(before) and all(map(_is_like, value, before)):
            known = dict(zip(flat, [tensor for its in value for tensor in its], strict=True))
            value[:] = [[known[parameter] for parameter in group] for group in after]


def _is_like(values: object, parameters: list[nn.Parameter]) -> bool:
    """Whether something is a list of tensors with the shapes of parameters."""
    if not isinstance(values, list) or len(values) != len(parameters):
        return False
    pairs = zip(values, parameters, strict=True)
    return all(isinstance(value, Tensor) and value.shape == own.shape for value, own in pairs)


def _add(optimizer: Optimizer, group: dict[str, Any]) -> None:
    """Add a group to an optimizer, and to those inside it that held its parameters in groups of their own."""
    if is_sharded(optimizer):
        add_sharded_group(optimizer, group)
        return
    optimizer.add_param_group(group)
    added = optimizer.param_groups[-1]
    own = set(added["params"])
    for inner in inner_optimizers(optimizer):
        if any(each is added for each in inner.param_groups):
            continue
        for each in inner.param_groups:
            each["params"] = [parameter for parameter in each["params"] if parameter not in own]
        inner.add_param_group(added)


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
    """Check that a state dict's groups decay the layers that ours do."""
    decayed, saved_decayed = ([COEFFICIENT in group for group in groups] for groups in (ours, theirs))
    as_saved = "wrap with the include and exclude that it was saved with"
    if decayed != saved_decayed:
        problem = f"has {_counted(saved_decayed)}; this optimizer has {_counted(decayed)}"
        cure = f"load it before wrapping if it was saved without dynamic weight decay, else {as_saved}"
        raise ArgumentError("state_dict", theirs, problem=problem, cure=cure)
    for own, saved in zip(ours, theirs, strict=True):
        if LAYERS in own and LAYERS in saved and list(own[LAYERS]) != list(saved[LAYERS]):
            only = [name for name in saved[LAYERS] if name not in own[LAYERS]] or saved[LAYERS]
            missing = [name for name in own[LAYERS] if name not in saved[LAYERS]] or own[LAYERS]
            counts = f"({len(saved[LAYERS])} and {len(own[LAYERS])} layers)"
            problem = f"decays {only[0]!r} where this optimizer decays {missing[0]!r} {counts}"
            raise ArgumentError("state_dict", theirs, problem=problem, cure=as_saved)


def _counted(decayed: list[bool]) -> str:
    return f"{len(decayed)} param groups, of which {sum(decayed)} decay dynamically"


def check_coefficient(value: Any, argument: str) -> None:
    """Check a coefficient of decay."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return  # a tensor of a captured step: reading it would wait for the device
    check_number(argument, value, 0, cure="3.0 is published, 0 is no decay")
