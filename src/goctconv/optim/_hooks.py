"""Hooks that have an owner: they stay behind when their module is copied or pickled, and can be found again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


def idle_hook(*_: Any, **__: Any) -> None:
    """Do nothing: what a copy of a module holds where the original has an `OwnedHook`."""


def _make_idle() -> Callable[..., None]:
    return idle_hook


class OwnedHook:
    """A hook of the original alone: an EMA copy, a deep copy or an unpickled model holds `idle_hook` in its place."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self.function(*args, **keywords)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., None]:
        return idle_hook

    def __reduce__(self) -> tuple[Callable[[], Callable[..., None]], tuple[()]]:
        return _make_idle, ()


def remove_idle_hooks(model: nn.Module) -> None:
    """Take out what copying left of hooks."""
    for module in model.modules():
        for hooks, companions in (
            (module._forward_hooks, (module._forward_hooks_with_kwargs, module._forward_hooks_always_called)),
            (module._forward_pre_hooks, (module._forward_pre_hooks_with_kwargs,)),
        ):
            for key in [key for key, hook in hooks.items() if hook is idle_hook]:
                del hooks[key]
                for companion in companions:
                    companion.pop(key, None)
