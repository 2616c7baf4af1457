"""Hooks that have an owner: a copy of the module does not inherit them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from .._torch import drop_forward_hooks


class OwnedHook:
    """A forward hook of one module alone: a deep copy or an unpickled model holds a function that does nothing.

    `drop_copied_hooks` removes that function too.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self.function(*args, **keywords)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        return idle_hook

    def __reduce__(self) -> tuple[Callable[[], Callable[..., None]], tuple[()]]:
        return _idle_hook, ()


def idle_hook(*_: Any, **__: Any) -> None:
    """Do nothing: what a copy of a module holds where the original has an `OwnedHook`."""


def _idle_hook() -> Callable[..., None]:
    return idle_hook


def drop_copied_hooks(model: nn.Module) -> None:
    """Remove from a copy of a model what is left of hooks that belong to the original."""
    for module in model.modules():
        drop_forward_hooks(module, lambda hook: hook is idle_hook)
