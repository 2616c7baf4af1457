"""The optimizer of a pruned model, with the state of the original's, cut like the parameters that it belongs to."""

from __future__ import annotations

import copy
import weakref
from typing import Any, TypeAlias, cast

from torch import Tensor, nn
from torch.optim import Optimizer

from ..._checks import ArgumentTypeError
from ..._torch import forget_size, inner_optimizers, is_sharded, leaves_of, tensors_in
from .._inputs import PruningError
from ._cut import cut_tensor
from ._shapes import Moves, Shapes, cut_like

Names: TypeAlias = "list[tuple[weakref.ref[nn.Parameter], str]]"
"""The names of a model's parameters before it was pruned."""
_WEIGHTS = {"lookahead_slow_buff"}  # keys of state that is weights, into which constants move too: timm 1.0's Lookahead
_CURE = "begin with a fresh optimizer of the slim model"


def transfer_optimizer(
    optimizer: Optimizer,
    names: Names,
    slim: nn.Module,
    steps: list[Shapes],
    moves: list[Moves] | None,
    removed: dict[str, list[int]],
) -> Optimizer:
    """Return an optimizer of the slim model with the state of the original's.

    Args:
        optimizer: The original's; those inside it follow.
        names: Of the original's parameters.
        slim: The pruned model.
        steps: The shapes that it was cut to, one after the other.
        moves: What was added for constants in each step.
        removed: Channels that went, by BatchNorm.
    """
    if not isinstance(optimizer, Optimizer):
        raise ArgumentTypeError("optimizer", optimizer, "a torch.optim.Optimizer")
    return _Transfer(names, slim, steps, moves, removed).moved(optimizer)


class _Transfer:
    def __init__(
        self,
        names: Names,
        slim: nn.Module,
        steps: list[Shapes],
        moves: list[Moves] | None,
        removed: dict[str, list[int]],
    ) -> None:
        self.slim, self.steps, self.removed = slim, steps, removed
        self.moves = moves or [Moves()] * len(steps)
        self.names: dict[Any, str] = {own: name for reference, name in names if (own := reference()) is not None}
        new = dict(slim.named_parameters())
        self.new = {old: new[name] for old, name in self.names.items() if name in new}
        biases = [name for shapes in steps for name in shapes.biases]
        self.biases = {slim.get_submodule(name.rpartition(".")[0]).get_parameter("weight"): name for name in biases}
        # What optimizers share, such as param groups, is moved once: new objects by the id of the old one.
        self.memo: dict[int, Any] = {id(slim): slim, **{id(old): self.new.get(old) for old in self.names}}

    def moved(self, old: Optimizer) -> Optimizer:
        """Return the optimizer of the slim model; schedulers that count the old one's steps do not count its."""
        if id(old) not in self.memo:
            if is_sharded(old):
                raise PruningError(f"{type(old).__name__} shares its parameters out to processes: {_CURE}")
            self._check(old)
            if hasattr(type(old), "moved_to"):
                self.memo[id(old)] = cast("Any", old).moved_to(
                    self.moved(vars(old)["optimizer"]), self.slim, self.removed
                )
            else:
                self._move(old)
        return cast("Optimizer", self.memo[id(old)])

    def _check(self, optimizer: Optimizer) -> None:
        """Check that the model had the parameters that an optimizer holds."""
        for parameter in [parameter for group in optimizer.param_groups for parameter in group["params"]]:
            if parameter not in self.names:
                raise PruningError(
                    f"the optimizer holds a parameter of shape {tuple(parameter.shape)} that the model did not "
                    "have before it was pruned: pass the optimizer that trained it"
                )

    def _move(self, old: Optimizer) -> None:
        moved = self.memo[id(old)] = type(old).__new__(type(old))
        for inner in inner_optimizers(old):
            self.moved(inner)
        for group in old.param_groups:
            self._cut_notes(group["params"])
        for key, value in vars(old).items():
            if key == "step":  # a scheduler's
                continue
            if id(value) not in self.memo:
                self.memo[id(value)] = self._attribute(old, key, value)
            vars(moved)[key] = self.memo[id(value)]
        forget_size(moved)

    def _attribute(self, optimizer: Optimizer, key: str, value: Any) -> Any:
        if key == "param_groups":
            return [self._group(group) for group in value]
        if key.endswith("_hooks"):
            return copy.copy(value)
        if isinstance(value, dict) and (key == "state" or any(held in self.names for held in value)):
            return self._state(key, value)
        changed = {old.shape for old, new in self.new.items() if old.shape != new.shape}
        for leaf in leaves_of(value):
            if isinstance(leaf, Optimizer):
                self.moved(leaf)
            is_tensor = isinstance(leaf, Tensor) and leaf not in self.names and leaf.shape in changed
            is_module = isinstance(leaf, nn.Module) and leaf is not self.slim
            if is_tensor or (is_module and any(parameter in self.names for parameter in leaf.parameters())):
                raise PruningError(f"{type(optimizer).__name__} keeps {key!r}, which cannot be cut: {_CURE}")
        try:
            return copy.deepcopy(value, self.memo)
        except (TypeError, RuntimeError) as error:
            raise PruningError(f"{type(optimizer).__name__} keeps {key!r}, which cannot be copied: {_CURE}") from error

    def _group(self, group: dict[str, Any]) -> dict[str, Any]:
        if id(group) in self.memo:
            return cast("dict[str, Any]", self.memo[id(group)])
        old = group["params"]
        left = [index for index, parameter in enumerate(old) if parameter in self.new]
        params = [self.new[old[index]] for index in left]
        biases = [self.biases[parameter] for parameter in params if parameter in self.biases]  # beside their weights
        moved = self.memo[id(group)] = {
            key: copy.deepcopy(value, self.memo) for key, value in group.items() if key not in {"params", "param_names"}
        }
        moved["params"] = self.memo.setdefault(id(old), [*params, *map(self.slim.get_parameter, biases)])
        if "param_names" in group:
            moved["param_names"] = [group["param_names"][index] for index in left] + biases
        return moved

    def _state(self, attribute: str, state: dict[Any, Any]) -> dict[Any, Any]:
        """Return state by parameter; what has other keys is of no parameter."""
        moved = copy.copy(state)
        moved.clear()
        for held, values in state.items():
            if held in self.new and isinstance(values, dict):
                moved[self.new[held]] = {key: self._cut(value, key, held) for key, value in values.items()}
            elif held in self.new:
                moved[self.new[held]] = self._cut(values, attribute, held)
            elif not isinstance(held, Tensor):
                if self.steps and any(tensor.dim() for tensor in tensors_in(values)):
                    raise PruningError(f"the optimizer keeps {held!r} of no parameter, which cannot be cut: {_CURE}")
                moved[held] = copy.deepcopy(values, self.memo)
        return moved

    def _cut(self, value: Any, key: str, parameter: Tensor) -> Any:
        name = self.names[parameter]
        if isinstance(value, Tensor) and value.dim() and value.shape == parameter.shape:
            for shapes, moves in zip(self.steps, self.moves, strict=True):
                value = cut_tensor(name, value, shapes, moves) if key in _WEIGHTS else cut_like(name, value, shapes)
            return value.clone()
        for tensor in tensors_in(value):
            if tensor.dim() and self.steps:
                raise PruningError(
                    f"the optimizer keeps {key!r} of shape {tuple(tensor.shape)} for {name} of shape "
                    f"{tuple(parameter.shape)}, which cannot be cut with it: {_CURE}"
                )
        return copy.deepcopy(value, self.memo)

    def _cut_notes(self, parameters: list[Tensor]) -> None:
        """Cut what an optimizer notes at the parameters themselves, as AdaHessian does."""
        for old in [old for old in parameters if old in self.new]:
            new = self.new[old]
            for key, value in vars(new).items():
                is_like = isinstance(value, Tensor) and value.dim() and value.shape == old.shape
                if is_like and (value is vars(old).get(key) or new.shape != old.shape):
                    vars(new)[key] = self._cut(value.detach(), key, old)
