"""Carry an optimizer over to a pruned model, its state cut like the parameters that it belongs to."""

from __future__ import annotations

import copy
from typing import Any, cast


from torch import Tensor, nn
from torch.optim import Optimizer

from ._errors import PruningError
from ._plan import PruningPlan
from ._rebuild import cut_like


def transfer_optimizer(optimizer: Optimizer, original: nn.Module, slim: nn.Module, plan: PruningPlan) -> Optimizer:
    """Return an optimizer of the slim model with the state of the original's.

    Raises:
        PruningError: The optimizer holds other parameters, or state of a shape that cannot be cut.
    """
    names = {parameter: name for name, parameter in original.named_parameters()}
    new = dict(slim.named_parameters())
    memo: dict[int, Any] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter not in names:
                raise PruningError(
                    f"the optimizer holds a parameter of shape {tuple(parameter.shape)} that the pruned model's original "
                    "does not have: pass the optimizer that trained it"
                )
            memo[id(parameter)] = new[names[parameter]]
    inner = getattr(optimizer, "optimizer", None)
    if isinstance(inner, Optimizer):
        return cast("Any", optimizer).moved_to(transfer_optimizer(inner, original, slim, plan), slim)
    moved: Optimizer = copy.copy(optimizer)
    moved.__dict__ = dict(vars(optimizer))
    moved.param_groups = [_group(group, memo) for group in optimizer.param_groups]
    state: Any = type(optimizer.state)(dict)
    for parameter, values in optimizer.state.items():
        name = names[parameter]
        state[new[name]] = {key: _cut(value, key, name, parameter, new[name], plan) for key, value in values.items()}
    moved.state = state
    _add_biases(moved, plan, new)
    return moved


def _group(group: dict[str, Any], memo: dict[int, Any]) -> dict[str, Any]:
    copied = {key: copy.deepcopy(value) for key, value in group.items() if key != "params"}
    return {**copied, "params": [memo[id(parameter)] for parameter in group["params"]]}


def _cut(value: Any, key: str, name: str, old: Tensor, new: Tensor, plan: PruningPlan) -> Any:
    if not isinstance(value, Tensor) or value.numel() == 1:
        return copy.deepcopy(value)
    if value.shape == old.shape:
        return cut_like(name, value, plan.shapes).clone() if old.shape != new.shape else value.clone()
    raise PruningError(
        f"the optimizer keeps {key!r} of shape {tuple(value.shape)} for {name} of shape {tuple(old.shape)}, which cannot "
        "be cut: begin with a fresh optimizer"
    )


def _add_biases(optimizer: Optimizer, plan: PruningPlan, parameters: dict[str, nn.Parameter]) -> None:
    """Let new biases be trained like the weights beside them."""
    for name in plan.shapes.biases:
        weight = parameters[name.rpartition(".")[0] + ".weight"]
        for group in optimizer.param_groups:
            if any(parameter is weight for parameter in group["params"]):
                group["params"].append(parameters[name])
                if "param_names" in group:
                    group["param_names"].append(name)
