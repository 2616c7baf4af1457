"""An optimizer around another one, with the same param groups and the same state."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from .._torch import OPTIMIZER_HOOKS
from ._checks import warn

_FROM_SCALER = ("grad_scale", "found_inf")


def _of_the_wrapped(name: str) -> Any:
    """Return a property that is an attribute of the wrapped optimizer."""

    def get(self: OptimizerWrapper) -> Any:
        return getattr(self.optimizer, name)

    def change(self: OptimizerWrapper, value: Any) -> None:
        setattr(self.optimizer, name, value)

    return property(get, change, doc=f"The {name} of the wrapped optimizer.")


class OptimizerWrapper(Optimizer):
    """What schedulers, scalers and training frameworks see: the wrapped optimizer, but for `step`."""

    optimizer: Optimizer
    is_stepping = False  # whether the wrapped one takes a step for this one

    def __init__(self, optimizer: Optimizer) -> None:  # not Optimizer's, which would make groups of its own
        self._begin({"optimizer": optimizer})

    def _begin(self, attributes: dict[str, Any]) -> None:
        """Take attributes over, and set up what `torch.optim.Optimizer` does when it is made or unpickled."""
        super().__setstate__(attributes)
        for name in OPTIMIZER_HOOKS:
            setattr(self, name, getattr(self.optimizer, name))

    def __getattr__(self, name: str) -> Any:
        """Look up what only the wrapped optimizer has."""
        if name == "optimizer":  # not there yet, while unpickling
            raise AttributeError(name)
        return getattr(self.optimizer, name)

    param_groups = _of_the_wrapped("param_groups")
    state = _of_the_wrapped("state")
    defaults = _of_the_wrapped("defaults")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset gradients, as the wrapped optimizer does."""
        self.optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the wrapped optimizer's state dict."""
        state: dict[str, Any] = self.optimizer.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict into the wrapped optimizer."""
        self.optimizer.load_state_dict(state_dict)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a param group to the wrapped optimizer."""
        self.optimizer.add_param_group(param_group)

    def _step_wrapped(self, closure: Callable[[], Any] | None) -> Any:
        """Take a step of the wrapped optimizer."""
        self.is_stepping = True
        try:
            return self.optimizer.step() if closure is None else self.optimizer.step(closure)
        finally:
            self.is_stepping = False

    def _watch_steps(self, message: str) -> RemovableHandle:
        """Warn once if the wrapped optimizer takes a step by itself."""
        wrapper = weakref.ref(self)
        has_warned = False

        def before(*_: Any) -> None:
            nonlocal has_warned
            alive = wrapper()
            if not has_warned and (alive is None or not alive.is_stepping):
                has_warned = True
                warn(message)

        handle: RemovableHandle = self.optimizer.register_step_pre_hook(before)
        return handle

    # A fused optimizer unscales gradients itself: torch.amp.GradScaler then sets grad_scale and found_inf on the
    # optimizer that it is given, calls its step even where that must do nothing, and deletes them.

    @contextmanager
    def _scaling_handed_on(self) -> Iterator[None]:
        """Hand what `torch.amp.GradScaler` set on to the wrapped optimizer for a while."""
        given = {name: vars(self)[name] for name in _FROM_SCALER if name in vars(self)}
        for name, value in given.items():
            setattr(self.optimizer, name, value)
        try:
            yield
        finally:
            for name in given:
                delattr(self.optimizer, name)

    def _from_scaler(self, name: str) -> Tensor | None:
        """Return the scale, or a positive number if this step will do nothing; None where there is no such scaler."""
        found: Tensor | None = vars(self).get(name)
        return found

    def _scaled(self, gradients: list[Tensor]) -> list[Tensor]:
        """Return gradients at the scale of those of the loss."""
        factor = self._from_scaler("grad_scale")
        return gradients if factor is None else [gradient * factor.to(gradient.device) for gradient in gradients]

    def _unless_skipped(self, step: Tensor) -> Tensor:
        """Return a change of a parameter, or nothing if the step does nothing."""
        skipped = self._from_scaler("found_inf")
        return step if skipped is None else torch.where(skipped.to(step.device) > 0, torch.zeros_like(step), step)
