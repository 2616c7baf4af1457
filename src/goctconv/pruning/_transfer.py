"""Carry an optimizer over to a pruned model, its state cut like the parameters that it belongs to."""

from __future__ import annotations

import copy
import weakref
from typing import Any, TypeAlias, cast

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils import _pytree as pytree

from ._errors import PruningError
from ._plan import PruningPlan

Names: TypeAlias = "list[tuple[weakref.ref[nn.Parameter], str]]"
"""The names of a model's parameters before it was pruned."""


def transfer_optimizer(optimizer: Optimizer, names: Names, slim: nn.Module, plan: PruningPlan) -> Optimizer:
    """Return an optimizer of the slim model with the state of the original's.

    Raises:
        PruningError: The optimizer holds other parameters, or state of a shape that cannot be cut.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    inner = vars(optimizer).get("optimizer")
    if isinstance(inner, Optimizer):
        if not hasattr(optimizer, "moved_to"):
            raise PruningError(
                f"{type(optimizer).__name__} wraps a {type(inner).__name__} and cannot be moved: transfer its "
                "`.optimizer`, and wrap that"
            )
        moved_inner = transfer_optimizer(inner, names, slim, plan)
        return cast("Optimizer", cast("Any", optimizer).moved_to(moved_inner, slim, plan.removed))
    return _Transfer(optimizer, names, slim, plan).moved()


class _Transfer:
    def __init__(self, optimizer: Optimizer, names: Names, slim: nn.Module, plan: PruningPlan) -> None:
        self.optimizer, self.slim, self.plan = optimizer, slim, plan
        self.names = self._names_in(optimizer, {one: name for ref, name in names if (one := ref()) is not None})
        new = dict(slim.named_parameters())
        self.new = {one: new[name] for one, name in self.names.items() if name in new}

    @staticmethod
    def _names_in(optimizer: Optimizer, names: dict[Any, str]) -> dict[Tensor, str]:
        """Return the names of the parameters that an optimizer holds."""
        found = {}
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter not in names:
                    raise PruningError(
                        f"the optimizer holds a parameter of shape {tuple(parameter.shape)} that the model did not "
                        "have before it was pruned: pass the optimizer that trained it"
                    )
                found[parameter] = names[parameter]
        return found

    def moved(self) -> Optimizer:
        """Return the optimizer of the slim model; schedulers that count the old one's steps do not count its."""
        old = self.optimizer
        moved: Optimizer = type(old).__new__(type(old))
        memo: dict[int, Any] = {id(one): self.new.get(one) for one in self.names}
        for key, value in vars(old).items():
            if key.endswith("_hooks"):
                vars(moved)[key] = copy.copy(value)
            elif key not in {"param_groups", "state", "step"}:
                vars(moved)[key] = copy.deepcopy(value, memo)
        moved.param_groups = [self._group(group) for group in old.param_groups]
        moved.state = type(old.state)(dict)
        for parameter, values in old.state.items():
            if parameter in self.new:
                moved.state[self.new[parameter]] = {
                    key: self._cut(value, key, parameter) for key, value in values.items()
                }
        self._add_biases(moved)
        return moved

    def _group(self, group: dict[str, Any]) -> dict[str, Any]:
        left = [index for index, one in enumerate(group["params"]) if one in self.new]
        moved = {key: copy.deepcopy(value) for key, value in group.items() if key not in {"params", "param_names"}}
        moved["params"] = [self.new[group["params"][index]] for index in left]
        if "param_names" in group:
            moved["param_names"] = [group["param_names"][index] for index in left]
        return moved

    def _cut(self, value: Any, key: str, parameter: Tensor) -> Any:
        name, new = self.names[parameter], self.new[parameter]
        if isinstance(value, Tensor) and value.dim() and value.shape == parameter.shape:
            return self.plan.cut_like(name, value).clone() if parameter.shape != new.shape else copy.deepcopy(value)
        for one in pytree.tree_leaves(value):
            if isinstance(one, Tensor) and one.dim() and self.plan.steps:
                raise PruningError(
                    f"the optimizer keeps {key!r} of shape {tuple(one.shape)} for {name} of shape "
                    f"{tuple(parameter.shape)}, which cannot be cut with it: begin with a fresh optimizer"
                )
        return copy.deepcopy(value)

    def _add_biases(self, moved: Optimizer) -> None:
        """Let new biases be trained like the weights beside them."""
        for name in self.plan.biases:
            module = self.slim.get_submodule(name.rpartition(".")[0])
            weight, bias = module.get_parameter("weight"), module.get_parameter("bias")
            for group in moved.param_groups:
                if any(parameter is weight for parameter in group["params"]):
                    group["params"].append(bias)
                    if "param_names" in group:
                        group["param_names"].append(name)
