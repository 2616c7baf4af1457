"""The optimizer of a pruned model, with the state of the original's, cut like the parameters that it belongs to."""

from __future__ import annotations

import copy
import weakref
from typing import Any, TypeAlias, cast

from torch import Tensor, nn
from torch.optim import Optimizer

from ..._checks import ArgumentTypeError
from ..._torch import tensors_in
from .._inputs import PruningError
from ._shapes import Shapes, cut_like

Names: TypeAlias = "list[tuple[weakref.ref[nn.Parameter], str]]"
"""The names of a model's parameters before it was pruned."""


def transfer_optimizer(
    optimizer: Optimizer, names: Names, slim: nn.Module, steps: list[Shapes], removed: dict[str, list[int]]
) -> Optimizer:
    """Return an optimizer of the slim model with the state of the original's.

    Args:
        optimizer: The original's.
        names: Of the original's parameters.
        slim: The pruned model.
        steps: The shapes that it was cut to, one after the other.
        removed: Channels that went, by BatchNorm.
    """
    if not isinstance(optimizer, Optimizer):
        raise ArgumentTypeError("optimizer", optimizer, "a torch.optim.Optimizer")
    inner = vars(optimizer).get("optimizer")
    if isinstance(inner, Optimizer):
        if not hasattr(optimizer, "moved_to"):
            raise PruningError(
                f"{type(optimizer).__name__} wraps a {type(inner).__name__} and cannot be moved: transfer its "
                "`.optimizer`, and wrap that"
            )
        moved_inner = transfer_optimizer(inner, names, slim, steps, removed)
        return cast("Optimizer", cast("Any", optimizer).moved_to(moved_inner, slim, removed))
    return _Transfer(optimizer, names, slim, steps).moved()


class _Transfer:
    def __init__(self, optimizer: Optimizer, names: Names, slim: nn.Module, steps: list[Shapes]) -> None:
        self.optimizer, self.slim, self.steps = optimizer, slim, steps
        self.names = self._names_in(
            optimizer, {own: name for reference, name in names if (own := reference()) is not None}
        )
        new = dict(slim.named_parameters())
        self.new = {old: new[name] for old, name in self.names.items() if name in new}

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
        memo: dict[int, Any] = {id(old): self.new.get(old) for old in self.names}
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
        left = [index for index, old in enumerate(group["params"]) if old in self.new]
        moved = {key: copy.deepcopy(value) for key, value in group.items() if key not in {"params", "param_names"}}
        moved["params"] = [self.new[group["params"][index]] for index in left]
        if "param_names" in group:
            moved["param_names"] = [group["param_names"][index] for index in left]
        return moved

    def _cut(self, value: Any, key: str, parameter: Tensor) -> Any:
        name, new = self.names[parameter], self.new[parameter]
        if isinstance(value, Tensor) and value.dim() and value.shape == parameter.shape:
            if parameter.shape == new.shape:
                return copy.deepcopy(value)
            for shapes in self.steps:
                value = cut_like(name, value, shapes)
            return value.clone()
        for tensor in tensors_in(value):
            if tensor.dim() and self.steps:
                raise PruningError(
                    f"the optimizer keeps {key!r} of shape {tuple(tensor.shape)} for {name} of shape "
                    f"{tuple(parameter.shape)}, which cannot be cut with it: begin with a fresh optimizer"
                )
        return copy.deepcopy(value)

    def _add_biases(self, moved: Optimizer) -> None:
        """Add new biases to the parameter groups of the weights beside them."""
        for name in [name for shapes in self.steps for name in shapes.biases]:
            module = self.slim.get_submodule(name.rpartition(".")[0])
            weight, bias = module.get_parameter("weight"), module.get_parameter("bias")
            for group in moved.param_groups:
                if any(parameter is weight for parameter in group["params"]):
                    group["params"].append(bias)
                    if "param_names" in group:
                        group["param_names"].append(name)
