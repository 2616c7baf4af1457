"""An optimizer around another one, with the same param groups and the same state."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from .._torch import OPTIMIZER_HOOKS, complete_hooks, drop_step_hooks, inner_optimizers
from ._checks import warn

_FROM_SCALER = ("grad_scale", "found_inf")


def _steps(optimizer: Optimizer, parameters: Collection[nn.Parameter]) -> bool:
    """Whether an optimizer itself, and none inside it, changes one of the parameters."""
    held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    return not inner_optimizers(optimizer) and not held.isdisjoint(parameters)


class _StepAlone:
    """Warns, once, of a step of an optimizer that the wrapper around it did not take, also if it is gone."""

    def __init__(self, wrapper: weakref.ref[OptimizerWrapper], message: str) -> None:
        self._wrapper, self._message = wrapper, message
        self._has_warned = False

    @property
    def is_orphaned(self) -> bool:
        """Whether the wrapper is gone."""
        return self._wrapper() is None

    def __call__(self, *_: Any) -> None:
        alive = self._wrapper()
        if not self._has_warned and (alive is None or not alive.is_stepping):
            self._has_warned = True
            warn(self._message)


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
    _has_warned = False

    def __init__(self, optimizer: Optimizer) -> None:  # not Optimizer's, which would make groups of its own
        self._begin({"optimizer": optimizer})

    def _begin(self, attributes: dict[str, Any]) -> None:
        """Take attributes over, and set up what `torch.optim.Optimizer` does when it is made or unpickled."""
        super().__setstate__(attributes)
        complete_hooks(self.optimizer)
        for name in OPTIMIZER_HOOKS:
            setattr(self, name, getattr(self.optimizer, name))

    def __getattr__(self, name: str) -> Any:
        """Look up what only the wrapped optimizer has."""
        if name in {"optimizer", "_joined"}:  # not there yet, while unpickling
            raise AttributeError(name)
        found = getattr(self.optimizer, name)
        is_step = name.endswith("step") and inspect.ismethod(found) and not self._joined
        return self._warning_of(found) if is_step else found

    def _warning_of(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method of the wrapped optimizer that warns, once, of going around `step`."""

        @functools.wraps(method)
        def called(*args: Any, **keywords: Any) -> Any:
            if not self._has_warned:
                self._has_warned = True
                text = "goes around step(), so no γ is decayed: call step(), with a closure if it needs one"
                warn(f"{method.__name__}() {text}")
            return method(*args, **keywords)

        return called

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

    def _watch_steps(self, parameters: Collection[nn.Parameter], message: str) -> list[RemovableHandle]:
        """Join steps that go around this one, as the two calls of SAM do, where the wrapped optimizer holds another.

        Where it holds none, warn once of its own steps.

        Args:
            parameters: Those whose steps matter.
            message: What to warn of.
        """
        wrapper = weakref.ref(self)
        begin, end = weakref.WeakMethod(self._begin_inner_step), weakref.WeakMethod(self._end_inner_step)

        def is_around() -> bool:
            alive = wrapper()
            return alive is not None and not alive.is_stepping

        def before(optimizer: Optimizer, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
            method = begin()
            return method(optimizer, args, keywords) if method is not None and is_around() else None

        def after(optimizer: Optimizer, *_: Any) -> None:
            method = end()
            if method is not None and is_around():
                method(optimizer)

        drop_step_hooks(self.optimizer, lambda hook: isinstance(hook, _StepAlone) and hook.is_orphaned)
        self._joined = [each for each in inner_optimizers(self.optimizer) if _steps(each, parameters)]
        handles = [each.register_step_pre_hook(before) for each in self._joined]
        handles += [each.register_step_post_hook(after) for each in self._joined]
        return handles or [self.optimizer.register_step_pre_hook(_StepAlone(wrapper, message))]

    def _begin_inner_step(self, optimizer: Optimizer, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Called before a step of an inner optimizer that goes around this one; returns other arguments, or None."""

    def _end_inner_step(self, optimizer: Optimizer) -> None:
        """Called behind it."""

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
